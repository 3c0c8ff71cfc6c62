"""afina's engine in a process of its own, a step a turn: what train/loop.py does in each step, nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from afina.data.conversation import Conversation, Message, Source
from afina.data.pack import micro_batches
from afina.data.render import Limits, Renderer, Row
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.model.base import resolve_base
from afina.model.load import choose_device, choose_dtype, choose_threads, load_model
from afina.model.lora import trained_parameters
from afina.recipe.recipe import Train
from afina.train.step import packed_loss, prepare
from bench.sides.turns import Turns, settings


def chat_rows(work: Path, longest: int) -> list[Row]:
    """The workload's chats as afina renders them, in their order."""
    tokenizer = Tokenizer.load(work / "base")
    renderer = Renderer.build(choose_template("auto", tokenizer), tokenizer)
    rows: list[Row] = []
    with (work / "chats.jsonl").open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            messages = tuple(Message(turn["role"], turn["content"]) for turn in json.loads(line)["messages"])
            outcome = renderer.rows(Conversation(messages, Source("chats.jsonl", number)), Limits(longest))
            (rendered,) = outcome.rendered
            rows.extend(rendered.rows)
    return rows


def main() -> None:
    asked, turns = settings(), Turns()
    work = Path(asked["work"])
    train = Train(learning_rate=asked["rate"], clip=asked["clip"], **asked["train"])
    rows = chat_rows(work, asked["longest"])
    base = resolve_base(str(work / "base"))
    device = choose_device("auto")
    dtype = choose_dtype(train.dtype, device, base.weight_bytes // 2)
    torch.set_num_threads(choose_threads(base.config))
    model = load_model(base, dtype=dtype, device=device, adapter=work / "start", quantize=asked["quantize"])
    levers = asked.get("levers", {})  # keywords of prepare and micro_batches, and "pack": False
    remarks = prepare(model, **levers.get("prepare", {})) if levers.get("pack", True) else ["not packed, as asked"]
    parameters = list(trained_parameters(model).values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True)
    if train.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    turns.ready(dtype=str(dtype).removeprefix("torch."), threads=torch.get_num_threads(), remarks=remarks)
    for start in range(0, len(rows), asked["rows_per_step"]):
        of_step = rows[start : start + asked["rows_per_step"]]
        turns.begin()
        loss, norm = _step(model, of_step, parameters, train, levers.get("micro_batches", {}))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        turns.end()
        turns.answer(loss=loss, gradient_norm=norm, **_cuda(device))


def _step(
    model: Any, rows: Sequence[Row], parameters: list[torch.nn.Parameter], train: Train, packing: dict[str, bool]
) -> tuple[float, float]:
    tokens = sum(row.trained_tokens for row in rows)
    total = 0.0
    for batch in micro_batches(rows, train.micro_tokens, **packing):
        loss = packed_loss(model, batch)
        (loss / tokens).backward()
        total += loss.item()
    return total / tokens, float(torch.nn.utils.clip_grad_norm_(parameters, train.clip))


def _cuda(device: torch.device) -> dict[str, int]:
    """On a GPU it is its memory that counts."""
    return {"peak_bytes": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}


if __name__ == "__main__":
    main()
