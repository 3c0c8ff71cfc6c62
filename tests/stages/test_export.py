"""The export stage on a prepared run with an adapter: what it leaves, what it refuses, what it does again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
import torch

from afina.core import hardware
from afina.core.errors import DataError, QualityError, RecipeError, ResourceError
from afina.core.events import Event, Events, Notice, Progress, StageSkipped
from afina.core.run import RunFolder
from afina.data.conversation import Message
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export.check import check_numbers
from afina.export.gguf import FilePlan, write_gguf
from afina.export.rungs import Rung
from afina.infer.llama import LlamaServer
from afina.measure.intervals import Interval
from afina.model.base import open_folder, resolve_base
from afina.model.load import load_model
from afina.model.merge import MergedWeights
from afina.model.streamed import StreamedModel
from afina.model.weights import Checkpoint
from afina.recipe.kinds import Kind
from afina.recipe.recipe import Recipe
from afina.stages import export as stage
from afina.stages.export import bytes_needed, export
from afina.stages.ladder import Quantize, Subject
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.chain import SENTENCE, write_chain_model
from tests.fakes.models import write_model
from tests.fakes.trained_run import make_trained_run

Make = Callable[..., tuple[Recipe, RunFolder]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe and the folder of a trained run of it, around a model that says one sentence and ends."""
    folder = tmp_path_factory.mktemp("trained")
    recipe, run = make_trained_run(folder, write_chain_model(folder / "base"))
    return recipe, run.root


@pytest.fixture
def make(trained: tuple[Recipe, Path], tmp_path: Path) -> Make:
    """The trained run, copied so that a test may do with it what it likes; arguments are settings of ``export``."""

    def copy(**settings: Any) -> tuple[Recipe, RunFolder]:
        recipe, root = trained
        shutil.copytree(root, tmp_path / "runs" / "shop")
        changed = recipe.export.model_copy(update=settings)
        return recipe.model_copy(update={"export": changed}), RunFolder(tmp_path / "runs" / "shop")

    return copy


def names_in(run: RunFolder) -> list[str]:
    return sorted(path.name for path in run.stage("export").iterdir())


def exported(recipe: Recipe, run: RunFolder) -> tuple[stage.ExportResult, list[Event]]:
    heard: list[Event] = []
    with Events(listeners=(heard.append,)) as events:
        return export(recipe, run, events), heard


def test_the_files_are_there_proved_and_answer_as_they_were_trained(make: Make) -> None:
    recipe, run = make()
    result, heard = exported(recipe, run)
    assert result.files == {kind: run.stage("export") / f"shop-{kind}.gguf" for kind in ("f16", "q8_0")}
    assert result.sizes == {kind: path.stat().st_size for kind, path in result.files.items()}
    assert result.compared == ["f16"]
    assert (result.prompts, result.near_ties, result.early_ends, result.untidy) == (3, [], 0, 0)
    assert result.tokens > 3 * 5
    assert result.ends == {"f16": True, "q8_0": True}
    assert 0 < result.worst_error["f16"] < 1e-3 < result.worst_error["q8_0"] < 1.5e-2
    assert names_in(run) == ["answers.jsonl", "manifest.json", "shop-f16.gguf", "shop-q8_0.gguf"]
    assert {event.task for event in heard if isinstance(event, Progress)} == {
        "shop-f16.gguf",
        "shop-q8_0.gguf",
        "shop-f16.gguf read again",
        "shop-q8_0.gguf read again",
        "torch's answers",
        "held-out examples",
        *(f"{who}: answers" for who in ("merged", "f16", "f16 base", "q8_0", "q8_0 base")),
    }
    with LlamaServer(result.files["q8_0"], context=256) as server:
        assert server.answer([Message("user", "Hello?")], 64).text == SENTENCE
    assert gguf.GGUFReader(result.files["f16"]).fields["general.name"].contents() == "shop"


