"""Memory of asking torch: a model computed layer by layer against the same model whole, and a 7B to 9B model layer by layer.

    python bench/streamed.py                        a random model of a few hundred MiB, as large as an eighth of the free memory
    python bench/streamed.py --shape llama-3.1-8b   weights of zeros that take no disk; for memory and time alone

Each side is a process of its own; memory is its largest resident set (VmHWM), with Python, torch and transformers in it. The log-
probabilities of both sides are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

from afina.core.files import write_json  # noqa: E402
from afina.core.hardware import memory, processor  # noqa: E402
from afina.core.run import versions  # noqa: E402
from afina.core.units import MIB  # noqa: E402
from afina.infer.score import log_probabilities  # noqa: E402
from afina.model.base import SHAPES, open_folder  # noqa: E402
from afina.model.load import load_model, without_weights  # noqa: E402
from afina.model.streamed import Passage, StreamedModel, bytes_needed  # noqa: E402
from tests.fakes.models import write_tokenizer  # noqa: E402

ROWS, TOKENS = 8, 64
LARGEST = 600 * MIB
WIDTH, INNER = 1024, 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(path.stem for path in SHAPES.glob("*.json")))
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--side", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        ask(options.side[0], Path(options.side[1]))
        return
    with tempfile.TemporaryDirectory(prefix="afina-bench-") as place:
        folder = Path(place)
        size = empty_model(folder, options.shape) if options.shape else random_model(folder, float32_bytes())
        if not options.json:
            free = there.available_bytes // MIB if (there := memory()) else 0
            print(f"{options.shape or 'a random model'}: {size // MIB} MiB as float32, {free} MiB of memory are free", flush=True)
        sides = ["imports", "streamed"] if options.shape else ["imports", "streamed", "whole"]
        measured = {side: run_side(side, folder) for side in sides}
        base = open_folder(folder, "bench")
        result: dict[str, Any] = {
            "model": options.shape or "random",
            "model_mib": size // MIB,
            "tokens": ROWS * TOKENS,
            **{f"{side}_peak_mib": found["peak_mib"] for side, found in measured.items()},
            **{f"{side}_seconds": found["seconds"] for side, found in measured.items() if side != "imports"},
            "foretold_mib": bytes_needed(base, TOKENS) // MIB,
        }
        if not options.shape:
            streamed, whole = (np.load(folder / f"{side}.npy") for side in ("streamed", "whole"))
            result["largest_difference"] = float(np.abs(streamed - whole).max())
    machine = {"cores": processor().cores, **versions()}
    write_json(BENCH / "results" / f"streamed-{result['model']}.json", {**result, "machine": machine})
    print(json.dumps(result))


def float32_bytes() -> int:
    found = memory()
    return min(LARGEST, found.available_bytes // 8 if found else LARGEST)


def random_model(folder: Path, wanted: int) -> int:
    """Writes a Llama of about ``wanted`` bytes in float32, in bfloat16 files; the size of it."""
    vocabulary = write_tokenizer(folder)
    layer = 4 * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=max(2, wanted // layer),
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return sum(4 * parameter.numel() for parameter in model.parameters())


def empty_model(folder: Path, shape: str) -> int:
    """Writes a model of ``shape`` whose bfloat16 weights are a hole in the file; its size as float32."""
    write_tokenizer(folder)
    config = json.loads((SHAPES / f"{shape}.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    places = {
        name: tuple(one.shape) for name, one in without_weights(open_base(folder), torch.bfloat16, "eager").named_parameters()
    }
    header, end = {}, 0
    for name, sides in places.items():
        header[name] = {"dtype": "BF16", "shape": sides, "data_offsets": [end, end + 2 * prod(sides)]}
        end += 2 * prod(sides)
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return 2 * end


def open_base(folder: Path) -> Any:
    return open_folder(folder, "bench")


def run_side(side: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__)), "--side", side, str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} failed ({done.returncode}):\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ask(side: str, folder: Path) -> None:
    """One side: its log-probabilities into a file, its memory and its seconds on standard output."""
    start = time.monotonic()
    base, device = open_base(folder), torch.device("cpu")
    vocabulary = int(base.config["vocab_size"])
    rows = [tuple((7 * place + 31 * row) % vocabulary for place in range(TOKENS)) for row in range(ROWS)]
    passages = [Passage(row, (TOKENS // 2, TOKENS - 1)) for row in rows]
    if side == "streamed":
        logs = list(StreamedModel(base, device=device, folder=folder).log_probabilities(passages))
        np.save(folder / "streamed.npy", torch.cat(logs).numpy())
    elif side == "whole":
        model = load_model(base, dtype=torch.float32, device=device)
        np.save(folder / "whole.npy", torch.cat([log_probabilities(model, one.ids, one.places) for one in passages]).numpy())
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({"peak_mib": peak // 1024, "seconds": round(time.monotonic() - start, 1)}))


if __name__ == "__main__":
    main()
