"""Predicted against measured: the memory of a training step, in six configurations and more. Weights are random.

    python bench/plan.py            on this CPU; writes bench/results/plan.json
    python bench/plan.py --gpu      on an NVIDIA GPU of 40 GiB or more; writes bench/results/plan-cuda.json
    python bench/plan.py --predict FILE                 what ``--gpu`` predicts, which needs no GPU
    python bench/plan.py --gpu --predicted FILE         … and takes from there

On a CPU each configuration runs in processes of its own: the resident set at its highest during three steps (VmHWM, Linux), over
what the process held before the model was made, against the dry run's peak; once as a training allocates, once giving memory back
at once, which shows the tensors without what the allocator keeps.

On a GPU the dry run's peak is held against ``max_memory_allocated`` over two steps, and what a plan adds for the allocator
against ``max_memory_reserved``. Where a case has a limit, torch may take no more than what a card of that size would have free.
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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

from afina.core import hardware  # noqa: E402
from afina.core.environment import settle_environment  # noqa: E402
from afina.core.files import read_json, write_json  # noqa: E402
from afina.core.run import versions  # noqa: E402
from afina.core.units import GIB  # noqa: E402
from afina.data.pack import Packed  # noqa: E402
from afina.model.decoder import decoder_layers  # noqa: E402
from afina.model.lora import add_lora, lora_layers, quantize_linear, trained_parameters  # noqa: E402
from afina.model.shape import read_shape  # noqa: E402
from afina.recipe.recipe import Adapter, Train  # noqa: E402
from afina.train import attention  # noqa: E402
from afina.train.dry import Batch, Setup, dry_run, packed_of  # noqa: E402
from afina.train.estimate import ALLOCATOR  # noqa: E402
from afina.train.gradient import Gradient  # noqa: E402
from afina.train.lanes import Lanes  # noqa: E402
from afina.train.last_layer import prune_last_layer  # noqa: E402
from afina.train.noise import EmbeddingNoise  # noqa: E402
from afina.train.norms import join_norms  # noqa: E402
from afina.train.optimize import build_optimizer, build_scaler  # noqa: E402
from afina.train.plan import allocator_share, mlp_tile, side_by_side  # noqa: E402
from afina.train.repeatable import repeatable  # noqa: E402
from afina.train.saving import Checkpointing, Saving, apply_saving  # noqa: E402
from afina.train.step import packed_loss  # noqa: E402
from afina.train.target import named_gpu  # noqa: E402
from afina.train.trainee import Trainee  # noqa: E402
from bench.sides.work import WORKLOADS  # noqa: E402

# Threads wait for each other where other programs work too.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# glibc gives memory back as soon as it is free: what is then resident is what is alive.
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "THP_MEM_ALLOC_ENABLE": "0"}
RESULTS = BENCH / "results"


@dataclass(frozen=True)
class Case:
    shape: str
    quantize: Literal["none", "int8", "nf4"]
    checkpointing: Checkpointing
    tokens: int
    method: Literal["lora", "full"] = "lora"
    dtype: Literal["float32", "bfloat16"] = "float32"
    lanes: int = 1  # as many such micro-batches at once


CASES = (
    Case("tiny", "none", "none", 2048),
    Case("tiny", "none", "full", 2048),
    Case("135M", "none", "none", 512),
    Case("135M", "none", "none", 1024),
    Case("135M", "nf4", "none", 512),
    Case("135M", "none", "full", 1024),
    Case("135M", "none", "none", 1024, dtype="bfloat16"),
    Case("135M", "none", "full", 1024, dtype="bfloat16"),
    Case("tiny", "none", "none", 1024, lanes=2),
    Case("135M", "none", "none", 512, lanes=2),
    Case("135M", "none", "none", 512, dtype="bfloat16", lanes=2),
    Case("135M", "nf4", "none", 512, dtype="bfloat16", lanes=2),
)


H100 = named_gpu("h100").multiprocessors  # the card that it was measured on


@dataclass(frozen=True)
class GpuCase:
    """Rows of ``longest`` tokens, ``tokens`` in all, half of them trained (all, where ``card`` is set); a fresh LoRA of ``rank``.

    ``card``: the step may take what a plan for ``--gpu CARD`` calls free, less what it calls CUDA's context.
    """

    shape: str
    quantize: Literal["none", "nf4"]
    checkpointing: Checkpointing
    tokens: int
    longest: int
    tiled: bool = False
    rank: int = 16
    card: str = ""

    @property
    def saving(self) -> Saving:
        return Saving(self.checkpointing, mlp_tile(self.tokens) if self.tiled else None)

    @property
    def batch(self) -> Batch:
        return Batch(self.tokens, self.longest, self.tokens - 1 if self.card else self.tokens // 2)

    @property
    def setup(self) -> Setup:
        adapter = Adapter(rank=self.rank, alpha=2 * self.rank, quantize=self.quantize)
        return Setup(read_shape(self.shape), torch.bfloat16, adapter, "cuda", multiprocessors=H100)

    @property
    def limit_bytes(self) -> int:
        target = named_gpu(self.card)
        return target.free_bytes - sum(target.fixed.values())


# Neighbours of one shape are measured on the same weights.
GPU_CASES = (
    GpuCase("llama-3.1-8b", "nf4", "none", 2048, 2048),
    GpuCase("llama-3.1-8b", "nf4", "none", 4096, 1024),
    GpuCase("llama-3.1-8b", "nf4", "selective", 4096, 2048, tiled=True),
    GpuCase("llama-3.1-8b", "nf4", "full", 8192, 8192),
    GpuCase("llama-3.1-8b", "nf4", "offload", 16384, 16384, tiled=True),
    GpuCase("llama-3.1-8b", "nf4", "offload", 35328, 35328, tiled=True, rank=32, card="12GiB"),
    GpuCase("llama-3.1-8b", "none", "full", 4096, 2048),
    GpuCase("qwen3-8b", "nf4", "full", 8192, 4096, tiled=True),
    GpuCase("gemma-2-9b", "nf4", "full", 2048, 1024),
)

# What the tests look at.
SMALL = Case("tiny", "none", "none", 512)
SMALL_FULL = Case("tiny", "none", "none", 512, "full")


def config_of(shape: str) -> PreTrainedConfig:
    """``tiny``, or the shape of SmolLM2-135M."""
    if shape == "tiny":
        return read_shape("tiny")
    return transformers.LlamaConfig(**WORKLOADS["a"].config)


def setup_of(case: Case) -> Setup:
    adapter = Adapter(method=case.method, quantize=case.quantize)
    return Setup(config_of(case.shape), getattr(torch, case.dtype), adapter, "cpu")


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
    """Bytes that three real steps held at most, over what the process held before."""
    torch.manual_seed(0)
    attention.register()
    train_three_steps(replace(case, shape="tiny", tokens=64))  # what is loaded and kept by the libraries
    gc.collect()
    before = hardware.resident_bytes()
    train_three_steps(case)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    highest = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return highest - before


def train_three_steps(case: Case) -> None:
    setup = setup_of(case)
    model = AutoModelForCausalLM.from_config(setup.config, dtype=setup.dtype, attn_implementation=attention.NAME)
    model.config.use_cache = False
    if setup.adapter.quantize != "none":
        quantize_linear(model, setup.adapter.quantize, torch.device("cpu"))
    if case.method == "full":
        parameters = dict(model.named_parameters())
    else:
        model.requires_grad_(False)
        add_lora(model, setup.adapter, 0)
        parameters = trained_parameters(model)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    join_norms(model)
    prune_last_layer(decoder_layers(model)[-1])
    apply_saving(model, Saving(case.checkpointing))
    settings = Train(learning_rate=1e-3)
    optimizer = build_optimizer(model, parameters, settings)
    trainee = Trainee(parameters, publish=lambda: None, save=lambda _folder: None, has_learned=lambda: True)
    scaler = build_scaler(setup.dtype, model.device)
    gradient = Gradient(model, trainee, scaler, EmbeddingNoise(model, 0.0), settings, lanes=Lanes(case.lanes))
    batches = [packed_of(batch_of(case))] * (case.lanes if case.lanes == 1 else 2 * case.lanes)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # begins VmHWM anew
    for number in range(3):
        gradient.of_step(optimizer, batches, number)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def one_step(
    model: PreTrainedModel,
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batch: Packed,
    checkpointing: Checkpointing,
) -> tuple[float, float]:
    """Loss a trained token and the gradients' norm."""
    with repeatable(model.device, checkpointing):
        loss = packed_loss(model, batch) / len(batch.targets)
        loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item(), float(norm)


