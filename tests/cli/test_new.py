"""`afina new --example`: the demo's shop in a folder of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from afina.cli import main as cli
from afina.recipe.recipe import Recipe


def test_the_example_is_copied_whole_and_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "mi-tienda", "--example", "es"]) == 0
    recipe = Recipe.load(tmp_path / "mi-tienda" / "recipe.yaml")
    assert (recipe.name, recipe.base) == ("mi-tienda", "tiny"), "a run of its own, and not the demo's"
    assert len(list((tmp_path / "mi-tienda" / "documents").glob("*.md"))) == 30
    assert (tmp_path / "mi-tienda" / "questions.jsonl").is_file()


def test_a_folder_that_is_there_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    assert cli.main(["new", "shop", "--example", "en"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert not list((tmp_path / "shop").iterdir())
