"""Adapters as PEFT itself makes and saves them, with random numbers in both matrices, so that they do something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
import transformers


def write_peft_adapter(folder: Path, base: Path, *, seed: int = 1, size: float = 0.1, **settings: Any) -> torch.nn.Module:
    """Saves a LoRA adapter on every linear layer of ``base`` in ``folder``; returns the model with it, as PEFT runs it.

    ``size`` is the standard deviation of the numbers in A and B.
    """
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings})
    adapted = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = size * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(str(folder))
    adapted.eval()
    return adapted
