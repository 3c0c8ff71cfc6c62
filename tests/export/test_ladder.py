"""The ladder: what is asked, how losses and divergences are counted, and which file is chosen."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from afina.data.conversation import Source
from afina.data.render import Row
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export import ladder
from afina.export.families import lay_out
from afina.export.gguf import write_gguf
from afina.export.importance import importance_of
from afina.export.ladder import (
    Told,
    choose_passages,
    closeness,
    kept_gain,
    mean_loss,
    smallest_that_keeps,
    told_by_llama,
    told_by_torch,
)
from afina.export.rungs import Marks, Rung, aligned, heads, records
from afina.infer.llama import LlamaServer
from afina.infer.score import log_probabilities, score_rows
from afina.measure.intervals import Interval
from afina.model.base import Base, open_folder
from afina.model.load import load_model
from afina.model.merge import MergedWeights
from afina.model.streamed import Passage, StreamedModel
from afina.model.weights import Checkpoint
from tests.fakes.models import write_model


def row_with(ids: Sequence[int], spans: Sequence[tuple[int, int]]) -> Row:
    return Row(array("i", ids), tuple(spans), Source("x.jsonl", 1))


PASSAGES = [Passage(tuple(range(3, 40)), (1, 9, 36)), Passage(tuple(range(50, 70)), (4,))]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_folder(write_model(tmp_path_factory.mktemp("base"), "qwen2"), "base")


def of_torch(base: Base) -> Told:
    model = load_model(base, dtype=torch.float32, device=torch.device("cpu"))
    return told_by_torch([log_probabilities(model, one.ids, one.places).numpy() for one in PASSAGES], PASSAGES)


def test_log_probabilities_are_those_of_the_loss(base: Base) -> None:
    model = load_model(base, dtype=torch.float32, device=torch.device("cpu"))
    row = row_with([5, 6, 7, 8, 9, 10], [(3, 6)])
    logs = log_probabilities(model, row.ids, [3, 4, 5])
    ((total, count),) = score_rows(model, [row])
    assert count == 3
    assert -logs[range(3), [8, 9, 10]].sum().item() == pytest.approx(total, abs=1e-5)


def test_llama_cpp_says_of_an_f32_file_what_torch_says(base: Base, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(base.folder)
    weights, template = MergedWeights(Checkpoint(base.folder)), choose_template("auto", tokenizer)
    write_gguf(tmp_path / "m.gguf", base=base, weights=weights, tokenizer=tokenizer, template=template, kind="f32", name="shop")
    with LlamaServer(tmp_path / "m.gguf", context=256, exact=True) as server:
        got = told_by_llama(server, PASSAGES, int(base.config["vocab_size"]))
    want = of_torch(base)
    near = closeness(want, got)
    assert near.divergence < 1e-6
    assert near.divergence_99 < 1e-5
    assert near.agreement == 1.0
    assert mean_loss(got) == pytest.approx(mean_loss(want), abs=1e-4)
    assert [len(losses) for losses in got.losses] == [3, 1]


def test_the_rest_of_a_large_vocabulary_counts_as_one_but_each_place_s_token_is_asked_for(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.load(base.folder)
    weights, template = MergedWeights(Checkpoint(base.folder)), choose_template("auto", tokenizer)
    write_gguf(tmp_path / "m.gguf", base=base, weights=weights, tokenizer=tokenizer, template=template, kind="f32", name="shop")
    monkeypatch.setattr(ladder, "TOP", 20)
    with LlamaServer(tmp_path / "m.gguf", context=256, exact=True) as server:
        got = told_by_llama(server, PASSAGES, int(base.config["vocab_size"]))
    want = of_torch(base)
    assert not got.is_whole
    assert {len(ids) for ids in got.ids} == {20}
    assert closeness(want, got).divergence < 1e-5
    targets = [passage.ids[place] for passage in PASSAGES for place in passage.places]
    assert any(target not in ids for target, ids in zip(targets, got.ids, strict=True))
    assert np.concatenate(got.losses) == pytest.approx(np.concatenate(want.losses), abs=1e-3)


def test_divergence_is_that_of_torch() -> None:
    random = np.random.default_rng(7)
    one, two = (torch.from_numpy(random.standard_normal((4, 50))).log_softmax(-1) for _side in range(2))
    told = [told_by_torch([logs[:3].numpy(), logs[3:].numpy()], _numbered()) for logs in (one, two)]
    wanted = F.kl_div(two, one, log_target=True, reduction="none").sum(-1)
    near = closeness(told[0], told[1])
    assert near.divergence == pytest.approx(wanted.mean().item())
    assert near.divergence_99 == pytest.approx(np.quantile(wanted.numpy(), 0.99))
    assert near.agreement == (one.argmax(-1) == two.argmax(-1)).double().mean().item()
    assert closeness(told[0], told[0]).divergence == 0


def _numbered() -> list[Passage]:
    return [Passage((0, 1, 2, 3), (1, 2, 3)), Passage((0, 1), (1,))]


def test_rows_and_places_come_from_all_over_with_first_and_last() -> None:
    rows = [row_with(list(range(100)), [(50, 100)]) for _number in range(200)]
    rows.append(row_with([1, 2, 3], []))
    passages = choose_passages(rows)
    assert len(passages) == ladder.ROWS
    assert all(
        len(passage.ids) == 100 and passage.places[0] == 50 and passage.places[-1] == 99 and len(passage.places) == ladder.PLACES
        for passage in passages
    )
    assert choose_passages(rows[-1:]) == []
    (short,) = choose_passages([row_with([1, 2, 3, 4], [(2, 4)])])
    assert short.places == (2, 3)


def told(*losses: float) -> Told:
    return Told(tuple(np.array([loss]) for loss in losses), (), (), is_whole=True)


def test_the_kept_gain_is_against_the_base_or_the_rounded_base_whichever_is_less() -> None:
    base, tuned = told(5, 6, 7), told(1, 1, 1)
    worse_base = kept_gain(base, tuned, told(7, 8, 9), told(2, 2, 2), resamples=200, seed=7)
    assert worse_base is not None
    assert worse_base.value == pytest.approx(12 / 15)  # rounding harms the base more: that is no merit of the tuned model
    better_base = kept_gain(base, tuned, told(4, 5, 6), told(2, 2, 2), resamples=200, seed=7)
    assert better_base is not None
    assert better_base.value == pytest.approx(9 / 15)
    assert better_base.low <= better_base.value <= better_base.high
    assert kept_gain(tuned, base, tuned, base, resamples=200, seed=7) is None


def test_the_smallest_file_that_keeps_enough_is_chosen() -> None:
    sizes = {"q8_0": 800, "q6_k": 600, "q4_k_m": 400}
    assert smallest_that_keeps({"q8_0": 0.99, "q6_k": 0.97, "q4_k_m": 0.9}, sizes, 0.95) == "q6_k"
    assert smallest_that_keeps({"q8_0": 0.9, "q6_k": 0.97, "q4_k_m": 0.96}, sizes, 0.95) == "q4_k_m"
    assert smallest_that_keeps({"q8_0": 0.94, "q6_k": 0.9, "q4_k_m": 0.2}, sizes, 0.95) is None
    assert smallest_that_keeps(dict.fromkeys(sizes), sizes, 0.95) == "q4_k_m"


def test_rungs_are_kept_and_read_again_and_shown() -> None:
    good, bad = Interval(0.97, 0.83, 0.99), Interval(0.0, 0.0, 0.2)
    rungs = [
        Rung("base", 3.0),
        Rung("q4_k_m", 1.0, 3.1, 0.01, 0.1, 0.98, Interval(0.97, 0.95, 0.99), 3 << 20, 812.4, good, bad),
    ]
    assert [Rung.from_record(record) for record in records(rungs)] == rungs
    head, first, second = aligned(rungs, Marks("label", 24))
    assert "right label" in head
    assert "0 % → 97 % (83–99 %)" in second
    assert head.split("  ")[-1] == "tokens/s"
    assert first.rstrip() == first[: len("base      ") + len("held-out loss")].rstrip()
    assert second.split()[-1] == "812"
    assert len(head) == len(second)


def test_importance_is_the_mean_square_of_what_each_layer_is_given(base: Base, tmp_path: Path) -> None:
    model: Any = load_model(base, dtype=torch.float32, device=torch.device("cpu"))
    rows: list[Row] = [row_with(list(range(3, 20)), [(5, 17)]), row_with(list(range(30, 44)), [(5, 14)])]
    weights = MergedWeights(Checkpoint(base.folder))
    streamed = StreamedModel(base, device=torch.device("cpu"), folder=tmp_path)
    found = importance_of(streamed, rows, lay_out(base, weights).tensors)
    assert set(found) == {
        f"blk.{layer}.{part}.weight"
        for layer in range(2)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    }
    with torch.inference_mode():
        states = [model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.tensor(list(row.ids)))) for row in rows]
    wanted = torch.cat(states).square().mean(0)
    floored = wanted.clamp(min=0.01 * wanted.mean())
    assert np.allclose(found["blk.0.attn_q.weight"], floored.numpy(), rtol=1e-5)
    assert found["blk.0.attn_q.weight"].shape == (64,)


def test_a_token_that_is_all_but_impossible_has_a_log_probability_too(base: Base, tmp_path: Path) -> None:
    model = load_model(base, dtype=torch.float32, device=torch.device("cpu"))
    weights = {name: tensor * (4 if "norm" in name else 1) for name, tensor in model.state_dict().items()}  # far surer of itself
    folder = tmp_path / "sure"
    shutil.copytree(base.folder, folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    sure = open_folder(folder, "sure")
    logs = log_probabilities(load_model(sure, dtype=torch.float32, device=torch.device("cpu")), range(3, 20), [12])[0]
    unlikely = int(logs.argmin())
    assert logs[unlikely] < -20
    tokenizer = Tokenizer.load(folder)
    merged, template = MergedWeights(Checkpoint(folder)), choose_template("auto", tokenizer)
    write_gguf(tmp_path / "m.gguf", base=sure, weights=merged, tokenizer=tokenizer, template=template, kind="f32", name="shop")
    with LlamaServer(tmp_path / "m.gguf", context=256, exact=True) as server:
        likely = max(server.log_probabilities(list(range(3, 15)), 5).items(), key=lambda pair: pair[1])
        got = server.log_probability(list(range(3, 15)), unlikely, likely)
    assert got == pytest.approx(max(float(logs[unlikely]), -60.0), rel=1e-2)


def test_places_before_which_half_a_character_or_an_end_is_likeliest_are_told_too(base: Base, tmp_path: Path) -> None:
    """llama.cpp answers without probabilities where it would say a part of a character."""
    tokenizer = Tokenizer.load(base.folder)
    weights, template = MergedWeights(Checkpoint(base.folder)), choose_template("auto", tokenizer)
    write_gguf(tmp_path / "m.gguf", base=base, weights=weights, tokenizer=tokenizer, template=template, kind="f32", name="shop")
    passages = [Passage(tuple((7 * row + place) % 300 + 3 for place in range(20)), tuple(range(1, 20))) for row in range(8)]
    model = load_model(base, dtype=torch.float32, device=torch.device("cpu"))
    want = told_by_torch([log_probabilities(model, one.ids, one.places).numpy() for one in passages], passages)
    with LlamaServer(tmp_path / "m.gguf", context=256, exact=True) as server:
        got = told_by_llama(server, passages, int(base.config["vocab_size"]))
    assert closeness(want, got).divergence < 1e-6
    assert np.concatenate(got.losses) == pytest.approx(np.concatenate(want.losses), abs=1e-3)


def test_it_is_said_what_the_marks_are_or_why_there_are_none() -> None:
    told = Marks("label", 24).words()
    assert len(told) == 1
    assert told[0].startswith(
        "right label: share of the answers that are the expected label (accuracy); of 24 held-out questions"
    )
    assert "which file is deployed follows from the gain kept" in told[0]
    assert Marks("label", 24, merged_needs=3 << 30).words()[1:] == [
        "The merged model did not answer: that needs 3.0 GiB of memory."
    ]
    assert Marks(why_not="time", seconds=3700).words() == ["Answers are not measured: at this speed they would take 1 h 01 min."]
    assert Marks(why_not="metric").words() == ["Answers are not measured: compare.metrics names no measure of them."]
    assert heads(Marks(why_not="metric"))[6] == "answers"
    assert Marks().words() == []  # exported before there were marks