def test_the_same_export_is_not_made_again_and_another_one_is(make: Make) -> None:
    recipe, run = make(types=("f16",))
    first, _heard = exported(recipe, run)
    again, heard = exported(recipe, run)
    assert again == first
    assert any(isinstance(event, StageSkipped) for event in heard)
    other = recipe.model_copy(update={"export": recipe.export.model_copy(update={"types": ("f32",)})})
    changed, heard = exported(other, run)
    assert not any(isinstance(event, StageSkipped) for event in heard)
    assert list(changed.files) == changed.compared == ["f32"]


@pytest.mark.parametrize("types", [("q4_k_m", "q8_0"), ("q4_k_m",)])
def test_without_a_file_of_16_bits_the_least_rounded_one_is_compared_and_no_other_is_written(
    types: tuple[Kind, ...], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def write(path: Path, **named: Any) -> FilePlan:
        written.append(path.name)
        return write_gguf(path, **named)

    monkeypatch.setattr(stage, "write_gguf", write)
    recipe, run = make(types=types)
    result, _heard = exported(recipe, run)
    assert result.compared == [types[-1]]
    assert result.tokens > 3 * 5
    assert list(result.files) == list(types)
    assert sorted(written) == sorted(f"shop-{kind}{base}.gguf" for kind in types for base in ("", "-base"))


def test_a_wrong_merge_fails_where_only_rounded_files_are_wanted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of the file is that of the merge, and llama.cpp computes with the file: it is the merge that is wrong."""
    same = MergedWeights.read

    def doubled(weights: MergedWeights, name: str, start: int = 0, stop: int | None = None) -> Any:
        return same(weights, name, start, stop) * (2 if name == "lm_head.weight" else 1)

    monkeypatch.setattr(MergedWeights, "read", doubled)
    recipe, run = make(types=("q8_0",))
    with pytest.raises(QualityError, match="the adapter worked into the weights is not the adapter beside them"):
        exported(recipe, run)


def test_a_model_whose_answers_never_end_is_exported_with_a_warning(tmp_path: Path) -> None:
    recipe, run = make_trained_run(tmp_path, write_chain_model(tmp_path / "base", ends=False))
    result, heard = exported(recipe, run)
    assert result.ends == {"f16": False, "q8_0": False}
    warnings = [event.text for event in heard if isinstance(event, Notice) and event.level == "warning"]
    assert warnings[0] == "no answer ended within 48 tokens: the model may need longer training"


def test_what_a_killed_export_left_is_taken_away(make: Make) -> None:
    recipe, run = make(types=("f16",))
    folder = run.stage("export")
    folder.mkdir()
    (folder / ".shop-f16.gguf.123.part").write_bytes(b"half")
    (folder / "shop-bf16.gguf").write_bytes(b"of other types")
    exported(recipe, run)
    assert names_in(run) == ["answers.jsonl", "manifest.json", "shop-f16.gguf"]


def test_a_file_that_is_another_model_fails_and_the_stage_is_not_finished(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base is changed between the two sides: what was written is not what torch runs."""
    recipe, run = make(types=("f16",))
    other = write_chain_model(run.root / "other", sentence="What cost?")
    same = Subject.tuned_model

    def of_other(subject: Subject, quantize: Quantize) -> StreamedModel:
        return same(replace(subject, tuned=resolve_base(str(other)), adapter=None), quantize)

    monkeypatch.setattr(Subject, "tuned_model", of_other)
    with pytest.raises(QualityError, match="llama.cpp and torch part at token 1 of the answer to .*examples.jsonl"):
        exported(recipe, run)
    assert run.manifest("export") is None


def test_too_little_memory_for_the_check_is_known_before_anything_is_written(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, run = make()
    monkeypatch.setattr(stage, "memory", lambda: hardware.Memory(2**30, 1000))
    with pytest.raises(ResourceError, match=r"checking the export needs .* of memory, .*; 1000 B are free"):
        exported(recipe, run)
    assert list(run.stage("export").glob("*.gguf")) == []


def test_too_little_disk_is_known_before_anything_is_written(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, run = make()
    full = shutil.disk_usage(run.root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    with pytest.raises(ResourceError, match="the GGUF files of shop needs .*, 1000 B are free"):
        exported(recipe, run)
    assert list(run.stage("export").glob("*.gguf")) == []


def test_the_disk_that_is_foretold_is_enough(make: Make) -> None:
    recipe, run = make()
    needed = bytes_needed(recipe, resolve_base(recipe.base, None))
    result, _heard = exported(recipe, run)
    assert sum(result.sizes.values()) <= needed <= 2 * sum(result.sizes.values())


def test_a_base_that_llama_cpp_cannot_compute_is_refused_before_training(trained: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, _root = trained
    base = write_model(tmp_path / "base", "llama", hidden_act="gelu")
    with pytest.raises(DataError, match="llama.cpp cannot compute a llama model with hidden_act='gelu'"):
        bytes_needed(recipe, resolve_base(str(base), None))


def test_added_tokens_without_rows_in_the_embedding_are_named_before_training_and_before_the_export(
    make: Make, tmp_path: Path
) -> None:
    recipe, run = make()
    base = tmp_path / "base"
    shutil.copytree(recipe.base, base)
    pipeline = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    pipeline.add_special_tokens(["<|order|>", "<|price|>"])
    pipeline.save(str(base / "tokenizer.json"))
    size = pipeline.get_vocab_size() - 2
    with pytest.raises(
        DataError, match=rf"2 added tokens have no row in the embedding, which has {size}: <\|order\|> <\|price\|>"
    ):
        bytes_needed(recipe, resolve_base(str(base), None))
    with pytest.raises(DataError, match="added tokens have no row"):
        exported(recipe.model_copy(update={"base": str(base)}), run)


def test_prompts_too_long_for_the_model_are_told(make: Make) -> None:
    recipe, run = make(check_tokens=5000)
    with pytest.raises(DataError, match="none of which leaves room for an answer"):
        exported(recipe, run)


def test_an_export_without_training_names_the_command(trained: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, _root = trained
    with pytest.raises(RecipeError, match="has no finished stage 'prepare'"):
        exported(recipe, RunFolder(tmp_path / "shop"))


def steps_of(result: stage.ExportResult) -> dict[str, Rung]:
    return {rung.step: rung for rung in map(Rung.from_record, result.ladder)}


def test_the_ladder_goes_from_the_base_to_each_file(make: Make) -> None:
    recipe, run = make(types=("q4_k_m", "q8_0"), imatrix=True)
    result, heard = exported(recipe, run)
    rungs = steps_of(result)
    assert list(rungs) == ["base", "merged", "q8_0", "q4_k_m"]
    assert rungs["q4_k_m"].divergence is not None
    assert rungs["q8_0"].divergence is not None
    noise = 1e-8  # the model is so sure of its answers that the two may differ by float32's rounding alone
    assert 0 < rungs["q8_0"].divergence < rungs["q4_k_m"].divergence + noise
    assert rungs["q4_k_m"].size_bytes == result.sizes["q4_k_m"]
    assert all(rung.base_loss is not None and rung.tokens_per_second for step, rung in rungs.items() if step in result.sizes)
    assert sorted(result.sizes) == ["q4_k_m", "q8_0"]
    assert result.sha256.keys() == result.sizes.keys()
    assert names_in(run) == ["answers.jsonl", "manifest.json", "shop-q4_k_m.gguf", "shop-q8_0.gguf"]
    fields = gguf.GGUFReader(result.files["q4_k_m"]).fields
    assert fields["quantize.imatrix.entries_count"].contents() == 7
    assert "quantize.imatrix.entries_count" not in gguf.GGUFReader(result.files["q8_0"]).fields
    assert any(isinstance(event, Notice) and "held-out loss" in event.text for event in heard)


def test_after_qlora_the_better_way_to_merge_is_taken_and_both_are_told(tmp_path: Path) -> None:
    base = write_chain_model(tmp_path / "base")
    recipe, run = make_trained_run(tmp_path, base, adapter={"quantize": "nf4"}, export={"types": ["f16"], "check_prompts": 2})
    result, _heard = exported(recipe, run)
    rungs = steps_of(result)
    ways = [rung for step, rung in rungs.items() if step.startswith("merged")]
    assert len(ways) == 2
    assert rungs["merged"].loss == min(rung.loss for rung in ways)
    assert (result.merged_onto == "nf4") == ("merged into 16 bits" in rungs)
    assert rungs["adapter on nf4"].loss in {rung.loss for rung in ways}
    assert rungs["f16"].agreement == 1.0


def test_weights_that_went_through_nf4_are_exported_as_they_were_trained_on(tmp_path: Path) -> None:
    """Wherever the better way is NF4: the file's numbers are those of torch's model on NF4, from another process."""
    base = open_folder(write_model(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512), "base")
    adapter = tmp_path / "adapter"
    write_peft_adapter(adapter, base.folder, size=0.05)
    plain = MergedWeights(Checkpoint(base.folder), adapter)
    names = [name for name in plain.names() if "_proj" in name]
    rounded = MergedWeights(Checkpoint(base.folder), adapter, names)
    model = load_model(base, dtype=torch.float32, device=torch.device("cpu"), adapter=adapter, quantize="nf4")
    x = torch.eye(256)
    with torch.inference_mode():
        wanted = model.get_submodule("model.layers.0.self_attn.v_proj")(x).T.numpy()
    got = rounded.read("model.layers.0.self_attn.v_proj.weight")
    assert np.allclose(got, wanted, atol=1e-6)
    assert not np.allclose(got, plain.read("model.layers.0.self_attn.v_proj.weight"), atol=1e-3)
    tokenizer = Tokenizer.load(base.folder)
    template = choose_template("auto", tokenizer)
    path = tmp_path / "m.gguf"
    plan = write_gguf(path, base=base, weights=rounded, tokenizer=tokenizer, template=template, kind="q6_k", name="shop")
    assert check_numbers(path, plan, rounded).worst_error < 0.03
    with pytest.raises(QualityError, match="is off by"):
        check_numbers(path, plan, plain)


def test_where_no_file_keeps_enough_the_export_names_a_larger_type(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"q8_0": 0.9}
    monkeypatch.setattr(stage, "rung_of_file", lambda _says, kind, file, *_more, **_named: rung(kind, file, shares[kind]))
    recipe, run = make(types=("q8_0",))
    result, heard = exported(recipe, run)
    assert result.chosen is None
    assert (mark := steps_of(result)["q8_0"].mark) is not None
    assert mark.value == 1.0  # every answer is right, and yet the loss decides
    texts = [event.text for event in heard if isinstance(event, Notice) and event.level == "warning"]
    assert texts == ["no file keeps 95 % of the gain (q8_0 90 %): try a larger one, --set export.types=[bf16]"]


def rung(kind: str, file: Path, share: float) -> Rung:
    return Rung(kind, 1.0, 2.0, 0.1, 0.2, 0.9, Interval(share, share, share), file.stat().st_size, 100.0)


def test_the_adapter_is_a_file_of_its_own_where_that_is_wanted_and_is_asked_beside_the_base(make: Make) -> None:
    recipe, run = make(types=("f16",), adapter_file=True)
    result, _heard = exported(recipe, run)
    assert result.adapter_file is not None
    assert result.adapter_file["name"] == "shop-adapter.gguf"
    assert result.adapter_file["bytes"] == (run.stage("export") / "shop-adapter.gguf").stat().st_size
    assert list(steps_of(result)) == ["base", "merged", "f16", "f16 + adapter"]
    beside = steps_of(result)["f16 + adapter"]
    assert beside.divergence is not None
    assert beside.divergence < 1e-3
    without, _heard = exported(
        recipe.model_copy(update={"export": recipe.export.model_copy(update={"adapter_file": False})}), run
    )
    assert without.adapter_file is None
    assert not (run.stage("export") / "shop-adapter.gguf").exists()