# ── on a GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def predicted(cases: tuple[GpuCase, ...]) -> list[int]:
    """Bytes that the dry run finds alive at once in each case."""
    return [dry_run(case.setup, case.batch, case.saving, look=False).worst.peak for case in cases]


def measure_on_gpu(cases: tuple[GpuCase, ...], peaks: list[int]) -> list[dict[str, Any]]:
    attention.register()
    rows: list[dict[str, Any]] = []
    model, made_for = None, None
    for case, peak in zip(cases, peaks, strict=True):
        if made_for != (case.shape, case.quantize):
            del model
            torch.cuda.empty_cache()
            model, made_for = on_gpu(case), (case.shape, case.quantize)
        assert model is not None
        row = {**asdict(case), "predicted_alive": peak, **steps_on_gpu(model, case)}
        if "allocated" in row:
            row["off"] = round(peak / row["allocated"] - 1, 4)
            row["predicted"] = round(peak * (1 + ALLOCATOR["cuda"]))
            row["off_reserved"] = round(row["predicted"] / row["reserved"] - 1, 4)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def on_gpu(case: GpuCase) -> PreTrainedModel:
    """The case's model with random weights, quantized layer by layer, and no adapter yet."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            case.setup.config, dtype=torch.bfloat16, attn_implementation=attention.NAME
        )
    model.config.use_cache = False
    model.requires_grad_(False)
    if case.quantize != "none":
        quantize_linear(model, case.quantize, torch.device("cuda"))
    return model


def steps_on_gpu(model: PreTrainedModel, case: GpuCase) -> dict[str, Any]:
    """Memory, loss, gradient norm and seconds of two steps with a fresh adapter, which is taken off again."""
    add_lora(model, case.setup.adapter, 0)
    parameters = list(trained_parameters(model).values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    join_norms(model)
    hook = prune_last_layer(decoder_layers(model)[-1])
    apply_saving(model.train(), case.saving)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    batch = packed_of(case.batch)
    drawn = torch.randint(0, model.config.vocab_size, (case.tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    batch = replace(batch, ids=drawn, targets=[drawn[place + 1] if place + 1 < case.tokens else 0 for place in batch.inputs])
    gc.collect()
    torch.cuda.empty_cache()
    if case.card:
        torch.cuda.set_per_process_memory_fraction(case.limit_bytes / torch.cuda.get_device_properties(0).total_memory)
    torch.cuda.reset_peak_memory_stats()
    losses, norms, seconds = [], [], []
    try:
        for _step in range(2):
            start = time.perf_counter()
            loss, norm = one_step(model, parameters, optimizer, batch, case.checkpointing)
            torch.cuda.synchronize()
            losses.append(loss)
            norms.append(norm)
            seconds.append(round(time.perf_counter() - start, 3))
    except torch.OutOfMemoryError as error:
        return {"out_of_memory": str(error).splitlines()[0]}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        hook.remove()
        take_off(model)
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "losses": losses,
        "gradient_norms": norms,
        "seconds": seconds,
        **({"limit": case.limit_bytes} if case.card else {}),
    }


def take_off(model: PreTrainedModel) -> None:
    """Takes off the adapter and every other way of computing than the model's own."""
    for name, layer in list(lora_layers(model)):
        parent, _dot, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.frozen)
    for module in model.modules():
        module.__dict__.pop("forward", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="on an NVIDIA GPU")
    parser.add_argument("--predict", type=Path, metavar="FILE", help="only predict what --gpu measures")
    parser.add_argument("--predicted", type=Path, metavar="FILE", help="what --predict wrote, to save time beside the GPU")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(measured((*CASES, SMALL, SMALL_FULL)[arguments.case]))
    elif arguments.predict is not None:
        write_json(arguments.predict, {"cases": list(map(asdict, GPU_CASES)), "peaks": predicted(GPU_CASES)})
    elif arguments.gpu:
        compare_on_gpu(arguments.predicted)
    else:
        compare_on_cpu()


