"""From a model's folder to a quantized GGUF: ours in one step, against llama.cpp's converter and quantizer one after the other.

    python bench/export.py              a random model of Llama-3.2-1B's shape; writes bench/results/export.json
    python bench/export.py --json       prints nothing but the last line

The peer is what people do by hand: ``convert_hf_to_gguf.py --outtype bf16`` (from the source package of llama-cpp-python), then
``llama_model_quantize`` on all cores (cyllama's wheel). Ours is ``write_gguf`` in a process of its own, imports included, as the
peer's are. Both start from files that were just read once, take turns, and write to the same disk. Memory is that of all
processes of a side together (PSS). The files' tensors are compared byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

from afina.core.files import write_json  # noqa: E402
from afina.core.hardware import memory, processor  # noqa: E402
from afina.core.run import versions  # noqa: E402
from afina.export.mix import file_type  # noqa: E402
from afina.recipe.kinds import Kind  # noqa: E402
from bench.sides.watch import MemoryWatch  # noqa: E402
from tests.fakes.llama_convert import convert_command, converter  # noqa: E402

TOKENIZER = BENCH.parents[1] / "shared" / "data" / "tokenizers" / "qwen2.5"
GIB = 2**30
KINDS: tuple[Kind, ...] = ("q4_k_m", "q8_0")
TURNS = 3

OURS = """
import sys
from pathlib import Path
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export.gguf import write_gguf
from afina.model.base import open_folder
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint

folder, target, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
tokenizer = Tokenizer.load(folder)
weights = MergedWeights(Checkpoint(folder))
template = choose_template("auto", tokenizer)
write_gguf(
    target, base=open_folder(folder, "base"), weights=weights, tokenizer=tokenizer, template=template, kind=kind, name="bench"
)
"""
QUANTIZE = """
import sys
import cyllama.llama.llama_cpp as llama

llama.disable_logging()
wanted = llama.LlamaModelQuantizeParams()
wanted.ftype, wanted.nthread = int(sys.argv[3]), int(sys.argv[4])
llama.model_quantize(sys.argv[1], sys.argv[2], wanted)
"""


@dataclass(frozen=True)
class Measured:
    """Seconds of each turn, of all processes' cores together, and memory at most."""

    seconds: list[float]
    cpu_seconds: list[float]
    peak_gib: float

    @property
    def median_s(self) -> float:
        return round(statistics.median(self.seconds), 2)


def make_model(folder: Path, layers: int) -> int:
    """Llama-3.2-1B's shape with Qwen2.5's tokenizer and vocabulary, random weights in bfloat16; the number of parameters."""
    if not TOKENIZER.is_dir():
        sys.exit(f"error: there is no tokenizer in {TOKENIZER}\nwhat to do: put the files of Qwen2.5's tokenizer there")
    config = transformers.LlamaConfig(
        vocab_size=151_936,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131_072,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=151_645,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    folder.mkdir()
    config.save_pretrained(folder)
    for file in TOKENIZER.iterdir():
        if file.name not in ("CHECK.json", "vectors.json"):
            (folder / file.name).write_bytes(file.read_bytes())
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in transformers.LlamaForCausalLM(config).state_dict().items()}
    shapes.pop("lm_head.weight")
    generator = torch.Generator().manual_seed(7)
    weights = {
        name: (torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=generator) * 0.02).bfloat16()
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return sum(tensor.numel() for tensor in weights.values())


def timed(commands: list[list[str]], environment: dict[str, str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak bytes of the commands, one after another. Ends the bench where one fails."""
    start, before, peak = time.perf_counter(), os.times(), 0.0
    for command in commands:
        with tempfile.TemporaryFile() as said:
            child = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, **environment})
            with MemoryWatch(child.pid) as watch:
                child.wait()
            if child.returncode:
                said.seek(0)
                sys.exit(f"error: ended with {child.returncode}: {' '.join(command)[:200]}\n{said.read().decode()[-2000:]}")
        peak = max(peak, watch.peak_bytes)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, spent, peak


def measure(folder: Path, work: Path, kind: Kind, turns: int, tell: Any) -> tuple[Measured, Measured, bool]:
    """Ours, theirs, and whether the tensors of the files are the same bytes."""
    ours, theirs, middle = work / "ours.gguf", work / "theirs.gguf", work / "bf16.gguf"
    convert = convert_command(folder, work, ["bf16"])
    quantize = [sys.executable, "-c", QUANTIZE, str(middle), str(theirs), str(int(file_type(kind))), str(processor().cores)]
    sides = {
        "afina": ([[sys.executable, "-c", OURS, str(folder), str(ours), kind]], {}),
        "llama.cpp": ([convert, quantize], {"HF_HUB_OFFLINE": "1"}),
    }
    found: dict[str, list[tuple[float, float, float]]] = {side: [] for side in sides}
    for turn in range(turns):
        for side, (commands, environment) in sides.items():
            for file in (ours, theirs, middle) if side == "afina" else (theirs, middle):
                file.unlink(missing_ok=True)
            (folder / "model.safetensors").read_bytes()  # in the system's cache for both
            found[side].append(timed(commands, environment))
            seconds, spent, peak = found[side][-1]
            tell(f"{kind} {turn + 1} {side:<10} {seconds:7.1f} s, {spent:7.1f} CPU s, at most {peak / GIB:.2f} GiB")
    mine, other = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    same = len(mine.tensors) == len(other.tensors) and all(
        a.name == b.name and a.tensor_type == b.tensor_type and np.array_equal(a.data, b.data)
        for a, b in zip(mine.tensors, other.tensors, strict=False)
    )
    results = [
        Measured(
            [round(turn[0], 2) for turn in turns_of],
            [round(turn[1], 2) for turn in turns_of],
            round(max(turn[2] for turn in turns_of) / GIB, 3),
        )
        for turns_of in found.values()
    ]
    return results[0], results[1], same


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--layers", type=int, default=16, help="fewer make a smaller model; nothing is written then")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--folder", type=Path, help="where the files are made (about 8 GB); the default is the temporary folder")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    options = parser.parse_args()

    def tell(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    found: dict[Kind, tuple[Measured, Measured, bool]] = {}
    with tempfile.TemporaryDirectory(prefix="afina-bench-", dir=options.folder) as name:
        work = Path(name)
        parameters = make_model(work / "model", options.layers)
        tell(f"{parameters:,} parameters")
        for kind in KINDS:
            found[kind] = measure(work / "model", work, kind, options.turns, tell)
    ours, theirs, _same = found["q4_k_m"]
    line = {
        "ratio_time": round(ours.median_s / theirs.median_s, 3),
        "afina_peak_gib": max(mine.peak_gib for mine, _theirs, _same in found.values()),
        "peer_peak_gib": max(other.peak_gib for _ours, other, _same in found.values()),
        "byte_equal": {kind: same for kind, (_ours, _theirs, same) in found.items()},
    }
    there = memory()
    result = {
        "what": "a folder of safetensors in bfloat16 to a quantized GGUF; see the docstring of bench/export.py",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": {
            "processor": processor().name,
            "cores": processor().cores,
            "memory_gib": round(there.total_bytes / GIB, 1) if there else None,
        },
        "versions": versions() | {"cyllama": version("cyllama"), "llama.cpp's converter": converter().name},
        "parameters": parameters,
        "kinds": {
            kind: {"afina": asdict(mine), "llama.cpp": asdict(other), "ratio_time": round(mine.median_s / other.median_s, 3)}
            for kind, (mine, other, _same) in found.items()
        },
        **line,
    }
    if options.layers == 16:
        write_json(BENCH / "results" / "export.json", result)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
