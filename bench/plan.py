"""Predicted against measured: the memory of a training step on this CPU, in six configurations.

    python bench/plan.py            writes bench/results/plan.json

Each configuration runs in processes of its own: the resident set at its highest during two steps (VmHWM, Linux), over what the
process held before the model was made, against the dry run's peak; once with glibc as it is, once giving memory back at once,
which shows the tensors without what the allocator keeps. Weights are random.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig

from afina.core import hardware
from afina.core.files import write_json
from afina.core.run import versions
from afina.model.decoder import decoder_layers
from afina.model.lora import add_lora, quantize_linear, trained_parameters
from afina.model.shape import read_shape
from afina.recipe.recipe import Adapter
from afina.train import attention
from afina.train.dry import Batch, Setup, dry_run, packed_of
from afina.train.estimate import ALLOCATOR
from afina.train.last_layer import prune_last_layer
from afina.train.saving import Checkpointing, Saving, apply_saving
from afina.train.step import packed_loss

# Threads wait for each other where other programs work too.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# glibc gives memory back as soon as it is free: what is then resident is what is alive.
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
RESULT = Path(__file__).parent / "results" / "plan.json"


@dataclass(frozen=True)
class Case:
    shape: str
    quantize: Literal["none", "int8", "nf4"]
    checkpointing: Checkpointing
    tokens: int
    method: Literal["lora", "full"] = "lora"


CASES = (
    Case("tiny", "none", "none", 2048),
    Case("tiny", "none", "full", 2048),
    Case("135M", "none", "none", 512),
    Case("135M", "none", "none", 1024),
    Case("135M", "nf4", "none", 512),
    Case("135M", "none", "full", 1024),
)

# What the tests look at.
SMALL = Case("tiny", "none", "none", 512)
SMALL_FULL = Case("tiny", "none", "none", 512, "full")


def config_of(shape: str) -> PreTrainedConfig:
    """``tiny``, or the shape of SmolLM2-135M."""
    if shape == "tiny":
        return read_shape("tiny")
    return transformers.LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )


def setup_of(case: Case) -> Setup:
    return Setup(config_of(case.shape), torch.float32, Adapter(method=case.method, quantize=case.quantize), "cpu")


def batch_of(case: Case) -> Batch:
    return Batch(case.tokens, case.tokens // 4, case.tokens // 2)


def measured_apart(number: int, environment: dict[str, str]) -> int:
    """``measured`` in a process of its own."""
    command = [sys.executable, __file__, "--case", str(number)]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    return int(done.stdout)


def measured(case: Case) -> int:
    """Bytes that two real steps held at most, over what the process held before."""
    torch.manual_seed(0)
    attention.register()
    train_two_steps(replace(case, shape="tiny", tokens=64))  # what is loaded and kept by the libraries
    gc.collect()
    before = hardware.resident_bytes()
    train_two_steps(case)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    highest = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return highest - before


def train_two_steps(case: Case) -> None:
    setup = setup_of(case)
    model = AutoModelForCausalLM.from_config(setup.config, dtype=torch.float32, attn_implementation=attention.NAME)
    model.config.use_cache = False
    if setup.adapter.quantize != "none":
        quantize_linear(model, setup.adapter.quantize, torch.device("cpu"))
    if case.method == "full":
        parameters = list(model.parameters())
    else:
        model.requires_grad_(False)
        add_lora(model, setup.adapter, 0)
        parameters = list(trained_parameters(model).values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    prune_last_layer(decoder_layers(model)[-1])
    apply_saving(model.train(), Saving(case.checkpointing))
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    batch = packed_of(batch_of(case))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # begins VmHWM anew
    for _step in range(2):
        packed_loss(model, batch).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(measured((*CASES, SMALL, SMALL_FULL)[arguments.case]))
        return
    rows = []
    for number, case in enumerate(CASES):
        start = time.perf_counter()
        alive = dry_run(setup_of(case), batch_of(case), Saving(case.checkpointing), look=False).worst.peak
        seconds = time.perf_counter() - start
        predicted = round(alive * (1 + ALLOCATOR["cpu"]))
        resident, given_back = measured_apart(number, ONE_THREAD), measured_apart(number, ONE_THREAD | GIVEN_BACK)
        row = {
            **asdict(case),
            "predicted": predicted,
            "resident": resident,
            "off": round(predicted / resident - 1, 3),
            "predicted_alive": alive,
            "resident_given_back": given_back,
            "off_alive": round(alive / given_back - 1, 3),
            "dry_run_s": round(seconds, 1),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    machine = {"processor": platform.processor(), "threads": 1}
    write_json(RESULT, {"machine": machine, "versions": versions(), "cases": rows})


if __name__ == "__main__":
    main()
