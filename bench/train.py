"""Training steps of afina against those of its peers: the same chats, the same order, the same LoRA to start from; in one run.

    python bench/train.py                          workloads a, b and c; writes bench/results/train-a.json, …
    python bench/train.py --workload a --json      one of them; prints one line of JSON
    python bench/train.py --levers                 afina with each of its levers switched off alone
    python bench/train.py --growth                 time and memory over tokens, layers and ranks; a plot

What is measured and how: bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

import torch  # noqa: E402

from afina.core.files import write_json  # noqa: E402
from afina.core.hardware import gpus, memory, processor  # noqa: E402
from afina.core.run import versions  # noqa: E402
from bench.sides import environments  # noqa: E402
from bench.sides.contest import (  # noqa: E402
    FEWEST_QUIET,
    LONGEST_STEP_S,
    Contender,
    FailedError,
    Step,
    counted,
    largest_differences,
    step_seconds,
)
from bench.sides.environments import Environment, NoEnvironmentError, packages_in, python_of  # noqa: E402
from bench.sides.flops import Shape, needed_flops  # noqa: E402
from bench.sides.work import CLIP, RANK, RATE, ROWS_PER_STEP, WORKLOADS, Workload, count_tokens, make_work  # noqa: E402

RESULTS = BENCH / "results"
CACHE = BENCH.parent / ".cache" / "bench"
GIB = 2**30
STEPS, MOST_STEPS = 5, 18  # 18 steps use each chat at most once
QUIET = 0.05
# Losses of one step may differ by this much: summing in another order, and for bfloat16 the rounding of each activation.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-3}
AFINA, COMPILED, LEANEST, TRL_DEFAULT = "afina", "afina, compiled", "afina, leanest", "TRL, default"


@dataclass(frozen=True)
class Side:
    """A contender: ``script`` of bench/sides in ``environment`` (None: afina's own), with ``settings``.

    ``compute``: the number type that it computes in; empty where afina chooses. ``is_slow``: there is time for one step only.
    """

    name: str
    script: str
    settings: Mapping[str, Any]
    environment: Environment | None = None
    compute: str = ""
    is_slow: bool = False

    @property
    def is_ours(self) -> bool:
        return self.environment is None


@dataclass
class Found:
    """What a contender came to."""

    side: Side
    facts: Mapping[str, Any]
    ready_s: float
    steps: list[Step]
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def compute(self) -> str:
        return self.side.compute or str(self.facts["dtype"])

    @property
    def peak_gib(self) -> float:
        return round(max(step.peak_bytes for step in self.steps) / GIB, 3)


# ── Who takes part ────────────────────────────────────────────────────────────────────────────────────────────────────


def has_native_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16; without them such products are many times slower."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def ours_on_cuda(longest: int) -> list[Side]:
    """As a training on a card of 24 GiB would choose; layers computed again, four chats at once; and chat by chat with inputs of
    layers kept in RAM, about the memory that Unsloth takes.
    """
    again = {"checkpointing": "full", "micro_tokens": 4 * longest}
    least = {"checkpointing": "offload", "micro_tokens": longest}
    return [
        Side(AFINA, "afina_train.py", {"train": {}, "card": "24GiB"}),
        Side(f"{AFINA}, layers again", "afina_train.py", {"train": again}),
        Side(LEANEST, "afina_train.py", {"train": least}),
    ]


def ours() -> list[Side]:
    lean = {"checkpointing": "full", "micro_tokens": 256}
    compiled = {"prepare": {"compiled": True}, "lanes": 1}  # what `train.compile: true` comes to
    return [
        Side(AFINA, "afina_train.py", {"train": {}}),
        Side(COMPILED, "afina_train.py", {"train": {}, "levers": compiled}),
        Side(LEANEST, "afina_train.py", {"train": lean}),
    ]


def without_a_lever() -> list[Side]:
    """afina with each of the engine's levers the other way, alone."""
    levers: dict[str, dict[str, Any]] = {
        "afina, rows not packed": {"pack": False},
        "afina, beginnings not shared": {"micro_batches": {"share": False}},
        "afina, last layer not pruned": {"prepare": {"prune": False}},
        "afina, one micro-batch at a time": {"lanes": 1},
        "afina, one at a time, layers compiled": {"prepare": {"compiled": True}, "lanes": 1},
    }
    return [Side(name, "afina_train.py", {"train": {}, "levers": lever}) for name, lever in levers.items()]


def peers_on_cpu(*, native: bool) -> list[Side]:
    """TRL and LLaMA-Factory as they come and at their best.

    They come with bfloat16. Where the CPU has none they are measured a second time in float32, which is then many times faster:
    the strongest peer shall be the strongest.
    """
    padded = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    alone = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": ROWS_PER_STEP, "gradient_checkpointing": False}
    whole = {"disable_gradient_checkpointing": True}

    def trl(name: str, compute: str, config: Mapping[str, Any]) -> Side:
        return Side(name, "trl_train.py", {"config": config, "compute": compute}, environments.TRL, compute)

    def factory(name: str, compute: str, config: Mapping[str, Any]) -> Side:
        base = "base" if compute == "bfloat16" else "base-float32"
        settings = {"config": {**config, "bf16": compute == "bfloat16"}, "base": base}
        return Side(name, "llamafactory_train.py", settings, environments.LLAMA_FACTORY, compute)

    come = [
        trl(TRL_DEFAULT, "bfloat16", padded),
        factory("LLaMA-Factory, default", "bfloat16", {}),
        factory("LLaMA-Factory, no checkpointing", "bfloat16", whole),
    ]
    if native:
        return [*come, trl("TRL, best", "bfloat16", {**alone, "model_init_kwargs": {"dtype": "bfloat16"}})]
    return [
        trl(f"{TRL_DEFAULT}, float32", "float32", {**padded, "bf16": False}),
        trl("TRL, best, float32", "float32", {**alone, "bf16": False}),
        factory("LLaMA-Factory, default, float32", "float32", {}),
        factory("LLaMA-Factory, no checkpointing, float32", "float32", whole),
        *(replace(side, is_slow=True) for side in come),
    ]


def everyone_on_cuda(work: Workload) -> list[Side]:
    return [*ours_on_cuda(work.longest), *peers_on_cuda(work.rows_per_step)]


def peers_on_cuda(rows_per_step: int) -> list[Side]:
    """Unsloth, TRL, TRL with Liger's kernels and torchtune, one chat at a time."""
    alone = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": rows_per_step}
    trl = {"config": alone, "compute": "bfloat16"}
    liger = {"config": {**alone, "use_liger_kernel": True}, "compute": "bfloat16"}
    return [
        Side("Unsloth", "unsloth_train.py", {"config": alone}, environments.UNSLOTH, "bfloat16"),
        Side(TRL_DEFAULT, "trl_train.py", trl, environments.TRL, "bfloat16"),
        Side("TRL, Liger", "trl_train.py", liger, environments.LIGER, "bfloat16"),
        Side("torchtune", "torchtune_train.py", {}, environments.TORCHTUNE, "bfloat16"),
    ]


# ── The contest ───────────────────────────────────────────────────────────────────────────────────────────────────────


Pair = tuple[Found, Contender]


@dataclass
class Contest:
    """One workload's run: who takes part, and what those who could not said."""

    work: Workload
    folder: Path
    steps: int
    limit: float
    here: bool
    patience: float
    tell: Callable[[str], None]
    left_out: dict[str, str] = field(default_factory=dict)

    def run(self, sides: Sequence[Side]) -> tuple[dict[str, Found], dict[str, float]]:
        """Every side's steps in turn, then one step of each slow one; and the fastest matrix products, FLOP/s a number type."""
        first = [side for side in sides if not side.is_slow]
        if self.work.needs_cuda:  # large weights: what each does with them before its first step can be done at once
            with ThreadPoolExecutor() as pool:
                started = list(pool.map(self._start, first))
        else:
            started = [self._start(side) for side in first]
        taking_part = [pair for pair in started if pair]
        config = self.work.config
        peak = {"width": config["hidden_size"], "inner": config["intermediate_size"], "dtypes": ["float32", "bfloat16"]}
        products = self._start(Side("matrix products", "peak.py", peak))
        if products is None:
            raise SystemExit("error: the matrix products cannot be measured: " + self.left_out["matrix products"])
        if self.work.needs_cuda:
            taking_part = self._one_after_another(taking_part)
            products_found, contender = products
            for _number in range(FEWEST_QUIET + 1):
                self._turn(products_found, contender)
            contender.end()
        else:
            taking_part = self._in_turns(taking_part, products)
        everyone = [found for found, _contender in taking_part]
        for side in sides:
            if side.is_slow and (late := self._start(side)):
                found, contender = late
                self._turn(found, contender)
                contender.end()
                everyone += [found] if found.steps else []
        fastest, _quiet = counted(products[0].steps, self.limit)
        speeds = {
            name: statistics.median(step.more["flops_per_second"][name] for step in fastest) for name in ("float32", "bfloat16")
        }
        return {found.side.name: found for found in everyone}, speeds

    def _in_turns(self, taking_part: list[Pair], products: Pair) -> list[Pair]:
        """Everybody's steps in turn until each has enough quiet ones; those that came to the end."""
        for number in range(1, MOST_STEPS + 1):
            for found, contender in [*taking_part, products]:
                self._turn(found, contender)
            taking_part = [pair for pair in taking_part if pair[0].side.name not in self.left_out]
            if number > self.steps and all(self._has_enough(found) for found, _contender in taking_part):
                break
        for _found, contender in [*taking_part, products]:
            contender.end()
        return taking_part

    def _one_after_another(self, taking_part: list[Pair]) -> list[Pair]:
        """On a GPU, which nobody else uses: each makes its steps and gives its memory back before the next one begins."""
        for found, contender in taking_part:
            while len(found.steps) <= self.steps and found.side.name not in self.left_out:
                self._turn(found, contender)
            contender.end()
        return [pair for pair in taking_part if pair[0].side.name not in self.left_out]

    def _has_enough(self, found: Found) -> bool:
        steps, quiet = counted(found.steps, self.limit)
        return quiet and len(steps) >= self.steps

    def _start(self, side: Side) -> Pair | None:
        """The side's process, ready for its first step; None where it cannot be had, with the reason in ``left_out``."""
        settings = {
            "work": str(self.folder),
            "quantize": self.work.quantize,
            "longest": self.work.longest,
            "rate": RATE,
            "clip": CLIP,
            "rank": RANK,
            "rows_per_step": self.work.rows_per_step,
            "steps": MOST_STEPS,
            **side.settings,
        }
        logs = CACHE / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        path = [str(BENCH.parent), *([str(BENCH.parent / "src")] if side.is_ours else [])]
        path += [os.environ["PYTHONPATH"]] if self.here and "PYTHONPATH" in os.environ else []
        surroundings = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "TOKENIZERS_PARALLELISM": "false",
        }
        try:
            apart = side.environment is not None and not self.here
            python = python_of(side.environment, CACHE, self.tell) if apart and side.environment else Path(sys.executable)
            command: list[str | Path] = [python, "-P", BENCH / "sides" / side.script, json.dumps(settings)]
            log = logs / f"{side.name.replace(', ', '-').replace(' ', '-')}.txt"
            contender = Contender(command, surroundings, log, self.patience)
        except (NoEnvironmentError, FailedError) as error:
            self._leave_out(side, str(error))
            return None
        packages = packages_in(python) if side.environment else {}
        self.tell(f"{side.name}: ready after {contender.ready_s:.0f} s, {contender.facts}")
        return Found(side, contender.facts, contender.ready_s, contender.steps, packages), contender

    def _turn(self, found: Found, contender: Contender) -> None:
        try:
            step = contender.take_turn()
        except FailedError as error:
            self._leave_out(found.side, str(error))
            contender.end()
            return
        loss = f"loss {step.loss:.5f}, gradient {step.gradient_norm:.4f}, " if step.loss else ""
        self.tell(
            f"{step.number:>3} {found.side.name:<42} {step.seconds:8.2f} s, {loss}{step.peak_bytes / GIB:.2f} GiB, "
            f"others {step.foreign:.1%}"
        )

    def _leave_out(self, side: Side, reason: str) -> None:
        self.left_out[side.name] = reason
        self.tell(f"left out: {side.name}: {reason}")


