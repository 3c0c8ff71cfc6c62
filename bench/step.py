"""One training step of ours against the usual way, side by side: transformers + PEFT, rows padded, loss over all logits.

    python bench/step.py            writes bench/results/step.json

The same rows in the same steps, the same adapter, float32 on one thread, A B A B; medians of the later steps. A rate is shown
only with its losses and gradient norms.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import peft
import torch
import transformers

from afina.core.files import write_json
from afina.core.run import versions
from afina.data.pack import epoch_steps, micro_batches
from afina.data.render import Row
from afina.model.adapter import save_adapter
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import adapter_tensors, add_lora, lora_layers
from afina.recipe.recipe import Adapter, Recipe
from afina.stages.prepare import prepare
from afina.stages.train import prepared_rows
from afina.stages.workspace import working_in
from afina.train.step import packed_loss
from afina.train.step import prepare as prepare_step

STEPS = 12
BATCH_TOKENS = 2048
RATE = 2e-3
CPU = torch.device("cpu")

Step = tuple[float, float, float]  # seconds, loss a trained token, norm of the gradient


def demo_rows(folder: Path) -> list[Row]:
    """The demo's training rows, prepared for the embedded model."""
    recipe = Recipe.load(Path(__file__).parents[1] / "src" / "afina" / "recipe" / "presets" / "shop" / "recipe.yaml")
    with working_in(recipe, folder) as (run, events):
        prepare(recipe, run, events)
        return prepared_rows(run, "train")


def ours(steps: list[list[Row]], start: Path) -> Iterator[Step]:
    model = load_model(resolve_base("tiny"), dtype=torch.float32, device=CPU, adapter=start)
    prepare_step(model)
    parameters = [p for _name, layer in lora_layers(model) for p in (layer.a, layer.b)]

    def loss_of(rows: list[Row]) -> Iterator[torch.Tensor]:
        for batch in micro_batches(rows, BATCH_TOKENS):
            yield packed_loss(model, batch)

    yield from _timed(steps, parameters, loss_of)


def usual(steps: list[list[Row]], start: Path) -> Iterator[Step]:
    base = transformers.AutoModelForCausalLM.from_pretrained(resolve_base("tiny").folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, start, is_trainable=True)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss_of(rows: list[Row]) -> Iterator[torch.Tensor]:
        for place in range(0, len(rows), 8):
            batch = rows[place : place + 8]
            longest = max(len(row.ids) for row in batch)
            ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in batch])
            mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in batch])
            labels = torch.full_like(ids, -100)
            for number, row in enumerate(batch):
                on = torch.tensor(row.trained)
                labels[number, : len(on)][on] = ids[number, : len(on)][on]
            tokens = sum(row.trained_tokens for row in batch)
            yield model(input_ids=ids, attention_mask=mask, labels=labels).loss * tokens

    yield from _timed(steps, parameters, loss_of)


def _timed(
    steps: list[list[Row]], parameters: list[torch.nn.Parameter], loss_of: Callable[[list[Row]], Iterator[torch.Tensor]]
) -> Iterator[Step]:
    """Seconds, loss and gradient norm of each step."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0, fused=True)
    for rows in steps:
        start = time.perf_counter()
        tokens = sum(row.trained_tokens for row in rows)
        total = 0.0
        for loss in loss_of(rows):
            (loss / tokens).backward()
            total += loss.item()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield time.perf_counter() - start, total / tokens, norm


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = demo_rows(folder)
        steps = [step for epoch in range(4) for step in epoch_steps(rows, BATCH_TOKENS, 0, epoch)][:STEPS]
        model = load_model(resolve_base("tiny"), dtype=torch.float32, device=CPU)
        adapter = Adapter(rank=16, alpha=32)
        add_lora(model, adapter, seed=7)
        save_adapter(folder / "start", adapter, "tiny", adapter_tensors(model))
        runs = {"afina": ours(steps, folder / "start"), "transformers + PEFT": usual(steps, folder / "start")}
        found: dict[str, list[Step]] = {name: [] for name in runs}
        for _step in steps:
            for contender, run in runs.items():
                found[contender].append(next(run))
    tokens = [sum(len(row.ids) for row in step) for step in steps]
    contenders = {
        name: {
            "seconds_per_step": round(statistics.median(step[0] for step in timed[2:]), 4),
            "tokens_per_second": round(statistics.median(count / step[0] for count, step in list(zip(tokens, timed))[2:])),
            "losses": [round(step[1], 4) for step in timed],
            "gradient_norms": [round(step[2], 4) for step in timed],
        }
        for name, timed in found.items()
    }
    afina, peft_way = (statistics.median(step[0] for step in timed[2:]) for timed in found.values())
    result = {
        "what": "a LoRA step on tiny with the demo's rows; float32, one thread, in turn; medians without the first two steps",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": versions(),
        "tokens_per_step": statistics.median(tokens),
        "contenders": contenders,
        "ratio": round(peft_way / afina, 2),
    }
    write_json(Path(__file__).parent / "results" / "step.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
