"""`afina advise` as a person and as a program call it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from afina.cli import main as cli
from afina.core.hardware import Memory
from afina.core.units import GIB
from afina.data.pack import planned_steps
from afina.data.store import load_rows
from afina.recipe.recipe import Train

NAMES = "clavos tornillos martillos sierras pinturas brochas cintas cables bombillas taladros".split()


class Terminal(io.StringIO):
    """Standard input of somebody who types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": f"¿Qué valen {number} {NAMES[number % 10]}?", "completion": f"Valen {number},50 €. ¡Hasta luego, vecino!"}
        for number in range(120)
    ]
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "faq.jsonl").write_text("".join(lines), encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text("name: tienda\ndata:\n  examples: [faq.jsonl]\n", encoding="utf-8")
    return path


def test_the_verdict_comes_first_and_its_reasons_name_rows(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["advise", str(recipe)]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "Fine-tune: the answers have a form of their own, and little in them has to be looked up."
    assert "  - 100 % of the answers end with “valen ‹n› € hasta luego vecino” (‹n›: any number)" in lines
    assert "      faq.jsonl:1  ¿Qué valen 0 clavos? → Valen 0,50 €. ¡Hasta luego, vecino!" in lines
    assert "  - if the facts change often → fine-tune for the form, and RAG for the facts" in lines
    assert any("not answered yet: How often" in line for line in lines)
    assert told.err.endswith(f"next: afina compare --pilot {recipe}\n")


def test_the_recipe_answers_what_data_cannot_tell(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def verdict(*settings: str) -> str:
        assert cli.main(["advise", str(recipe), "--json", *(part for one in settings for part in ("--set", one))]) == 0
        return str(json.loads(capsys.readouterr().out)["verdict"])

    assert verdict() == "tune"
    assert verdict("advise.facts_change=often") == "tune-and-rag"
    assert verdict("advise.facts_change=never") == "tune"
    assert verdict("advise.prompt_budget=long") == "tune"
    assert verdict("advise.prompt_budget=long", "advise.runs_on=anywhere") == "prompt"


def test_json_holds_the_record_with_its_sentences(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["advise", str(recipe), "--json", "--set", "advise.runs_on=own"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["good"], record["prepared"], record["next"]) == (120, False, f"afina compare --pilot {recipe}")
    price = next(reason for reason in record["reasons"] if reason["name"] == "price")
    assert price["speaks"] == "rag"
    assert price["text"].startswith("100 % of the answers carry prices")
    assert price["figure"]["rows"][0]["place"].endswith("faq.jsonl:1")
    assert record["counted"]["price"] == 120
    assert record["answers"] == {"facts_change": "unknown", "prompt_budget": "unknown", "runs_on": "own"}
    assert any(reason["name"] == "runs_on=own" for reason in record["reasons"])


def test_questions_are_asked_in_a_terminal_and_only_those_left_open(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("3\n9\n"))
    assert cli.main(["advise", str(recipe), "--set", "advise.runs_on=own"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("Fine-tune for the form, and look the facts up (RAG).")
    assert "you say that the facts change often" in told.out
    assert told.err.count("left open") == 1
    assert "'9' is none of these; left open" in told.err
    assert "Where must the model run?" not in told.err
    monkeypatch.setattr("sys.stdin", Terminal("3\n3\n3\n"))
    assert cli.main(["advise", str(recipe), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"]["facts_change"] == "unknown"


def test_too_few_examples_end_with_writing_more(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (recipe.parent / "faq.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    (recipe.parent / "faq.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert cli.main(["advise", str(recipe)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("Not yet: 40 good examples are too few.")
    assert "with 100 good examples of this kind → fine-tune" in told.out
    assert told.err.endswith(f"next: write more examples, then: afina advise {recipe}\n")


def test_what_a_training_needs_is_estimated_from_texts_and_better_from_tokens(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def needs(*settings: str) -> dict[str, float]:
        more = [part for one in settings for part in ("--set", one)]
        assert cli.main(["advise", str(recipe), "--json", *more]) == 0
        return dict(json.loads(capsys.readouterr().out)["needs"])

    texts = needs()
    assert texts["needed_bytes"] >= texts["least_bytes"] > 0
    assert texts["pilot_steps"] <= texts["steps"]
    assert (texts["steps"], needs("train.max_steps=2")["steps"]) == (3, 2)
    assert needs("base=qwen3-8b")["least_bytes"] > 10 * texts["needed_bytes"]
    assert cli.main(["prepare", str(recipe)]) == 0
    capsys.readouterr()
    tokens = needs()
    assert (texts["is_tokenized"], tokens["is_tokenized"]) == (False, True)
    assert tokens["steps"] == len(planned_steps(load_rows(recipe.parent / "runs" / "tienda" / "prepare", "train"), Train()))


def test_a_base_that_does_not_fit_is_told_and_of_one_that_is_not_here_nothing(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afina.core.hardware.gpus", list)
    monkeypatch.setattr("afina.core.hardware.memory", lambda: Memory(12 * GIB, 12 * GIB))
    assert cli.main(["advise", str(recipe), "--set", "base=gemma-2-9b"]) == 0
    assert "Training this base hardly fits here" in capsys.readouterr().out
    assert cli.main(["advise", str(recipe), "--set", "base=qwen3-8b", "--set", "adapter.quantize=nf4"]) == 0
    assert "to 12.0 GiB of memory" in capsys.readouterr().out
    assert cli.main(["advise", str(recipe), "--set", "base=nobody/nothing"]) == 0
    assert "What the training needs is known after: afina prepare, then afina plan." in capsys.readouterr().out


def test_an_empty_file_is_an_error_of_the_data(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe.parent / "faq.jsonl").write_text("", encoding="utf-8")
    assert cli.main(["advise", str(recipe)]) == 3
    assert "faq.jsonl" in capsys.readouterr().err


def test_every_verdict_and_figure_has_its_words_in_spanish(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFINA_LANG", "es")
    assert cli.main(["advise", str(recipe)]) == 0
    assert capsys.readouterr().out.startswith("Conviene afinar:")