def compare_on_gpu(file: Path | None) -> None:
    known = None if file is None else read_json(file)
    if known is not None and known["cases"] != list(map(asdict, GPU_CASES)):
        raise SystemExit(f"error: {file} is of other cases; make it again with --predict")
    rows = measure_on_gpu(GPU_CASES, predicted(GPU_CASES) if known is None else known["peaks"])
    free, total = torch.cuda.mem_get_info()
    outside = total - free - torch.cuda.memory_reserved()  # what the context and everybody else hold
    machine = {"gpu": torch.cuda.get_device_name(), "total_gib": round(total / GIB, 1), "outside_torch": outside}
    result = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "versions": versions(), "cases": rows}
    write_json(RESULTS / "plan-cuda.json", result)


def compare_on_cpu() -> None:
    settle_environment()  # as every command does; the processes of the cases inherit it
    rows = []
    for number, case in enumerate(CASES):
        start = time.perf_counter()
        one = dry_run(setup_of(case), batch_of(case), Saving(case.checkpointing), look=False)
        alive = side_by_side(one, case.lanes).worst.peak
        seconds = time.perf_counter() - start
        predicted = round(alive * (1 + allocator_share("cpu", Saving(case.checkpointing), case.lanes)))
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
    write_json(RESULTS / "plan.json", {"machine": machine, "versions": versions(), "cases": rows})


if __name__ == "__main__":
    main()
