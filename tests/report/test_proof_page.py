"""The page about a deployment's proof: every case with what came of it, nothing from outside, nothing by colour alone."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from afina.data.conversation import Message
from afina.export.proof import Question, checked_case, not_asked, parting
from afina.report.proof_page import Case, NearTie, ProofPage, draw
from afina.stages.proof_summary import page
from tests.report.reading import read

EVIL = "<script>alert(1)</script> & \x00"
TRAINED = "<|user|>\nHello  \n<|assistant|>\n"


def question(case: str, text: str = TRAINED) -> Question:
    return Question((Message("user", EVIL),), text, (1, 2, 3), case=case)


def record(**changes: Any) -> dict[str, Any]:
    """As deploy writes it to proof.json, and reads it again."""
    checked = [
        {**asdict(checked_case(question("held-out"), TRAINED, 3, None, same_tokens=True)), "difference": 0.0021},
        asdict(checked_case(question("one turn"), TRAINED, 3, None, same_tokens=True)),
        asdict(checked_case(question("outer blanks"), TRAINED.replace("Hello  ", "Hello"), 2, None, same_tokens=False)),
        asdict(checked_case(question("tools"), None, 3, None, same_tokens=True)),
        asdict(not_asked(question("system"), "Ollama refuses: no room")),
    ]
    proof = {
        "afina": "0.1",
        "name": "shop",
        "finished": "2026-01-01T10:00:00Z",
        "seconds": 3.4,
        "file": "shop-q4_k_m.gguf",
        "kind": "f16",
        "bytes": 3 * 2**20,
        "sha256": "ab" * 32,
        "export": {
            "worst_error": 0.0123,
            "compared": ["f16"],
            "prompts": 8,
            "tokens": 384,
            "near_ties": [
                {"type": "f16", "source": "a.jsonl:3", "position": 4, "torch": "red", "llama": "rojo", "margin": 0.0031}
            ],
            "early_ends": 0,
            "conversations": 64,
            "untidy": 1,
        },
        "context": 4096,
        "ended": True,
        "destination": "ollama",
        "model": "shop:latest",
        "version": "shop:v2",
        "previous": None,
        "text_compared": True,
        "question": "What does it cost? Write to ana@example.org",
        "answer": EVIL,
        "tokens_per_second": 812.4,
        "checked": checked,
        **changes,
    }
    read_again: dict[str, Any] = json.loads(json.dumps(proof))
    return read_again


@pytest.fixture(scope="module")
def shown() -> str:
    return draw(page(record()))


def test_every_case_stands_there_with_text_tokens_and_likelihood(shown: str) -> None:
    text = read(shown).text
    for known in (
        "one question", "blanks before and behind", "tools", "Ollama refuses: no room", "0.0021",
        "at most 0.01", "✓ the same", "✗ another one", "not told", "not asked", "from character 15 on", "384", "64", "1.23 %",
        "ab" * 32, "shop:v2", "812", "4,096", "rojo", "a.jsonl:3", "0.0031", "It ended by itself.",
        "Read otherwise than in training: blanks before and behind.",
    ):  # fmt: skip
        assert known in text, known


def test_a_speed_that_nobody_told_is_left_out() -> None:
    assert "tokens a second" in read(draw(page(record()))).text
    assert "tokens a second" not in read(draw(page(record(tokens_per_second=None)))).text


def test_where_the_text_parts_both_sides_are_marked_from_there_on(shown: str) -> None:
    assert "&lt;|user|&gt;⏎\nHello<mark>␣␣⏎\n&lt;|assistant|&gt;⏎\n</mark>" in shown
    assert "&lt;|user|&gt;⏎\nHello<mark>⏎\n&lt;|assistant|&gt;⏎\n</mark>" in shown


def test_the_page_needs_nothing_from_outside_runs_nothing_and_masks_personal_data(shown: str) -> None:
    found = read(shown)
    assert not found.all("script") + found.all("link") + found.all("img") + found.all("iframe")
    assert all((link["href"] or "").startswith("#") for link in found.all("a"))
    assert "ana@example.org" not in shown
    ids = [attributes["id"] for _tag, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{name}" for name in ids} >= {link["href"] for link in found.all("a")}


def test_a_model_that_does_not_end_is_told_at_the_top_and_below_its_answer() -> None:
    text = read(draw(page(record(ended=False)))).text
    assert "its answers did not end by themselves" in text
    assert "train longer" in text


def test_a_proof_without_differences_hard_cases_or_near_ties_has_no_empty_tables() -> None:
    export = {**record()["export"], "near_ties": []}
    checked = record()["checked"][:1]
    found = read(draw(page(record(checked=checked, export=export))))
    assert "None was asked." in found.text
    assert "Where the text is another one" not in found.text
    assert "Near ties" not in found.text
    assert len(found.all("table")) == 1


def test_spanish_has_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFINA_LANG", "es")
    found = read(draw(page(record())))
    assert ("html", {"lang": "es"}) in found.tags
    for english in ("Held-out", "Hard cases", "the same", "not told", "It ended", "likelihood"):
        assert english not in found.text


def test_texts_part_at_their_first_other_character_or_at_the_end_of_the_shorter() -> None:
    asked = question("one turn", "abc")
    assert parting(asked, "abc", None) is None
    assert parting(question("one turn", "<s>abc"), "abc", "<s>") is None
    assert [found.place for got in ("abd", "ab", "abcd", "xbc") if (found := parting(asked, got, None))] == [2, 2, 3, 0]


def test_the_same_proof_gives_the_same_bytes(shown: str) -> None:
    assert draw(page(record())) == shown


def test_blanks_and_line_ends_are_seen() -> None:
    made = page(record())
    case = Case("x", "  a \n", True, 3, 3, same_tokens=True)
    bare = replace(made, held_out=(), hard=(case,), near_ties=(NearTie("f16", "a", 1, "a", "b", 0.1),))
    assert isinstance(bare, ProofPage)
    assert "␣␣a ⏎" in read(draw(bare)).text
