"""The comparison on four sets of others' data, with the small bases that there are: every metric, contender and interval.

    python bench/compare.py                      writes bench/results/compare.json
    python bench/compare.py --only bitext        prints one table and writes nothing
    python bench/compare.py --answers            answers a second by torch and by llama.cpp, for the same questions; adds them

- ``bitext``: utterance → intent in English, 27 labels, on a real model of 260,000 parameters (stories260K)
- ``gsm8k``: school arithmetic, the number behind ``####``, on the embedded model
- ``recetas``: Spanish recipes, name and ingredients → steps, on the embedded model
- ``xquad``: questions about Spanish articles, which are the documents, on the embedded model

The bases are far too small to know or to reckon. What is shown is that labels, numbers, form and knowledge are each measured by
what fits them, and where the techniques part. Runs are made below ``.cache/bench/compare`` and gone on with where they stand.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

from afina.compare.comparison import Comparison, choose_questions, title  # noqa: E402
from afina.core.files import read_json, write_json  # noqa: E402
from afina.core.run import versions  # noqa: E402
from afina.data.conversation import Message  # noqa: E402
from afina.data.store import load_conversations  # noqa: E402
from afina.export.gguf import write_gguf  # noqa: E402
from afina.infer.answer import Answer  # noqa: E402
from afina.infer.llama import LlamaServer  # noqa: E402
from afina.infer.several import several  # noqa: E402
from afina.infer.torch_local import TorchEngine  # noqa: E402
from afina.model.base import resolve_base  # noqa: E402
from afina.model.load import load_model  # noqa: E402
from afina.model.merge import MergedWeights  # noqa: E402
from afina.model.weights import Checkpoint  # noqa: E402
from afina.recipe.load import validate  # noqa: E402
from afina.stages.compare import compare  # noqa: E402
from afina.stages.prepare import prepare  # noqa: E402
from afina.stages.renderer import build_renderer  # noqa: E402
from afina.stages.train import train  # noqa: E402
from afina.stages.workspace import working_in  # noqa: E402
from bench.sides.work import WORKLOADS  # noqa: E402

DATA = BENCH.parents[1] / "shared" / "data"
RUNS = BENCH.parent / ".cache" / "bench" / "compare"
QUESTIONS, ROUNDS = 40, 3  # of a set, and how often each engine answers them
SLOTS = (1, 4, 8)  # conversations that llama.cpp answers at once
TIMED = ("gsm8k", "recetas", "xquad")
LARGER, LARGER_QUESTIONS = "gsm8k, 108 million parameters", 16

SETS: dict[str, dict[str, Any]] = {
    "bitext": {
        "base": str(DATA / "models" / "stories260K-hf"),
        "data": {"examples": [str(DATA / "ds-bitext" / "data" / "train" / "*.csv")], "limit": 600},
        "train": {"epochs": 6, "learning_rate": 5e-3, "batch_tokens": 2048},
        "compare": {"max_new_tokens": 24},
    },
    "gsm8k": {
        "base": "tiny",
        "data": {"examples": [str(DATA / "ds-gsm8k" / "train.jsonl")], "limit": 300, "split": {"test": 0.2}},
        "train": {"max_steps": 12, "learning_rate": 3e-3},
        "compare": {"max_new_tokens": 120},
    },
    "recetas": {
        "base": "tiny",
        "data": {
            "examples": [str(DATA / "es-recetas" / "EntrenamientoLLM_RecetasDeLaAbuela" / "*.csv")],
            "map": {"prompt": "¿Cómo se prepara {Nombre}? Tengo: {Ingredientes}", "answer": "{Pasos}"},
            "limit": 150,
            "max_broken": 0.5,
            "split": {"test": 0.3},
        },
        "train": {"max_steps": 8, "learning_rate": 3e-3},
        "compare": {"max_new_tokens": 120},
    },
    "xquad": {
        "base": "tiny",
        "data": {
            "examples": [str(DATA / "rag-xquad" / "qa-es.jsonl")],
            "documents": [str(DATA / "rag-xquad" / "docs-es")],
            "limit": 300,
            "split": {"test": 0.3},
        },
        "train": {"epochs": 3, "learning_rate": 3e-3},
        "compare": {"max_new_tokens": 32},
    },
}


def measured(name: str, settings: Mapping[str, Any]) -> tuple[Comparison, float]:
    """The comparison of one set, and its seconds; the stages before it are not counted."""
    recipe = validate({"name": f"bench-{name}", **settings}, "bench/compare.py")
    with working_in(recipe, RUNS) as (run, events):
        prepare(recipe, run, events)
        train(recipe, run, events)
        start = time.perf_counter()
        comparison = compare(recipe, run, events).comparison
        return comparison, time.perf_counter() - start


def table(comparison: Comparison) -> dict[str, Any]:
    """The comparison as it is kept: value, low and high of each metric and contender, over all and by kind, with its verdict."""
    told = {(cell.metric, cell.contender, cell.kind): cell.verdict for cell in comparison.differences}
    kinds: dict[str, Any] = {}
    for cell in comparison.measured:
        ends = [_rounded(end) for end in (cell.interval.value, cell.interval.low, cell.interval.high)]
        verdict = told.get((cell.metric, cell.contender, cell.kind))
        row = kinds.setdefault(cell.kind or "all", {}).setdefault(cell.metric, {})
        row[cell.contender] = {"interval": ends, **({"against the base": verdict} if verdict else {})}
    typical = {
        one.contender: {
            "prompt tokens": one.prompt_tokens,
            "seconds": round(one.seconds, 3),
            "seconds of 1000": round(1000 * one.mean_seconds, 1),
        }
        for one in comparison.typical
    }
    rules = [{"rule": rule.rule, **{name: round(share, 3) for name, share in rule.shares.items()}} for rule in comparison.rules]
    return {
        "held out": comparison.held_out,
        "answered": comparison.examples,
        "kinds": dict(comparison.kinds),
        "why": {reason.metric: reason.text for reason in comparison.reasons},
        "measured": kinds,
        "cost": typical,
        "rules": rules,
    }


def _rounded(end: float) -> float | None:
    """Four digits; None where there is no end, as with one example."""
    return round(end, 4) if math.isfinite(end) else None


def shown(name: str, comparison: Comparison) -> str:
    """The table as lines of text."""
    lines = [f"{name}: {comparison.held_out} held out, {comparison.examples} answered"]
    lines.append(" " * 16 + "".join(f"{title(one):>24}" for one in comparison.contenders))
    for metric in comparison.metrics:
        cells = []
        for one in comparison.contenders:
            interval = comparison.intervals(metric.name).get(one)
            cells.append(f"{interval.value:.3f} ({interval.low:.3f}–{interval.high:.3f})" if interval else "–")
        lines.append(f"{metric.name:<16}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def larger_base(folder: Path) -> Path:
    """SmolLM2-135M's layers with random weights behind the embedded model's vocabulary. Its answers do not end by themselves."""
    if not folder.is_dir():
        shutil.copytree(resolve_base("tiny").folder, folder, copy_function=shutil.copyfile)
        small = transformers.LlamaConfig.from_pretrained(folder)
        taken = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
        config = transformers.LlamaConfig(**WORKLOADS["a"].config | {name: getattr(small, name) for name in taken})
        torch.manual_seed(0)
        model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)
    return folder


def answers_a_second(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The untrained base on the held-out questions of a set, each way, with the threads that afina gives it: the middle of three
    rounds, in which they take turns.
    """
    recipe = validate({"name": f"bench-{name}", **settings}, "bench/compare.py")
    with working_in(recipe, RUNS) as (run, events):
        prepare(recipe, run, events)
        held_out = load_conversations(run.stage("prepare"), "test")
    base = resolve_base(recipe.base)
    renderer = build_renderer(recipe, base)
    prompts = [one.prompt for one in choose_questions(held_out, recipe.compare.examples, recipe.data.split.seed)]
    most = recipe.compare.max_new_tokens
    engine = TorchEngine(load_model(base, dtype=torch.float32, device=torch.device("cpu")), renderer.tokenizer, renderer.template)
    path = RUNS / f"{base.name}.gguf"
    write_gguf(
        path,
        base=base,
        weights=MergedWeights(Checkpoint(base.folder)),
        tokenizer=renderer.tokenizer,
        template=renderer.template,
        kind="f16",
        name=base.name,
    )
    context = max(len(renderer.prompt_ids(prompt)) for prompt in prompts) + most
    slots = {f"llama.cpp, {count} at once": count for count in SLOTS}
    with ExitStack() as stack:
        ask: dict[str, Callable[[], list[Answer]]] = {
            "torch, in batches": lambda: engine.answer_many(prompts, most),
            "torch, one by one": lambda: [engine.answer(prompt, most) for prompt in prompts],
        }
        for title_of, count in slots.items():
            server = stack.enter_context(LlamaServer(path, context=context, slots=count))
            ask[title_of] = partial(_asked_at_once, server, prompts, most, count)
        rounds = [{side: _timed(one) for side, one in ask.items()} for _round in range(ROUNDS)]
    path.unlink()
    first = rounds[0]["torch, in batches"][1]
    found: dict[str, Any] = {"questions": len(prompts), "cores": os.cpu_count()}
    for side in ask:
        seconds = statistics.median(one[side][0] for one in rounds)
        answers = rounds[0][side][1]
        found[side] = {
            "answers a second": round(len(prompts) / seconds, 2),
            "answer tokens": sum(one.tokens for one in answers),
            "tokens a second": round(sum(one.tokens for one in answers) / seconds, 1),
            "same text": sum(one.text == other.text for one, other in zip(answers, first, strict=True)),
        }
    found["prompt tokens"] = sum(len(renderer.prompt_ids(prompt)) for prompt in prompts)
    best = max(found[side]["answers a second"] for side in slots)
    found["torch in batches / llama.cpp at its best"] = round(found["torch, in batches"]["answers a second"] / best, 2)
    return found


