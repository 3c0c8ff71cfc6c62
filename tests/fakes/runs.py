"""A run whose prepare and export stages are done, around the chain model: what deploy, chat and serve start from."""

from __future__ import annotations

import json
from pathlib import Path

from afina.core.run import RunFolder
from afina.recipe.load import to_yaml, validate
from afina.recipe.recipe import Recipe
from tests.fakes.chain import write_chain_gguf, write_chain_model


def write_exported_run(
    folder: Path, *, ends: bool = True, system: str | None = None, **settings: object
) -> tuple[Recipe, RunFolder]:
    """The run ``shop`` below ``folder``/runs and its recipe; ``settings`` are sections of the recipe."""
    base = write_chain_model(folder / "base", ends=ends)
    examples = folder / "examples.jsonl"
    examples.write_text('{"prompt": "Hello?", "completion": "Hello."}\n')
    tree = {
        "name": "shop",
        "base": str(base),
        "system": system,
        "data": {"examples": [str(examples)]},
        "export": {"types": ["f32"]},
    }
    recipe = validate({**tree, **settings}, "recipe.yaml")
    run = RunFolder(folder / "runs" / recipe.name)
    run.root.mkdir(parents=True)
    run.recipe_path.write_text(to_yaml(recipe), encoding="utf-8")
    prepared = run.stage("prepare")
    prepared.mkdir()
    test = prepared / "test.jsonl"
    messages = [{"role": "system", "content": system}] if system else []
    rows = [
        {
            "messages": [*messages, {"role": "user", "content": text}, {"role": "assistant", "content": "Hi."}],
            "source": f"examples.jsonl:{line}",
        }
        for line, text in enumerate(("Hello?", "What does the hammer cost?"), 1)
    ]
    test.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run.finish("prepare", inputs={"examples": "1"}, result={}, seconds=0.1, outputs=[test])
    exported = run.stage("export")
    exported.mkdir()
    gguf = write_chain_gguf(exported / "shop-f32.gguf", ends=ends)
    run.finish("export", inputs={"train": "1"}, result={"ends": {"f32": True}}, seconds=0.1, outputs=[gguf])
    return recipe, run
