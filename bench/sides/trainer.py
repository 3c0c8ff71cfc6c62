"""What the contenders that are built on transformers' Trainer have in common: a callback by which they take turns.

Read in the peers' environments, whose packages are not installed where the types are checked.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from bench.sides.turns import Turns


def turn_callback(turns: Turns) -> Any:
    """A TrainerCallback that waits before each step and answers when the Trainer has logged its loss and gradient norm."""
    transformers = importlib.import_module("transformers")
    torch = importlib.import_module("torch")
    cuda = torch.cuda.is_available()

    class TurnCallback(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_train_begin(self, *_arguments: Any, model: Any, **_more: Any) -> None:
            turns.ready(**facts_of(model))

        def on_step_begin(self, *_arguments: Any, **_more: Any) -> None:
            turns.begin()

        def on_step_end(self, *_arguments: Any, **_more: Any) -> None:
            if cuda:
                torch.cuda.synchronize()
            turns.end()

        def on_log(self, *_arguments: Any, logs: dict[str, Any], **_more: Any) -> None:
            if "loss" in logs:  # the last log of a training has none
                more = {"peak_bytes": torch.cuda.max_memory_allocated()} if cuda else {}
                turns.answer(loss=float(logs["loss"]), gradient_norm=float(logs["grad_norm"]), **more)

    return TurnCallback()


def facts_of(model: Any) -> dict[str, Any]:
    """Number types and threads, as they are and not as they were asked for."""
    torch = importlib.import_module("torch")
    base = next(p for name, p in model.named_parameters() if "q_proj" in name and "lora_" not in name)
    lora = next(p for name, p in model.named_parameters() if "lora_A" in name)
    return {
        "weights": str(base.dtype).removeprefix("torch."),
        "adapter": str(lora.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def load_start(model: Any, start: Path) -> None:
    """The common adapter into a PEFT model that has a fresh one."""
    peft = importlib.import_module("peft")
    load_file = importlib.import_module("safetensors.torch").load_file
    tensors = load_file(start / "adapter_model.safetensors")
    outcome = peft.set_peft_model_state_dict(model, tensors)
    if outcome.unexpected_keys or any("lora_" in name for name in outcome.missing_keys):
        raise SystemExit(f"error: the adapter in {start} does not fit: {outcome}")
