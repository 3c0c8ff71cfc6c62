"""How many examples are enough."""

from __future__ import annotations

FEWEST, FEW = 50, 100  # below which it is no use, and below which it seldom is
GOOD, MANY = 200, 500  # where a style or a form is usually learned
