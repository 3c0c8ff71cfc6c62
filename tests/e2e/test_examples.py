"""The recipes under examples/, shortened, on others' data and weights: the loss falls and the GGUF is the trained model."""

from __future__ import annotations

from pathlib import Path

import pytest

from afina.compare.comparison import load_comparison
from afina.recipe.recipe import Recipe
from afina.stages.compare import compare
from afina.stages.export import export
from afina.stages.prepare import prepare
from afina.stages.train import train
from afina.stages.workspace import working_in

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = (
    "compare.contenders=[prompt,tuned]",
    "compare.examples=4",
    "compare.max_new_tokens=24",
    "export.check_prompts=3",
    "export.check_tokens=16",
)


def test_every_example_is_tested_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == {"bitext", "gsm8k", "recetas"}


@pytest.mark.parametrize(
    ("name", "limit", "steps", "batch", "gain"),
    [("bitext", 200, 30, 2048, 5.0), ("gsm8k", 80, 10, 1024, 1.5), ("recetas", 80, 8, 2048, 1.5)],
)
def test_an_example_lowers_the_held_out_loss_and_its_gguf_gives_torchs_tokens(
    name: str, limit: int, steps: int, batch: int, gain: float, shared_data: Path, tmp_path: Path
) -> None:
    types = ("q4_k_m", "q8_0") if name == "bitext" else ("q8_0",)
    training = (f"train.max_steps={steps}", f"train.batch_tokens={batch}")
    shorter = (f"data.limit={limit}", *training, f"export.types=[{','.join(types)}]", *SHORT)
    recipe = Recipe.load(EXAMPLES / f"{name}.yaml", shorter)
    with working_in(recipe, tmp_path) as (run, events):
        prepare(recipe, run, events)
        trained = train(recipe, run, events)
        compare(recipe, run, events)
        exported = export(recipe, run, events)
    comparison = load_comparison(run.stage("compare"))
    base, tuned = (comparison.interval("loss", contender) for contender in ("prompt", "tuned"))
    assert trained.steps == steps
    assert tuned.value < base.value - gain
    assert tuned.high < base.low
    assert exported.tokens > 20  # compared one by one with torch's; a difference is an error
    assert set(exported.files) == set(types)
    assert all(path.is_file() for path in exported.files.values())


def test_qlora_on_real_weights_goes_the_same_way(shared_data: Path, tmp_path: Path) -> None:
    settings = ("data.limit=120", "train.max_steps=20", "adapter.quantize=nf4", "name=bitext-nf4", *SHORT)
    recipe = Recipe.load(EXAMPLES / "bitext.yaml", settings)
    with working_in(recipe, tmp_path) as (run, events):
        prepare(recipe, run, events)
        trained = train(recipe, run, events)
        compare(recipe, run, events)
        export(recipe, run, events)
    comparison = load_comparison(run.stage("compare"))
    assert trained.best_loss is not None
    assert comparison.interval("loss", "tuned").value < comparison.interval("loss", "prompt").value - 4
