"""A run whose prepare and export stages are done, around the chain model: what deploy, chat and serve start from."""

from __future__ import annotations

from pathlib import Path

from afina.core.files import sha256_of
from afina.core.run import RunFolder
from afina.data.conversation import Conversation, Message, Source
from afina.data.render import Renderer
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.recipe.load import to_yaml, validate
from afina.recipe.recipe import Recipe
from tests.fakes.chain import SENTENCE, write_chain_gguf, write_chain_model
from tests.fakes.store import write_store


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
    before = (Message("system", system),) if system else ()
    held_out = [
        Conversation((*before, Message("user", text), Message("assistant", SENTENCE)), Source("examples.jsonl", line))
        for line, text in enumerate(("Hello?", "What does the hammer cost?"), 1)
    ]
    tokenizer = Tokenizer.load(base)
    renderer = Renderer.build(choose_template("auto", tokenizer), tokenizer)
    outputs = write_store(prepared, {"test": held_out}, renderer)
    run.finish("prepare", inputs={"examples": "1"}, result={}, seconds=0.1, outputs=outputs)
    exported = run.stage("export")
    exported.mkdir()
    gguf = write_chain_gguf(exported / "shop-f32.gguf", ends=ends)
    finish_export(run, gguf)
    return recipe, run


def finish_export(run: RunFolder, gguf: Path, *, inputs: str = "1", ends: bool = True) -> None:
    """The export's end, with the F32 file ``gguf``."""
    result = {
        "ends": {"f32": ends},
        "chosen": "f32",
        "sha256": {"f32": sha256_of(gguf)},
        "worst_error": {"f32": 0.0},
        "compared": ["f32"],
        "prompts": 2,
        "tokens": 24,
        "near_ties": [
            {"type": "f32", "source": "examples.jsonl:1", "position": 3, "torch": "a", "llama": "b", "margin": 0.002},
        ],
        "early_ends": 0,
        "conversations": 2,
        "untidy": 0,
    }
    run.finish("export", inputs={"train": inputs}, result=result, seconds=0.1, outputs=[gguf])
