"""Rehearse: the chain in small on the embedded model, for ``afina doctor --deep``: one training step, one export, one answer."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from afina.core.events import Listener
from afina.core.translation import _
from afina.core.units import format_duration
from afina.data.conversation import Message
from afina.infer.llama import LlamaServer
from afina.recipe.load import validate
from afina.stages.doctor import Finding
from afina.stages.export import export
from afina.stages.prepare import prepare
from afina.stages.train import train
from afina.stages.workspace import working_in


def rehearse(listeners: tuple[Listener, ...] = ()) -> tuple[Finding, ...]:
    """What was done, each with its time. What cannot be done is the AfinaError that a run would end with."""
    with tempfile.TemporaryDirectory(prefix="afina-doctor-") as name:
        folder = Path(name)
        examples = folder / "examples.jsonl"
        examples.write_text("".join(json.dumps(row) + "\n" for row in _rows()), encoding="utf-8")
        recipe = validate(
            {
                "name": "doctor",
                "data": {"examples": [str(examples)], "checks": {"few-examples": "off"}},
                "train": {"max_steps": 1, "epochs": 1, "batch_tokens": 256},
                "export": {"types": ["f16"], "check_prompts": 2, "check_tokens": 8},
            },
            "afina doctor --deep",
        )
        with working_in(recipe, folder / "runs", listeners) as (run, events):
            prepare(recipe, run, events)
            start = time.monotonic()
            trained = train(recipe, run, events)
            trained_at = time.monotonic()
            exported = export(recipe, run, events)
            exported_at = time.monotonic()
            with LlamaServer(exported.files["f16"], context=256) as server:
                answer = server.answer([Message("user", "Hello!")], 16)
            answered_at = time.monotonic()
    return (
        Finding(
            _("training"),
            "ok",
            _("{steps} step on {device} ({dtype}) in {time}").format(
                steps=trained.steps, device=trained.device, dtype=trained.dtype, time=format_duration(trained_at - start)
            ),
        ),
        Finding(
            _("export"),
            "ok",
            _("GGUF written and proved equal to torch in {time}").format(time=format_duration(exported_at - trained_at)),
        ),
        Finding(
            _("answer"),
            "ok",
            _("llama.cpp gave {count} tokens in {time}").format(
                count=len(answer.ids), time=format_duration(answered_at - exported_at)
            ),
        ),
    )


def _rows() -> Iterator[dict[str, str]]:
    """A few examples that any model can be trained on."""
    for number in range(24):
        yield {"prompt": f"How much is {number} and {number + 1}?", "completion": f"It is {2 * number + 1}."}
