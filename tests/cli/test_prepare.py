"""`afina prepare` as it is typed: what it prints where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afina.cli import main as cli
from tests.fakes.models import write_model

MAIL, CARD, KEY = "ana.garcia@ferro.es", "4539 1488 0343 6467", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


def write_recipe(folder: Path, base: Path, count: int = 60, data: str = "") -> Path:
    """A recipe over ``count`` rows; the first three hold an e-mail address, a card and a key."""
    rows = [{"prompt": f"What costs article {n}?", "completion": f"It is {n * 7919 % 1009} euros."} for n in range(count)]
    for row, word in zip(rows, (MAIL, CARD, KEY), strict=False):
        row["prompt"] += f" Write {word} down."
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(f"name: shop\nbase: {base}\ndata:\n  examples: [examples.jsonl]\n{data}")
    return path


def afina(folder: Path, *arguments: str) -> int:
    return cli.main(["prepare", str(folder / "recipe.yaml"), "--runs", str(folder / "runs"), *arguments])


def test_show_prints_the_rows_with_what_is_learned_in_brackets(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(tmp_path, base)
    assert afina(tmp_path, "--show", "2") == 0
    told = capsys.readouterr()
    places = [line for line in told.out.splitlines() if line.startswith("── ")]
    assert len(places) == 2
    assert all(line.startswith(f"── {tmp_path / 'examples.jsonl'}:") for line in places)
    assert told.out.count("⟦It is ") == told.out.count("euros.<|im_end|>⟧") == 2
    assert "<|im_start|>user\nWhat costs article" in told.out
    assert "\x1b[" not in told.out  # a pipe gets plain lines
    assert "⟦" not in told.err
    assert "next: afina train shop --runs" in told.err
    assert afina(tmp_path, "--show", "1") == 0  # nothing is done again, and the rows are shown
    again = capsys.readouterr()
    assert again.out.count("⟦") == 1
    assert "nothing changed" in again.err


def test_nobody_is_named_on_the_terminal_or_among_the_events(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(tmp_path, base, data="  split: {val: 0, test: 0.05}\n")
    assert afina(tmp_path, "--show", "60") == 0
    told = capsys.readouterr()
    assert told.out.count("⟦") == 57
    events = (tmp_path / "runs" / "shop" / "events.jsonl").read_text(encoding="utf-8")
    assert not [word for word in (MAIL, CARD, KEY) for text in (told.out, told.err, events) if word in text]
    assert "card-number: 1 ×" in told.err
    assert f"{tmp_path / 'examples.jsonl'}:2" in told.err


def test_json_is_alone_on_standard_output(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(tmp_path, base)
    assert afina(tmp_path, "--json", "--show", "2") == 0
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert result["conversations"] == {"train": 48, "val": 6, "test": 6}
    assert result["worked"] == 60
    assert (result["dropped"], result["changed"], result["chunks"]) == ({}, 0, 0)
    assert Path(result["page"]).is_file()
    assert told.err.count("⟦") == 2


def test_few_examples_end_with_3_and_force_goes_on(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(tmp_path, base, 30)
    assert afina(tmp_path) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "error: 30 examples are left, fewer than 50" in told.err
    assert "--force" in told.err
    assert afina(tmp_path, "--json") == 3
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 3
    assert afina(tmp_path, "--force") == 0
    assert "30 good examples: too few to learn from" in capsys.readouterr().err
    assert cli.main(["prepare", "shop", "--runs", str(tmp_path / "runs")]) == 0  # the run remembers that it was forced


def test_force_does_not_undo_other_checks_of_the_recipe(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(tmp_path, base, 30, "  checks: {card-number: drop, few-examples: stop}\n")
    assert afina(tmp_path, "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == {"card-number": 1}


def test_an_unknown_check_ends_with_2_and_a_guess(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(tmp_path, base, data="  checks: {refusals: drop}\n")
    assert afina(tmp_path) == 2
    assert "there is no check 'refusals'; did you mean 'refusal'?" in capsys.readouterr().err


def test_broken_rows_end_with_3_and_are_named_one_a_line(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(tmp_path, base)
    with (tmp_path / "examples.jsonl").open("a") as file:
        file.writelines('{"prompt": "a"\n' for _nth in range(20))
    assert afina(tmp_path) == 3
    lines = capsys.readouterr().err.splitlines()
    assert "  20 of 80 rows cannot be used (25 %; data.max_broken allows 5 %)" in lines
    assert [line.strip().partition(": ")[0] for line in lines if "(broken-row)" in line] == [
        f"{tmp_path / 'examples.jsonl'}:{number}" for number in range(61, 66)
    ]
    assert lines[-1].endswith("--set data.max_broken=0.25")
    assert afina(tmp_path, "--set", "data.max_broken=0.25") == 0
    assert "broken-row: 20 × the row cannot be read (left out)" in capsys.readouterr().err


def test_show_of_a_run_that_stops_prints_no_row(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(tmp_path, base, 30)
    assert afina(tmp_path, "--show", "2") == 3
    assert "⟦" not in capsys.readouterr().out
