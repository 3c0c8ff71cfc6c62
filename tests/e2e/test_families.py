"""Every family that afina names, from examples to llama.cpp: prepare, real training steps, merge, GGUF, torch's tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afina.recipe.load import validate
from afina.stages.export import export
from afina.stages.prepare import prepare
from afina.stages.train import train
from afina.stages.workspace import working_in
from tests.fakes.models import FAMILIES, write_model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_each_family_is_trained_and_its_gguf_gives_torchs_tokens(family: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", family)
    examples = tmp_path / "examples.jsonl"
    rows = [{"prompt": f"What does hammer {n} cost?", "completion": f"Hammer {n} costs {n} euros."} for n in range(40)]
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = validate(
        {
            "name": "family",
            "base": str(base),
            "data": {"examples": [str(examples)], "checks": {"few-examples": "off"}},
            "adapter": {"rank": 4},
            "train": {"max_steps": 6, "learning_rate": 5e-3, "batch_tokens": 512},
            "compare": {"max_new_tokens": 16},
            "export": {"types": ["f16", "q8_0"], "check_prompts": 2, "check_tokens": 12},
        },
        "test",
    )
    with working_in(recipe, tmp_path / "runs") as (run, events):
        prepare(recipe, run, events)
        trained = train(recipe, run, events)
        exported = export(recipe, run, events)
    assert trained.first_loss is not None
    assert trained.best_loss is not None
    assert trained.best_loss < trained.first_loss
    assert exported.tokens >= exported.prompts == 2
    assert exported.files["q8_0"].stat().st_size < exported.files["f16"].stat().st_size
