"""The guide has a page on each check, in both languages, with the same four parts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from afina.data.clean.checks import checks

DOCS = Path(__file__).resolve().parents[3] / "docs"
PARTS = {
    "en": ("**What it does.**", "**Why it matters.**", "**Example.**", "**What to do.**"),
    "es": ("**Qué hace.**", "**Por qué importa.**", "**Ejemplo.**", "**Qué hacer.**"),
}


def sections(language: str) -> dict[str, str]:
    text = (DOCS / language / "checks.md").read_text(encoding="utf-8")
    parts = re.split(r"^## `([a-z-]+)`\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


@pytest.mark.parametrize("language", PARTS)
def test_every_check_has_its_section_and_no_section_is_left_over(language: str) -> None:
    assert list(sections(language)) == list(checks())


@pytest.mark.parametrize("language", PARTS)
def test_every_section_has_four_parts_and_names_its_switch(language: str) -> None:
    for name, text in sections(language).items():
        places = [text.find(part) for part in PARTS[language]]
        assert -1 not in places, name
        assert places == sorted(places), name
        check = checks()[name]
        for action in check.actions if len(check.actions) > 1 else ():
            assert f"`{action}`" in text or f"{name}: {action}" in text, (name, action)
        if len(check.actions) > 1:
            assert f"{name}: " in text, name
