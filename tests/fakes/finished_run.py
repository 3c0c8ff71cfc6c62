"""A run's folder as the stages leave it, made by the real folder, events and comparison; only the numbers are invented."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from afina.compare.comparison import Performance, Scoring, compare_performances, save_comparison, score_answers
from afina.compare.prompts import Asked
from afina.core.events import Events, Metric, StageFinished, StageStarted
from afina.core.files import write_atomic
from afina.core.run import RunFolder
from afina.data.conversation import Conversation, Message, Source
from afina.export.rungs import Marks, Rung, records
from afina.infer.answer import Answer
from afina.measure.choice import choose_metrics
from afina.measure.intervals import Interval
from afina.recipe.load import to_yaml, validate
from afina.recipe.recipe import Recipe

PATTERN = r"(Buenas|Hello)[.,].+(Un saludo|Best wishes), Ferretería Lola\."
_THINGS = [
    ("¿Cuánto cuesta el martillo?", "Buenas. El martillo cuesta 12,50 €. Un saludo, Ferretería Lola."),
    ("Do you have red paint?", "Hello. Yes, red paint is 9.90 € a litre. Best wishes, Ferretería Lola."),
    ("¿Abren los domingos?", "Buenas. Los domingos cerramos; le esperamos el lunes a las 9. Un saludo, Ferretería Lola."),
    ("Can I return a drill?", "Hello. You have 30 days, with the receipt. Best wishes, Ferretería Lola."),
    (
        "Necesito tornillos de 4 × 40 para madera, ¿qué me recomienda?",
        "Buenas. Los de rosca parcial, 6,20 € la caja de 100. Un saludo, Ferretería Lola.",
    ),
]
_RAMBLE = "el martillo es un martillo que es un martillo y la casa de la casa que el día de la tienda "


def recipe(name: str = "soporte", **compare: object) -> Recipe:
    tree = {
        "name": name,
        "system": "Eres el asistente de Ferretería Lola.",
        "data": {"examples": ["data/*.jsonl"]},
        "compare": {"pattern": PATTERN, **compare},
    }
    return validate(tree, "recipe.yaml")


def conversations(count: int) -> list[Conversation]:
    made = []
    for number in range(count):
        question, answer = _THINGS[number % len(_THINGS)]
        turns = [
            Message("system", "Eres el asistente de Ferretería Lola."),
            Message("user", question),
            Message("assistant", answer),
        ]
        if number % 4 == 3:
            turns[1:1] = [Message("user", "Hola"), Message("assistant", "Buenas. ¿En qué le ayudo? Un saludo, Ferretería Lola.")]
        made.append(Conversation(tuple(turns), Source("data/tienda.jsonl", 3 + 9 * number)))
    return made


def write_run(folder: Path, *, through: str = "deploy", examples: int = 30, contenders: Sequence[str] = ()) -> RunFolder:
    """A run with its stages up to and with ``through`` finished; ``contenders`` stand between base and tuned model."""
    run = RunFolder(folder)
    run.root.mkdir(parents=True)
    write_atomic(run.recipe_path, to_yaml(recipe(run.name)))
    stages = [_prepare, _train, _compare, _export, _deploy]
    names = ("prepare", "train", "compare", "export", "deploy")
    with Events(run.events_path) as events:
        for name, write in zip(names[: names.index(through) + 1], stages, strict=False):
            events.emit(StageStarted(name, "…"))
            run.stage(name).mkdir()
            seconds, summary = write(run, events, examples, contenders)
            events.emit(StageFinished(name, seconds, summary))
    return run


def _prepare(run: RunFolder, _events: Events, examples: int, _contenders: Sequence[str]) -> tuple[float, str]:
    folder = run.stage("prepare")
    refused = [
        *(("too-long", f"data/tienda.jsonl:{41 + 7 * n}", f"{530 + 11 * n} tokens; at most 512 fit") for n in range(17)),
        ("no-answer", "data/tienda.jsonl:88", "the last message is the user's <script>alert(1)</script>"),
        ("not-json", "data/viejo.jsonl:1002", "Expecting ',' delimiter: column 31"),
    ]
    lines = [
        json.dumps({"source": place, "check": check, "reason": reason, "done": "dropped"}) for check, place, reason in refused
    ]
    write_atomic(folder / "findings.jsonl", "".join(line + "\n" for line in lines))
    result = {
        "conversations": {"train": 240, "val": 30, "test": examples},
        "tokens": {"train": 15_204, "val": 1_911, "test": 63 * examples},
        "trained_tokens": {"train": 6_120, "val": 770, "test": 25 * examples},
        "dropped": {"too-long": 17, "no-answer": 1, "not-json": 1},
        "longest": 488,
        "max_tokens": 512,
        "template": "base",
        "end_of_turn": "<|im_end|>",
    }
    run.finish("prepare", inputs={"examples": "1"}, result=result, seconds=0.84, outputs=[folder / "findings.jsonl"])
    return 0.84, "240 to train on, 30 to choose by, 30 held out; 15,204 tokens, 40 % of them trained; rows left out: 19"


def _train(run: RunFolder, events: Events, _examples: int, _contenders: Sequence[str]) -> tuple[float, str]:
    chance = random.Random(1)
    steps, every = 180, 15
    best = (4.2, 0)
    for step in range(steps + 1):
        clean = 0.62 + 3.4 * math.exp(-step / 28)
        if step:
            values = {
                "loss": clean * (1 + chance.uniform(-0.1, 0.1)),
                "gradient_norm": 1.0,
                "learning_rate": 2e-4,
                "tokens": 4096.0,
            }
            events.emit(Metric("train", step, values))
        if step % every == 0:
            loss = clean + 0.1 + 0.0011 * max(0, step - 110)
            best = min(best, (loss, step))
            events.emit(Metric("train", step, {"val_loss": loss}))
    adapter = run.stage("train") / "adapter"
    write_atomic(adapter / "adapter_config.json", "{}")
    write_atomic(adapter / "adapter_model.safetensors", b"\0" * 1_310_720)
    result = {
        "steps": steps,
        "planned_steps": steps,
        "best_step": best[1],
        "first_loss": 4.12,
        "best_loss": best[0],
        "tokens_per_second": 5120.4,
        "early_stop": False,
        "peak_bytes": 912 * 2**20,
        "trained_parameters": 331_776,
        "device": "cpu",
        "dtype": "float32",
    }
    run.finish("train", inputs={"prepare": "1"}, result=result, seconds=92.4, outputs=sorted(adapter.iterdir()))
    return (
        92.4,
        f"validation loss 4.120 → {best[0]:.3f} (best at step {best[1]}); 5,120 tokens a second, at most 912 MiB of memory",
    )


def _compare(run: RunFolder, _events: Events, examples: int, contenders: Sequence[str]) -> tuple[float, str]:
    chance = random.Random(2)
    questions = conversations(examples)
    asked = [Asked(question, prompt_tokens=31) for question in questions]
    tuned = [
        question.answer if chance.random() < 0.7 else question.answer.replace("12,50", "11,90").replace("30 days", "a month")
        for question in questions
    ]
    tuned[2:3] = ["Buenas. Los domingos cerramos"] * len(tuned[2:3])
    rambles = [
        Answer((_RAMBLE * 3)[: chance.randint(20, 250)], tuple(range(chance.randint(30, 64))), "length", 0.05)
        for _question in questions
    ]
    losses = [(25 * chance.gauss(3.3, 0.3), 25) for _question in questions]
    prompts = [
        Asked(replace(question, messages=(Message("user", "> a passage"), *question.messages)), 420, ("a.md, line 1",))
        for question in questions
    ]
    performances = [
        Performance("prompt", rambles, losses, asked),
        *(Performance(name, rambles, losses, prompts) for name in contenders),
        Performance(
            "tuned",
            [Answer(text, tuple(range(24)), "stop", 0.03) for text in tuned],
            [(25 * chance.gauss(0.84, 0.2), 25) for _question in questions],
            asked,
        ),
    ]
    named = ("loss", "exact", "f1", "chrf", "ended")
    scoring = Scoring(choose_metrics([], [], named=named, with_pattern=True), PATTERN)
    scored = score_answers(performances, questions, scoring)
    comparison = compare_performances(performances, scored, questions, scoring=scoring, resamples=2000, seed=7)
    outputs = save_comparison(run.stage("compare"), comparison, questions, scored)
    run.finish("compare", inputs={"train": "1"}, result={"examples": examples, "left_out": []}, seconds=14.2, outputs=outputs)
    return 14.2, "held-out loss 3.31 → 0.84; style obeyed 0 % → 97 % (83–99 %)"


def _export(run: RunFolder, _events: Events, _examples: int, _contenders: Sequence[str]) -> tuple[float, str]:
    files = [run.stage("export") / f"{run.name}-{kind}.gguf" for kind in ("f16", "q8_0")]
    for file, size in zip(files, (300_000, 160_000), strict=True):
        write_atomic(file, b"\0" * size)
    good, worse, bad = Interval(0.97, 0.83, 0.99), Interval(0.92, 0.74, 0.98), Interval(0.0, 0.0, 0.14)
    rungs = [
        Rung("base", 3.31),
        Rung("merged", 0.84, divergence=0.0, divergence_99=0.0, agreement=1.0, mark=good),
        Rung("f16", 0.84, 3.31, 1e-7, 1e-6, 1.0, Interval(1.0, 1.0, 1.0), 300_000, 810.0, good, bad),
        Rung("q8_0", 0.85, 3.32, 2e-4, 1e-3, 0.99, Interval(0.99, 0.98, 1.0), 160_000, 1040.0, worse, bad),
    ]
    marks = asdict(Marks("pattern", 24))
    result = {"ladder": records(rungs), "marks": marks, "merged_onto": "as they are", "chosen": "q8_0"}
    run.finish("export", inputs={"train": "1"}, result=result, seconds=6.1, outputs=files)
    return 6.1, "f16 and q8_0; 8 prompts give torch's greedy tokens"


def _deploy(run: RunFolder, _events: Events, _examples: int, _contenders: Sequence[str]) -> tuple[float, str]:
    run.finish("deploy", inputs={"export": "1"}, result={}, seconds=1.2, outputs=[])
    return 1.2, "the embedded llama.cpp answered and ended by itself"
