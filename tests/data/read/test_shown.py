from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.data.read.shown import shown_number, shown_time

ACCOUNTING = '_-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-;_-* "-"??\\ "€"_-;_-@_-'
MOMENT = datetime.fromisoformat("2024-01-31 18:05:09")


@pytest.mark.parametrize(
    ("number", "form", "shown"),
    [
        (3.0, "General", "3"),
        (0.1 + 0.2, "General", "0.3"),
        (34600123456, "General", "34600123456"),
        (1.5, "0.##", "1.5"),
        (1234.5, "#,##0.00", "1,234.50"),
        (1234.5, '"€"#,##0', "€1,235"),
        (1234.5, "[$€-C0A] #,##0.00", "€ 1,234.50"),
        (-1234.5, ACCOUNTING, "-1,234.50 €"),
        (-5, "0.00;(0.00)", "(5.00)"),
        (-5, "0.00", "-5.00"),
        (0, '0;-0;"none"', "none"),
        (0.256, "0.0%", "25.6%"),
        (7, "000", "007"),
        (1_500_000, '0.0,,"M"', "1.5M"),
        (12, "@", "12"),
        (0.5, "# ?/?", "0.5"),
        (1e300, "0.00", "1e+300"),
    ],
)
def test_numbers_are_shown_by_their_format(number: float, form: str, shown: str) -> None:
    assert shown_number(number, form) == shown


@pytest.mark.parametrize(
    ("moment", "form", "shown"),
    [
        (MOMENT, "dd/mm/yyyy", "31/01/2024"),
        (MOMENT, "[$-C0A]d/m/yy h:mm;@", "31/1/24 18:05"),
        (MOMENT, "yyyy\\-mm\\-dd\\ hh:mm:ss", "2024-01-31 18:05:09"),
        (MOMENT, "mm-dd-yy", "2024-01-31 18:05:09"),
        (datetime.fromisoformat("2024-01-31"), 'd" de "mmmm', "2024-01-31"),
        (date(2024, 1, 31), "General", "2024-01-31"),
        (time(18, 30), "h:mm AM/PM", "6:30 PM"),
        (time(8, 30), "General", "08:30"),
        (timedelta(hours=30, seconds=5), "[h]:mm:ss", "30:00:05"),
    ],
)
def test_dates_and_times_are_shown_by_their_format_or_as_iso(
    moment: datetime | date | time | timedelta, form: str, shown: str
) -> None:
    assert shown_time(moment, form) == shown


@given(
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(), st.text(alphabet='#0?,.;%E"€\\-_* []@/dmyhs', max_size=12)
)
def test_any_format_shows_something(number: float, form: str) -> None:
    assert shown_number(number, form) or form
    assert isinstance(shown_time(MOMENT, form), str)
