"""A prepared run with an adapter that PEFT made: what export starts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from afina.core.events import Events
from afina.core.run import RunFolder
from afina.recipe.load import validate
from afina.recipe.recipe import Recipe
from afina.stages.prepare import prepare
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.chain import SENTENCE


def make_trained_run(folder: Path, base: Path, **changes: Any) -> tuple[Recipe, RunFolder]:
    """The run ``shop`` below ``folder``/runs and its recipe, of which ``changes`` are sections."""
    examples = folder / "examples.jsonl"
    words = ["hammer", "martillo", "red", "rojo", "today", "hoy"]
    rows = [{"prompt": f"Hello, what does the {word} cost? ({n})", "completion": SENTENCE} for n in range(4) for word in words]
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tree = {
        "name": "shop",
        "base": str(base),
        "data": {"examples": [str(examples)], "checks": {"few-examples": "off"}, "split": {"val": 0.1, "test": 0.2}},
        "compare": {"max_new_tokens": 48},
        "export": {"types": ["f16", "q8_0"], "check_prompts": 3, "check_tokens": 32},
    }
    recipe = validate({**tree, **changes}, "recipe.yaml")
    run = RunFolder(folder / "runs" / "shop")
    with Events() as events:
        prepare(recipe, run, events)
    adapter = run.stage("train") / "adapter"
    write_peft_adapter(adapter, base, size=0.01)  # does something, and leaves the sentence as it is
    run.finish("train", inputs={"seed": "1"}, result={}, seconds=0.1, outputs=sorted(adapter.glob("adapter_*")))
    return recipe, run
