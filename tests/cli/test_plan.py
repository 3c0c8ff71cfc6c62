"""`afina plan`, run for real on small shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afina.cli import main as cli
from afina.model.load import torch_threads
from tests.fakes.models import write_model


def test_a_folder_with_a_config_alone_is_planned_for_a_named_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_model(tmp_path / "base") / "config.json"
    (tmp_path / "shape").mkdir()
    (tmp_path / "shape" / "config.json").write_text(config.read_text())
    command = ["plan", "--base", str(tmp_path / "shape"), "--gpu", "8GiB", "--tokens", "64"]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"fits", "peak_bytes", "by_category", "max_context_tokens", "choices", "seconds_per_step"}
    assert wanted <= set(found)
    assert found["fits"] is True
    assert found["peak_bytes"] == sum(found["by_category"].values())
    assert (
        found["max_context_tokens"] == found["base_context_tokens"] == json.loads(config.read_text())["max_position_embeddings"]
    )
    assert found["steps"] is None
    assert cli.main(command) == 0
    assert capsys.readouterr().out.startswith("needs ")


@pytest.mark.parametrize(
    ("threads", "tokens", "lanes"), [(1, 4096, 1), (2, 4096, 2), (2, 1024, 1)], ids=["one core", "two cores", "small steps"]
)
def test_a_cpu_with_several_cores_is_planned_for_micro_batches_side_by_side(
    threads: int, tokens: int, lanes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", "--base", "tiny", "--cpu", "--tokens", "64", "--set", f"train.batch_tokens={tokens}"]
    with torch_threads(threads):
        assert cli.main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["choices"]["lanes"] == lanes
        assert cli.main(command) == 0
    assert ("side by side" in capsys.readouterr().out) is (lanes > 1)


def test_no_longer_context_is_told_than_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_model(tmp_path / "base", max_position_embeddings=10_000_000) / "config.json"
    assert cli.main(["plan", "--base", str(config.parent), "--gpu", "1300MiB", "--tokens", "64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1_000 < found["max_context_tokens"] < found["base_context_tokens"]


def test_the_steps_of_prepared_rows_are_told_with_their_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"How much is {number} and one?", "completion": f"It is {number + 1}."} for number in range(80)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: sums\nbase: tiny\ndata: {examples: [rows.jsonl]}\ntrain: {max_steps: 2}\n")
    where = ["--runs", str(tmp_path / "runs")]
    assert cli.main(["prepare", str(recipe), *where]) == 0
    capsys.readouterr()
    assert cli.main(["plan", str(recipe), "--gpu", "8GiB", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert cli.main(["plan", str(recipe), "--gpu", "8GiB", *where]) == 0
    assert "2 steps of " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, "has no config.json"),
        ("{", "is not JSON"),
        ('{"hidden_size": 64}', "names no architecture"),
        ('{"model_type": "lama"}', "did you mean 'llama'"),
        ('{"model_type": "vit"}', "no causal language model"),
    ],
)
def test_a_folder_that_is_no_base_is_refused(
    config: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert cli.main(["plan", "--base", str(tmp_path), "--gpu", "8GiB"]) == 3
    assert told in capsys.readouterr().err


def test_a_shape_that_does_not_exist_and_a_missing_target_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--base", "llama-3.1-8"]) == 3
    assert "did you mean 'llama-3.1-8b'" in capsys.readouterr().err
    assert cli.main(["plan"]) == 2
    assert "either a recipe or --base" in capsys.readouterr().err


def test_a_training_of_all_weights_is_planned_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--base", "tiny", "--tokens", "128", "--set", "adapter.method=full", "--gpu", "8GiB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    trained = found["by_category"]["trained weights"]
    assert found["disk_bytes"] == 5 * trained
    assert found["by_category"]["optimizer"] >= 2 * trained


def test_merging_is_planned_too_with_more_where_weights_go_through_nf4(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for quantize in ("none", "nf4"):
        command = ["plan", "--base", "tiny", "--tokens", "64", "--gpu", "8GiB", "--set", f"adapter.quantize={quantize}"]
        assert cli.main([*command, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["merge_bytes"])
    assert 0 < found[0] < found[1]


def test_what_does_not_fit_ends_with_4_and_says_what_would_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(tmp_path / "base")
    assert cli.main(["plan", "--base", str(folder), "--gpu", "601MiB", "--tokens", "64"]) == 4
    told = capsys.readouterr().out
    assert "it does not fit" in told
    assert "try one of: " in told
    assert "a smaller base" in told