# ── What it came to ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Counts:
    """Tokens and trained tokens of each chat of the workload, in order."""

    rows: list[tuple[int, int]]
    rows_per_step: int = ROWS_PER_STEP

    @classmethod
    def read(cls, chats: Path, rows_per_step: int = ROWS_PER_STEP) -> Counts:
        lines = chats.read_text(encoding="utf-8").splitlines()
        return cls([count_tokens(json.loads(line)["messages"]) for line in lines], rows_per_step)

    def of_step(self, number: int) -> list[tuple[int, int]]:
        return self.rows[(number - 1) * self.rows_per_step : number * self.rows_per_step]

    @property
    def tokens(self) -> list[int]:
        return [sum(tokens for tokens, _trained in self.of_step(number)) for number in range(1, MOST_STEPS + 1)]

    @property
    def trained(self) -> list[int]:
        return [sum(trained for _tokens, trained in self.of_step(number)) for number in range(1, MOST_STEPS + 1)]


def report(found: Found, counts: Counts, shape: Shape, speeds: Mapping[str, float], limit: float) -> dict[str, Any]:
    """All that is known of one contender."""
    steps, quiet = counted(found.steps, limit)
    mean = statistics.mean(counts.tokens)
    seconds = step_seconds(steps, counts.tokens, mean)
    rate = statistics.median(needed_flops(shape, RANK, counts.of_step(step.number)) / step.seconds for step in steps)
    done = [step.more["flops"] / step.seconds for step in steps if "flops" in step.more]
    return {
        "step_s": round(seconds, 4),
        "tokens_per_second": round(mean / seconds, 1),
        "trained_tokens_per_second": round(statistics.mean(counts.trained) / seconds, 1),
        "peak_gib": found.peak_gib,
        "mfu": round(rate / speeds[found.compute], 4),
        **({"mfu_with_all_that_was_computed": round(statistics.median(done) / speeds[found.compute], 4)} if done else {}),
        "compute": found.compute,
        "counted_steps": [step.number for step in steps],
        "quiet": quiet,
        "ready_s": found.ready_s,
        "first_step_s": round(found.steps[0].seconds, 2),
        "losses": [round(step.loss, 6) for step in found.steps],
        "gradient_norms": [round(step.gradient_norm, 5) for step in found.steps],
        "seconds": [round(step.seconds, 3) for step in found.steps],
        "cpu_seconds": [round(step.cpu_seconds, 3) for step in found.steps],
        "foreign": [step.foreign for step in found.steps],
        "facts": dict(found.facts),
        "settings": dict(found.side.settings),
        "packages": dict(found.packages),
    }


