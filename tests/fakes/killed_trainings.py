"""Trains again and again and kills itself at random moments, as a program: what tests/train/test_killed.py starts.

    python -m tests.fakes.killed_trainings BASE FOLDER KILLS SEED lora|lanes|full|compiled [cuda]

Each training runs in a process of its own: forked here, where torch is loaded already; where that cannot stand a fork (CUDA, the
compiler's own processes), started anew and killed once it is at work. The last line of the output is JSON:
``kills`` that hit a training at work, ``finished`` trainings, how many of these were ``equal`` bit for bit to the one that was
left alone, and ``resumed``, how many started from a checkpoint.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from afina.train.lanes import Lanes
from tests.fakes.training import ADAPTER, ALL_WEIGHTS, PLAIN, run_training, weights_of


def main(base: Path, folder: Path, wanted: int, seed: int, method: str, device: str = "cpu") -> None:
    dice = random.Random(seed)
    adapter = ALL_WEIGHTS if method == "full" else ADAPTER
    settings: dict[str, Any] = {"adapter": adapter, "save_every": 1, "epochs": 3, "neftune": 5.0}
    if device == "cuda":
        half = {"dtype": torch.bfloat16, "adapter": ADAPTER.model_copy(update={"quantize": "nf4"})}
        settings |= {"device": torch.device(device), "save_every": 4, "epochs": 40, "neftune": 0.0, "evaluate_every": 20, **half}
    if method == "lanes":
        settings |= {"adapter": PLAIN, "neftune": 0.0, "lanes": Lanes(2), "micro_tokens": 64}
    if method == "compiled":
        settings["compiled"] = True
    killed, seconds = run_and_kill(base, folder / "alone", None, settings)
    assert not killed
    alone = weights_of(folder / "alone")
    kills = finished = equal = resumed = 0
    while kills < wanted or finished == 0:
        place = folder / f"round-{finished}"
        while True:
            resumed += any(place.glob("checkpoints/step-*"))
            after = dice.uniform(0, seconds) if kills < wanted else None
            killed, _seconds = run_and_kill(base, place, after, settings)
            if not killed:
                break
            kills += 1
        finished += 1
        left = weights_of(place)
        equal += left.keys() == alone.keys() and all(torch.equal(left[name], alone[name]) for name in alone)
    print(json.dumps({"kills": kills, "finished": finished, "equal": equal, "resumed": resumed}))


def run_and_kill(base: Path, folder: Path, after: float | None, settings: dict[str, Any]) -> tuple[bool, float]:
    """Whether the training was killed ``after`` these seconds, and how many it worked; False where it came to its end."""
    sys.stdout.flush()
    if {"device", "compiled"} & settings.keys():
        return start_and_kill(base, folder, after, settings)
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        run_training(base, folder, **settings)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)  # a finished child waits for us: its number is still its own
    _process, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status), time.monotonic() - started


def start_and_kill(base: Path, folder: Path, after: float | None, settings: dict[str, Any]) -> tuple[bool, float]:
    """The same by a new Python. Its work begins with its first checkpoint: to start, and to compile, takes it far longer."""

    def checkpoints() -> set[Path]:
        return set(folder.glob("checkpoints/step-*"))

    before = checkpoints()
    child = multiprocessing.get_context("spawn").Process(target=run_training, args=(base, folder), kwargs=settings)
    child.start()
    while child.is_alive() and checkpoints() <= before:
        time.sleep(0.005)
    started = time.monotonic()
    child.join(after)
    child.kill()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0, time.monotonic() - started


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