def _asked_at_once(server: LlamaServer, prompts: Sequence[Sequence[Message]], most: int, count: int) -> list[Answer]:
    return list(several(lambda prompt: server.answer(prompt, most), prompts, count))


def _timed(ask: Callable[[], list[Answer]]) -> tuple[float, list[Answer]]:
    start = time.perf_counter()
    answers = ask()
    return time.perf_counter() - start, answers


def hardware() -> dict[str, Any]:
    """What ran: the processor's name and its cores."""
    names = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count()}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SETS), help="one set, and write nothing")
    parser.add_argument("--answers", action="store_true", help="only answers a second by torch and by llama.cpp")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(
            f"error: there is no data in {DATA}\nwhat to do: put ds-bitext, ds-gsm8k, es-recetas, rag-xquad and models there"
        )
    path = BENCH / "results" / "compare.json"
    if options.answers:
        asked = {name: {**SETS[name], "compare": {**SETS[name]["compare"], "examples": QUESTIONS}} for name in TIMED}
        speed = {name: answers_a_second(name, settings) for name, settings in asked.items()}
        larger = {
            **SETS["gsm8k"],
            "name": "bench-larger",
            "base": str(larger_base(RUNS / "larger")),
            "compare": {"examples": LARGER_QUESTIONS, "max_new_tokens": 40},
        }
        speed[LARGER] = answers_a_second(LARGER, larger)
        print(json.dumps(speed, ensure_ascii=False, indent=2))
        write_json(path, {**(read_json(path) if path.is_file() else {}), "answers": {"hardware": hardware(), **speed}})
        return
    results: dict[str, Any] = {}
    for name, settings in SETS.items():
        if options.only in (None, name):
            comparison, seconds = measured(name, settings)
            results[name] = {**table(comparison), "compare_s": round(seconds, 1)}
            print(shown(name, comparison), end="\n\n", flush=True)
    if options.only is None:
        record = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "hardware": hardware(),
            "versions": versions(),
            "sets": results,
        }
        before = read_json(path) if path.is_file() else {}
        write_json(path, {**record, **({"answers": before["answers"]} if "answers" in before else {})})


if __name__ == "__main__":
    main()
