"""Each sentence about a training is provoked by a real one, and a training that goes well provokes none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from afina.core.errors import QualityError
from afina.core.events import Event, Events
from afina.data.conversation import Source
from afina.data.render import Row
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import add_lora, lora_layers
from afina.recipe.recipe import Adapter, Train
from afina.train import loop
from afina.train.diagnose import before_start, usual_rates
from afina.train.step import prepare
from afina.train.trainee import adapter_on
from tests.fakes.models import write_model
from tests.fakes.rows import row_of
from tests.fakes.training import CPU, SETTINGS, made_up_rows, run_training, warnings_in

PLAIN = Adapter(rank=8, alpha=16)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("untied"), "mistral")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


def pattern_rows(count: int, seed: int = 0) -> list[Row]:
    """Rows that can be learned: each answer counts on from the last token of its question."""
    rows = []
    for row in made_up_rows(count, seed=seed):
        start = 10 + row.ids[0] % 100
        ids = (start, *range(start + 1, start + 12))
        rows.append(row_of(ids, tuple(place >= 3 for place in range(len(ids))), row.source))
    return rows


def own_rows(base: Path, count: int) -> list[Row]:
    """Rows that the base itself would write: it can only get worse."""
    model = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU)
    ids = torch.tensor([row.ids[:4].tolist() for row in made_up_rows(count)])  # (B, 4)
    for _token in range(12):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return [row_of(row, [False] * 4 + [True] * 12, Source("own.jsonl", n)) for n, row in enumerate(ids.tolist(), 1)]


def told(base: Path, folder: Path, **settings: Any) -> list[str]:
    seen: list[Event] = []
    run_training(base, folder, seen.append, settings.pop("adapter", PLAIN), **settings)
    return warnings_in(seen)


def test_a_training_that_goes_well_provokes_no_sentence(base: Path, tmp_path: Path) -> None:
    rows, held_out = pattern_rows(60), pattern_rows(12, seed=3)
    assert told(base, tmp_path, rows=rows, val_rows=held_out, epochs=6, batch_tokens=100, learning_rate=1e-2) == []


def test_a_loss_that_does_not_fall_and_an_adapter_without_effect_are_told_once(base: Path, tmp_path: Path) -> None:
    texts = told(base, tmp_path, epochs=7, batch_tokens=300, learning_rate=1e-9)
    assert [text.partition(":")[0] for text in texts] == ["the training has no effect yet", "the training loss does not fall"]
    assert "raise train.learning_rate" in texts[1]


def test_a_loss_that_rises_is_told_while_it_does(base: Path, tmp_path: Path) -> None:
    rows = own_rows(base, 12)
    texts = told(base, tmp_path, rows=rows, val_rows=rows, learning_rate=1.0)
    assert [text.partition(":")[0] for text in texts] == ["the held-out loss rises"]
    assert "a learning rate three to ten times lower" in texts[0]


def test_learning_by_heart_is_told(base: Path, tmp_path: Path) -> None:
    """Answers that follow from nothing: the six that are trained can be memorised, others cannot be known."""
    rows, others = made_up_rows(6), made_up_rows(6, seed=9)
    settings = {"epochs": 30, "batch_tokens": 1000, "micro_tokens": 1000, "learning_rate": 2e-2, "evaluate_every": 30}
    texts = told(base, tmp_path, rows=rows, val_rows=others, adapter=Adapter(rank=32, alpha=64), **settings)
    assert [text for text in texts if text.startswith("the examples are being learned by heart: training loss")]


def texts_before(share: float = 0.4, rate: float = 2e-4, method: Any = "lora", parameters: int = 1_500_000_000) -> list[str]:
    return list(before_start(share, rate, method, parameters))


def test_too_small_a_trained_share_is_told_before_the_start() -> None:
    assert texts_before() == []
    assert ["only 4 % of the tokens are learned from" in text for text in texts_before(share=0.04)] == [True]


@pytest.mark.parametrize("parameters", [8_000_000, 500_000_000, 8_000_000_000])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_learning_rate_out_of_the_usual_range_is_told_before_the_start(method: Any, parameters: int) -> None:
    low, high = usual_rates(method, parameters)
    assert texts_before(rate=low, method=method, parameters=parameters) == []
    assert texts_before(rate=high, method=method, parameters=parameters) == []
    (too_low,) = texts_before(rate=low / 2, method=method, parameters=parameters)
    (too_high,) = texts_before(rate=high * 2, method=method, parameters=parameters)
    assert "little may be learned" in too_low
    assert "the loss may rise" in too_high


def test_all_weights_want_a_tenth_of_an_adapters_rate() -> None:
    assert usual_rates("full", 10**9) == pytest.approx([rate / 10 for rate in usual_rates("lora", 10**9)])


def broken_training(base: Path, folder: Path, rows: Sequence[Row], poison: Any) -> None:
    """A training whose model ``poison`` has changed."""
    model = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU)
    add_lora(model, PLAIN, 0)
    prepare(model)
    poison(model)
    settings = Train.model_validate({**SETTINGS, "micro_tokens": 4000})
    with Events() as events:
        loop.train(model, rows, [], settings, adapter_on(model, PLAIN, "base"), folder, events)


def test_a_loss_that_is_not_finite_names_only_the_rows_at_fault(untied: Path, tmp_path: Path) -> None:
    rows = [row_of((5, 6, 7, 8), (False, True, True, True), Source("good.jsonl", number)) for number in range(1, 6)]
    bad = row_of((5, 299, 7, 8), (False, True, True, True), Source("bad.jsonl", 3))

    def poison(model: Any) -> None:
        model.get_input_embeddings().weight.data[299] = float("inf")

    with pytest.raises(QualityError, match=r"the loss is not a finite number at step 1; the rows were bad.jsonl:3$"):
        broken_training(untied, tmp_path, [*rows, bad], poison)


def test_a_gradient_that_is_not_finite_names_only_the_rows_at_fault(untied: Path, tmp_path: Path) -> None:
    """The loss is finite: only the way back through √|x| at zero is not."""
    rows = [row_of((5, 6, 7, 8), (False, True, True, True), Source("good.jsonl", number)) for number in range(1, 6)]
    bad = row_of((5, 299, 7, 8), (False, True, True, True), Source("bad.jsonl", 3))

    def poison(model: Any) -> None:
        def steep(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            places = (holder["ids"][0] == 299).nonzero()[:, 0]
            return output.index_add(1, places, (output[:, places] * 0).abs().sqrt())

        holder: dict[str, torch.Tensor] = {}
        model.get_input_embeddings().register_forward_hook(lambda _m, inputs, _o: holder.update(ids=inputs[0]))
        dict(lora_layers(model))["model.layers.1.mlp.up_proj"].register_forward_hook(steep)

    with pytest.raises(QualityError, match=r"the gradient is not a finite number at step 1; the rows were bad.jsonl:3$"):
        broken_training(untied, tmp_path, [*rows, bad], poison)


def test_a_learning_rate_of_1_ends_in_a_finite_loss_or_in_a_clear_error(base: Path, tmp_path: Path) -> None:
    try:
        trained = run_training(base, tmp_path, adapter=PLAIN, learning_rate=1.0, epochs=3)
    except QualityError as error:
        assert "is not a finite number at step" in error.what
    else:
        assert trained.best_loss is not None
        assert trained.first_loss is not None
        assert trained.best_loss <= trained.first_loss
