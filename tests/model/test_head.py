"""Tokens that a base never learned are found before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from afina.core.errors import DataError
from afina.core.events import Event, Events, Notice
from afina.core.run import RunFolder
from afina.model.base import resolve_base
from afina.model.head import twins
from afina.recipe.load import validate
from afina.stages.prepare import prepare
from afina.stages.renderer import build_renderer
from tests.fakes.models import write_model


def test_tokens_with_the_same_output_row_are_twins(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "base")
    base = resolve_base(str(folder))
    assert twins(base, 2) == 0
    other = write_model(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.embed_tokens.weight"][[2, 7, 9]] = torch.full((64,), 0.3)
    weights["model.embed_tokens.weight"][11] = -0.3  # opposite is not alike
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert twins(resolve_base(str(other)), 2) == 2
    assert twins(resolve_base(str(other)), 11) == 0


def test_an_end_of_turn_that_the_base_never_learned_is_told(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][[2, 7]] = 1.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    examples = tmp_path / "a.jsonl"
    examples.write_text("".join(f'{{"prompt": "q{n}", "completion": "a{n}"}}\n' for n in range(20)))
    recipe = validate(
        {"name": "x", "base": str(folder), "data": {"examples": [str(examples)], "checks": {"few-examples": "off"}}}, "test"
    )
    heard: list[Event] = []
    prepare(recipe, RunFolder(tmp_path / "runs" / "x"), Events(listeners=(heard.append,)))
    (warning,) = [event for event in heard if isinstance(event, Notice) and event.level == "warning"]
    assert "never learned <|im_end|>" in warning.text
    assert "1 other tokens" in warning.text


def test_a_real_base_that_never_saw_its_eos_ends_its_answers_with_bos(shared_data: Path) -> None:
    base = resolve_base(str(shared_data / "models" / "stories260K-hf"))
    assert twins(base, 2) == 185
    recipe = validate({"name": "x", "base": str(base.folder), "data": {"examples": ["a"]}}, "test")
    renderer = build_renderer(recipe, base)
    assert (renderer.end_of_turn, renderer.template.name) == ("<s>", "plain")


def test_a_template_without_the_bases_tokens_is_refused(shared_data: Path) -> None:
    base = resolve_base(str(shared_data / "models" / "stories260K-hf"))
    recipe = validate({"name": "x", "base": str(base.folder), "chat_template": "chatml", "data": {"examples": ["a"]}}, "test")
    with pytest.raises(DataError, match="holds no special token"):
        build_renderer(recipe, base)