def summary(name: str, found: Mapping[str, Found], reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The bench in a line; None for what was not measured. Ratios above 1 mean that afina is faster.

    ``ratio_trl_default`` is against TRL's defaults in the faster one of the number types that they were measured in.
    """
    peers = {side: reports[side]["step_s"] for side, one in found.items() if not one.side.is_ours}
    ours, compiled, lean = reports.get(AFINA), reports.get(COMPILED), reports.get(LEANEST)
    default = [seconds for side, seconds in peers.items() if side.startswith(TRL_DEFAULT)]

    def ratio(theirs: Sequence[float], ours: Mapping[str, Any] | None) -> float | None:
        return round(min(theirs) / ours["step_s"], 3) if ours and theirs else None

    return {
        "workload": name,
        "afina_step_s": ours["step_s"] if ours else None,
        "peers": peers,
        "ratio_trl_default": ratio(default, ours),
        "ratio_best_peer": ratio(list(peers.values()), ours),
        "peak_gib": ours["peak_gib"] if ours else None,
        "peer_peak_gib": {side: reports[side]["peak_gib"] for side in peers},
        "mfu": ours["mfu"] if ours else None,
        "losses_agree": losses_agree(found),
        "grad_norm": ours["gradient_norms"][-1] if ours else None,
        "compiled_step_s": compiled["step_s"] if compiled else None,
        "compiled_ratio_best_peer": ratio(list(peers.values()), compiled),
        "leanest_step_s": lean["step_s"] if lean else None,
        "leanest_peak_gib": lean["peak_gib"] if lean else None,
        "quiet": all(one["quiet"] for one in reports.values()),
    }


def losses_agree(found: Mapping[str, Found]) -> bool:
    """Whether all trained on the same: each loss within its number type's tolerance of the median, and each gradient there."""
    differences = largest_differences({name: [step.loss for step in one.steps] for name, one in found.items()})
    return all(
        differences[name] <= TOLERANCE[one.compute] and all(step.gradient_norm > 0 for step in one.steps)
        for name, one in found.items()
    )


def losses_fall(found: Mapping[str, Found]) -> dict[str, bool]:
    """Whether the mean of the last two losses lies below the first, where there are three."""
    return {
        name: statistics.mean(step.loss for step in one.steps[-2:]) < one.steps[0].loss
        for name, one in found.items()
        if len(one.steps) > 2
    }


def hardware() -> dict[str, Any]:
    there = memory()
    return {
        "processor": processor().name,
        "cores": processor().cores,
        "native_bfloat16": has_native_bfloat16(),
        "memory_gib": round(there.total_bytes / GIB, 1) if there else None,
        "gpus": [gpu.name for gpu in gpus()],
    }


def compare(name: str, sides: Sequence[Side], options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """One workload, made, run and written down; gives back the line."""
    work = WORKLOADS[name]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="afina-bench-") as place:
        folder = Path(place)
        tell(f"== {name}: {work.what}")
        make_work(folder, work)
        counts = Counts.read(folder / "chats.jsonl", work.rows_per_step)
        contest = Contest(work, folder, options.steps, options.quiet, options.here, options.patience, tell)
        if options.no_slow:
            contest.left_out |= {side.name: "slow: --no-slow" for side in sides if side.is_slow}
        found, speeds = contest.run([side for side in sides if side.name not in contest.left_out])
    if not found:
        raise SystemExit(f"error: nobody could take part: {contest.left_out}")
    shape = Shape.of(work.config)
    reports = {side: report(one, counts, shape, speeds, options.quiet) for side, one in found.items()}
    line = summary(name, found, reports)
    losses = {side: [step.loss for step in one.steps] for side, one in found.items()}
    result = {
        "what": f"{work.what}; {work.rows_per_step} chats a step; see bench/README.md",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "versions": versions(),
        "matmul_flops_per_second": {dtype: round(speed) for dtype, speed in speeds.items()},
        "tokens_per_step": round(statistics.mean(counts.tokens), 1),
        "needed_flops_per_step": round(
            statistics.mean(needed_flops(shape, RANK, counts.of_step(number)) for number in range(1, MOST_STEPS + 1))
        ),
        "foreign_limit": options.quiet,
        "loss_tolerance": TOLERANCE,
        "largest_loss_difference": {side: round(value, 7) for side, value in largest_differences(losses).items()},
        "losses_fall": losses_fall(found),
        "left_out": contest.left_out,
        "one_step_only": [side for side, one in found.items() if one.side.is_slow],
        "took_s": round(time.perf_counter() - started),
        "contenders": reports,
        **line,
    }
    if options.only is None:  # a part of them is for looking
        write_json(RESULTS / f"{'levers' if options.levers else 'train'}-{name}.json", result)
    for side, one in reports.items():
        tell(
            f"{side:<42} {one['step_s']:8.2f} s a step, {one['tokens_per_second']:8,.0f} tokens/s, MFU {one['mfu']:.0%}, "
            f"{one['peak_gib']:.2f} GiB{'' if one['quiet'] else ', never quiet'}"
        )
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workload", choices=sorted(WORKLOADS), help="the default is all that this machine can do")
    parser.add_argument("--only", help="contenders whose name begins with this; nothing is written")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"quiet steps of each; at most {MOST_STEPS - 1}")
    parser.add_argument("--quiet", type=float, default=QUIET, help="share of the machine that others may use during a step")
    parser.add_argument("--no-slow", action="store_true", help="without those that there is time for one step of only")
    parser.add_argument("--here", action="store_true", help="peers from this Python's own packages; nothing is installed")
    parser.add_argument("--patience", type=float, default=LONGEST_STEP_S, help="seconds that a step, or a start, may take")
    parser.add_argument("--levers", action="store_true", help="afina alone, with each lever switched off alone")
    parser.add_argument("--growth", action="store_true", help="afina alone, over tokens, layers and ranks")
    parser.add_argument("--json", action="store_true", help="print nothing but the last lines")
    options = parser.parse_args()
    if not 1 <= options.steps < MOST_STEPS:
        parser.error(f"--steps is 1 to {MOST_STEPS - 1}")
    if not Path("/proc/stat").is_file():
        raise SystemExit("error: the load of the machine is read from /proc/stat, which only Linux has")

    def tell(text: str) -> None:
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    if options.growth:
        from bench.sides.growth import grow

        grow(RESULTS, CACHE, tell)
        return
    cuda = torch.cuda.is_available()
    names = [options.workload] if options.workload else [n for n, work in WORKLOADS.items() if work.needs_cuda == cuda]
    if not cuda:
        tell("left out, because there is no CUDA device: Unsloth, Liger, torchtune and Llama-3.1-8B's shape (workloads 8b-…)")
        if wrong := [name for name in names if WORKLOADS[name].needs_cuda]:
            parser.error(f"workload {', '.join(wrong)} needs a CUDA device")
    if options.levers:
        sides = [*ours()[:1], *without_a_lever()]
    else:
        sides = [] if cuda else [*ours(), *peers_on_cpu(native=has_native_bfloat16())]
    for name in names:
        taking_part = sides or everyone_on_cuda(WORKLOADS[name])
        chosen = [side for side in taking_part if options.only is None or side.name.lower().startswith(options.only.lower())]
        if not chosen:
            parser.error(f"nobody is called {options.only}; there are {', '.join(side.name for side in taking_part)}")
        print(json.dumps(compare(name, chosen, options, tell)), flush=True)


if __name__ == "__main__":
    main()
