"""The demo from start to end, small: what it says at the end, a second run, and nothing left outside its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from afina.cli import main as cli

SMALL = (
    "train.max_steps=6",
    "train.evaluate_every=3",
    "compare.examples=9",
    "compare.max_new_tokens=24",
    "export.check_prompts=2",
)


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["es", "en"])
def test_the_demo_says_what_its_numbers_show_and_leaves_nothing_outside(
    lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "dónde sea"
    folder.mkdir()
    monkeypatch.chdir(folder)
    changes = [word for key in SMALL for word in ("--set", key)]
    assert cli.main(["demo", "--lang", lang, "--keep", "shop", *changes]) == 0
    first = capsys.readouterr()
    assert "right answers" in first.out
    assert first.out.count("shown") == 4
    assert "found in the data: examples.jsonl" in first.err
    assert "mistral-7b" in first.err
    assert {path.name for path in folder.iterdir()} == {"runs", "shop"}

    assert cli.main(["demo", "--lang", lang, *changes]) == 0
    assert capsys.readouterr().err.count("as before") >= 4
