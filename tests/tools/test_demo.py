"""The demo's world: what the package ships is what the generator writes, and no example says what a document says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from afina.recipe.recipe import Recipe
from tools.demo.facts import DOCUMENTS
from tools.demo.generate import HELD_OUT, PATTERN, write

SHOP = Path(__file__).parents[2] / "src" / "afina" / "recipe" / "presets" / "shop"


def _rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_shipped_world_is_what_the_generator_writes(tmp_path: Path) -> None:
    write(tmp_path, seed=7)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    shipped = sorted(path.relative_to(SHOP) for path in SHOP.rglob("*") if path.is_file() and path.name != "recipe.yaml")
    assert written == shipped
    for path in written:
        assert (tmp_path / path).read_text(encoding="utf-8") == (SHOP / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", ["es", "en"])
def test_no_example_says_what_a_document_says(lang: str) -> None:
    text = (SHOP / lang / "examples.jsonl").read_text(encoding="utf-8")
    assert len(DOCUMENTS[lang]) >= 30
    for document in DOCUMENTS[lang]:
        for fact in document.facts:
            assert fact.sentence not in text
            assert fact.value in fact.sentence


@pytest.mark.parametrize("lang", ["es", "en"])
def test_questions_are_of_three_kinds_and_hold_their_value(lang: str) -> None:
    rows = _rows(SHOP / lang / "questions.jsonl")
    assert {kind: sum(row["kind"] == kind for row in rows) for kind in HELD_OUT} == HELD_OUT
    examples = (SHOP / lang / "examples.jsonl").read_text(encoding="utf-8")
    for row in rows:
        question, answer = (str(message["content"]) for message in row["messages"])  # type: ignore[attr-defined]
        assert re.fullmatch(PATTERN, answer, re.DOTALL)
        assert row.get("value", "") in answer  # type: ignore[operator]
        assert json.dumps(question, ensure_ascii=False) not in examples


@pytest.mark.parametrize("lang", ["es", "en"])
def test_the_recipe_knows_the_house_style(lang: str) -> None:
    recipe = Recipe.load(SHOP / lang / "recipe.yaml")
    assert recipe.compare.pattern is not None
    for row in _rows(SHOP / lang / "examples.jsonl"):
        answer = row["messages"][-1]["content"]  # type: ignore[index]
        assert re.fullmatch(recipe.compare.pattern, answer, re.DOTALL)
