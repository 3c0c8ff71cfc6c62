"""Numbers as people read them, in their language."""

from __future__ import annotations

from afina.core.translation import language

KIB, MIB, GIB = 2**10, 2**20, 2**30


class Displayed(float):
    """A number that is read and not typed: ``{loss:.3f}`` shows it with the decimal comma where the language has one."""

    def __format__(self, form: str) -> str:
        return _apart(super().__format__(form))


def format_bytes(count: int) -> str:
    """``15.6 GiB``, ``980 KiB``, ``12 B``."""
    for size, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= size:
            value = Displayed(count / size)
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{count} B"


def format_duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{Displayed(seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_count(count: int) -> str:
    """``950``, ``12,400``, ``5.8 M``, ``7.2 G`` (for parameters and tokens)."""
    for size, unit in ((10**9, "G"), (10**6, "M")):
        if count >= size:
            return f"{Displayed(count / size):.1f} {unit}"
    return grouped(count)


def grouped(number: float) -> str:
    """A whole number, its thousands apart: ``12,400``; in Spanish ``12 400`` and ``2400``: a comma begins decimals there."""
    return f"{Displayed(number):,.0f}"


def grouped_exactly(number: float) -> str:
    """The same of a number with decimals: ``0.5``, ``12,400.5``."""
    return f"{Displayed(number):,.10g}"


def _apart(text: str) -> str:
    if language() != "es":
        return text
    few = len(text.partition(".")[0].lstrip("-")) <= len("9,999")
    return text.replace(",", "" if few else "\N{NARROW NO-BREAK SPACE}").replace(".", ",")


def format_share(share: float) -> str:
    """``97 %``; ``0 %`` and ``100 %`` only where it is none or all, else with a decimal (``99.7 %``)."""
    percent = 100 * share
    exact = percent in (0, 100) or 0.5 <= abs(percent) < 99.5
    return f"{Displayed(percent):.{0 if exact else 1}f} %"
