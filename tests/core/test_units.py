from __future__ import annotations

import pytest

from afina.core.units import (
    GIB,
    KIB,
    MIB,
    Displayed,
    format_bytes,
    format_count,
    format_duration,
    format_share,
    grouped,
    grouped_exactly,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (KIB, "1.0 KiB"), (980 * KIB, "980 KiB"), (15.6 * GIB, "15.6 GiB"), (200 * MIB, "200 MiB")],
)
def test_bytes(count: float, text: str) -> None:
    assert format_bytes(int(count)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(950, "950"), (12_400, "12,400"), (5_800_000, "5.8 M"), (7_200_000_000, "7.2 G")])
def test_count(count: int, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize(("share", "text"), [(0.0, "0 %"), (1.0, "100 %"), (0.97, "97 %"), (0.997, "99.7 %"), (0.002, "0.2 %")])
def test_a_share_is_all_or_none_only_where_it_is(share: float, text: str) -> None:
    assert format_share(share) == text


def test_thousands_stand_apart_as_the_language_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins that 2,255 examples read as two and a quarter in Spanish."""
    assert (grouped(2255), grouped(-1_234_567), grouped_exactly(12_400.5)) == ("2,255", "-1,234,567", "12,400.5")
    monkeypatch.setenv("AFINA_LANG", "es")
    assert (grouped(2255), grouped(999), format_count(9999)) == ("2255", "999", "9999")
    assert (grouped(106_173), grouped(-1_234_567)) == ("106\u202f173", "-1\u202f234\u202f567")
    assert (grouped_exactly(0.5), grouped_exactly(2400.5), grouped_exactly(12_400.5)) == ("0,5", "2400,5", "12\u202f400,5")
    assert (format_bytes(1536), format_duration(0.84), format_count(5_800_000)) == ("1,5 KiB", "0,8 s", "5,8 M")
    assert (format_share(0.997), f"{Displayed(-2.3714):+.3f}", f"{Displayed(1234):.0f}") == ("99,7 %", "-2,371", "1234")
    assert str(Displayed(0.5)) == repr(Displayed(0.5)) == "0.5"
