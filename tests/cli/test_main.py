"""The command line: exit codes, words, and what is printed where."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from afina.cli import main as cli
from afina.core.run import RunFolder
from afina.recipe.recipe import Recipe


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = "import sys; from afina.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'xllamacpp'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    for command in cli.COMMANDS:
        assert f"    {command.NAME} " in done.stdout


def test_advice_loads_neither_torch_nor_transformers(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"prompt": f"{n} + 1?", "completion": f"It is {n + 1}."}) + "\n" for n in range(120))
    (tmp_path / "a.jsonl").write_text(rows, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(f"name: x\ndata: {{examples: ['{tmp_path / 'a.jsonl'}']}}\n", encoding="utf-8")
    code = f"import sys; from afina.cli.main import main; code = main(['advise', {str(tmp_path / 'recipe.yaml')!r}])\n"
    code += "heavy = {'torch', 'transformers', 'huggingface_hub', 'scipy', 'xllamacpp'} & set(sys.modules)\n"
    code += "assert not code and not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "A pilot (afina compare --pilot) trains about" in done.stdout


def test_a_recipe_with_mistakes_ends_with_2_and_all_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata: {exampels: [a]}\ntrain: {epochs: many, sed: 1}\n")
    assert cli.main(["run", str(path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        "error:\n"
        f"  {path}:2: the key 'data.examples' is missing\n"
        f"  {path}:2: unknown key 'data.exampels'; did you mean 'examples'?\n"
        f"  {path}:3: train.epochs is 'many'; it should be a number\n"
        f"  {path}:3: unknown key 'train.sed'; did you mean 'seed'?\n"
        "what to do: correct the 4 lines named above\n"
    )


def test_an_error_is_data_with_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "nothing", "--json", "--runs", str(tmp_path)]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "RecipeError"
    assert error["exit_code"] == 2
    assert "neither a recipe file nor a run named nothing" in error["what"]


def test_a_run_that_is_misspelt_is_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "soporte").mkdir()
    (tmp_path / "soporte" / "recipe.yaml").write_text("name: soporte\ndata: {examples: [a]}\n")
    assert cli.main(["train", "soprte", "--runs", str(tmp_path)]) == 2
    assert "did you mean 'soporte'?" in capsys.readouterr().err


def test_a_file_of_examples_that_is_not_there_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata: {examples: [none.jsonl]}\n")
    assert cli.main(["run", str(path), "--runs", str(tmp_path)]) == 3
    assert "none.jsonl" in capsys.readouterr().err


def test_a_stage_before_its_time_says_which_one_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata: {examples: [none.jsonl]}\n")
    assert cli.main(["train", str(path), "--runs", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "no finished stage 'prepare'" in told
    assert "what to do: afina prepare x" in told


def test_too_little_disk_is_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata: {examples: [a.jsonl]}\n")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(total=10**9, used=10**9, free=1000))
    assert cli.main(["run", str(path), "--runs", str(tmp_path)]) == 4
    told = capsys.readouterr().err
    assert "1000 B are free" in told
    assert not (tmp_path / "x" / "prepare").exists()


def test_two_runs_of_one_name_at_once_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata: {examples: [a.jsonl]}\n")
    with RunFolder(tmp_path / "x").locked():
        assert cli.main(["prepare", str(path), "--runs", str(tmp_path)]) == 4
    assert "the run x is already being worked on" in capsys.readouterr().err


def test_an_unknown_flag_ends_with_2_like_all_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "x", "--fast"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: unrecognized arguments: --fast")
    assert "what to do: see: afina" in told


def test_a_misspelt_word_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    for words, meant, command in (
        (["preprae"], "; did you mean 'prepare'?", "afina --help"),
        (["prepare", "x", "--shwo", "3"], "; did you mean '--show'?", "afina prepare --help"),
        (["new", "x", "--example", "fr"], "; here one can write: es, en", "afina new --help"),
    ):
        assert cli.main(words) == 2
        told = capsys.readouterr().err
        assert meant in told
        assert f"what to do: see: {command}" in told


def test_argparse_speaks_spanish_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFINA_LANG", "es")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    told = capsys.readouterr().out
    assert told.startswith("uso: afina train")
    assert "muestra esta ayuda y termina" in told
    for words, what in (
        (["new"], "faltan argumentos: name"),
        (["prepare", "x", "--show", "y"], "--show es 'y'; debería ser un número entero"),
        (["prepare", "x", "--set"], "--set necesita un valor"),
        (["prepare", "x", "--fast"], "argumentos desconocidos: --fast"),
    ):
        assert cli.main(words) == 2
        assert what in capsys.readouterr().err


def test_examples_in_the_place_of_a_recipe_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n')
    assert cli.main(["prepare", str(path)]) == 2
    told = capsys.readouterr().err
    assert "holds examples, and a recipe is wanted here" in told
    assert f"afina new my-model '{path}'" in told


def test_a_place_for_runs_that_cannot_be_written_is_no_bug(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\ndata: {examples: [a.jsonl]}\n")
    assert cli.main(["prepare", str(path), "--runs", str(tmp_path / "a.jsonl")]) == 4
    assert "nothing can be written into" in capsys.readouterr().err


def test_a_bug_of_ours_is_one_line_with_the_saved_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_args: object) -> int:
        raise ZeroDivisionError("secret sauce")

    monkeypatch.setattr("afina.cli.doctor.run", broken)
    assert cli.main(["doctor"]) == 70
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "ZeroDivisionError: secret sauce" in told
    saved = Path(told.split(" with ")[-1].strip())
    assert "broken" in saved.read_text()
    saved.unlink()


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "Read-only file system")])
def test_a_full_or_read_only_disk_is_no_bug(
    number: int, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pins a `prepare` on a full disk, where pyarrow's error came out as a bug of ours."""

    def refused(_args: object) -> int:
        raise OSError(number, os.strerror(number), "/some/rows.arrow")

    monkeypatch.setattr("afina.cli.doctor.run", refused)
    assert cli.main(["doctor"]) == 4
    assert f"error: /some/rows.arrow: {told}\n" in capsys.readouterr().err


def test_new_writes_a_recipe_that_runs_and_never_over_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "soporte", "rows.csv"]) == 0
    assert "next: afina prepare recipe.yaml" in capsys.readouterr().err
    assert cli.main(["new", "soporte"]) == 2
    assert "recipe.yaml is there already" in capsys.readouterr().err
    assert cli.main(["new", "Sopórte", "--output", "other.yaml"]) == 2
    assert cli.main(["prepare", "recipe.yaml"]) == 3
    assert "rows.csv" in capsys.readouterr().err


def test_new_names_the_examples_as_seen_from_the_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert cli.main(["new", "soporte", "rows.jsonl", "none.csv", "--output", "the recipes/recipe.yaml"]) == 0
    told = capsys.readouterr().err
    assert "none.csv is not there yet" in told
    assert "rows.jsonl is not there" not in told
    assert "next: afina prepare 'the recipes/recipe.yaml'" in told
    written = Recipe.load(tmp_path / "the recipes" / "recipe.yaml", ())
    assert Path(str(written.data.examples[0])).resolve() == tmp_path / "rows.jsonl"


def test_ctrl_c_that_native_code_turned_into_another_error_is_no_bug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pins what numpy.fromfile made of a signal in the middle of an export."""

    def hit(_args: object) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as cause:
            raise SystemError("returned a result with an exception set") from cause

    monkeypatch.setattr("afina.cli.doctor.run", hit)
    assert cli.main(["doctor"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
