"""afina's engine in a process of its own, a step a turn: what train/loop.py does in each step, nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from afina.core.environment import settle_environment

settle_environment()  # as every command does, before torch is loaded

import torch  # noqa: E402

from afina.data.conversation import Conversation, Message, Source  # noqa: E402
from afina.data.pack import micro_batches  # noqa: E402
from afina.data.render import Limits, Renderer, Row  # noqa: E402
from afina.data.template import choose_template  # noqa: E402
from afina.data.tokenizer import Tokenizer  # noqa: E402
from afina.model.base import Base, resolve_base  # noqa: E402
from afina.model.load import choose_device, choose_dtype, choose_threads, load_model  # noqa: E402
from afina.model.shape import read_shape  # noqa: E402
from afina.recipe.recipe import Adapter, Train  # noqa: E402
from afina.train.dry import Setup  # noqa: E402
from afina.train.estimate import most_tokens  # noqa: E402
from afina.train.gradient import Gradient  # noqa: E402
from afina.train.lanes import Lanes, most_lanes  # noqa: E402
from afina.train.noise import EmbeddingNoise  # noqa: E402
from afina.train.optimize import build_optimizer, build_scaler  # noqa: E402
from afina.train.plan import Wishes, make_plan  # noqa: E402
from afina.train.saving import Saving, apply_saving  # noqa: E402
from afina.train.sizes import Rows, usual_tokens  # noqa: E402
from afina.train.step import prepare  # noqa: E402
from afina.train.target import named_gpu  # noqa: E402
from afina.train.trainee import adapter_on  # noqa: E402
from bench.sides.turns import Turns, settings  # noqa: E402


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


def planned(base: Base, dtype: torch.dtype, adapter: Adapter, rows: list[Row], card: str) -> tuple[int, Saving]:
    """What a training on ``card`` would choose for steps of these rows."""
    target = named_gpu(card)
    setup = Setup(read_shape(str(base.folder)), dtype, adapter, "cuda", multiprocessors=target.multiprocessors)
    sizes = Rows(max(len(row.ids) for row in rows), sum(len(row.ids) for row in rows), 0.5)
    chosen = make_plan(setup, target, sizes, Wishes()).chosen
    return chosen.micro_tokens, chosen.saving


def main() -> None:
    asked, turns = settings(), Turns()
    work = Path(asked["work"])
    train = Train(learning_rate=asked["rate"], clip=asked["clip"], schedule="constant", **asked["train"])
    levers = asked.get("levers", {})  # keywords of prepare and micro_batches, and "pack": False
    rows = chat_rows(work, asked["longest"])
    base = resolve_base(str(work / "base"))
    device = choose_device("auto")
    dtype, _reason = choose_dtype(train.dtype, device, base.weight_bytes // 2)
    micro_tokens = train.micro_tokens
    adapter = Adapter(rank=asked["rank"], alpha=2 * asked["rank"], quantize=asked["quantize"])
    threads = torch.get_num_threads()
    count = levers.get("lanes") or most_lanes(
        read_shape(str(base.folder)),
        dtype,
        adapter,
        train,
        device.type,
        threads,
        sum(len(row.ids) for row in rows) // len(rows) * asked["rows_per_step"],
    )
    if micro_tokens == "auto":  # what a plan comes to where there is room
        micro_tokens = most_tokens("cpu", base.config["hidden_size"])
    torch.set_num_threads(choose_threads(base.config, usual_tokens(rows, train, micro_tokens)))
    lanes = Lanes(count, min(torch.get_num_threads(), threads // count))
    saving = Saving("none" if train.checkpointing == "auto" else train.checkpointing, asked.get("mlp_tile"))
    if "card" in asked:
        micro_tokens, saving = planned(base, dtype, adapter, rows[: asked["rows_per_step"]], asked["card"])
    storage = torch.bfloat16 if saving.checkpointing == "full" else None  # as stages/train.py
    model = load_model(base, dtype=dtype, device=device, adapter=work / "start", quantize=asked["quantize"], storage=storage)
    trainee = adapter_on(model, adapter, base.name)
    remarks = prepare(model, **levers.get("prepare", {})) if levers.get("pack", True) else ["not packed, as asked"]
    apply_saving(model, saving)
    optimizer, scaler = build_optimizer(model, trainee.parameters, train), build_scaler(model.dtype, device)
    gradient = Gradient(model, trainee, scaler, EmbeddingNoise(model, train.neftune), train, lanes=lanes)
    facts = {
        "micro_tokens": micro_tokens,
        **asdict(saving),
        "lanes": count,
        "threads": torch.get_num_threads(),
        "remarks": remarks,
    }
    turns.ready(dtype=str(dtype).removeprefix("torch."), **facts)
    for number in range(len(rows) // asked["rows_per_step"]):
        of_step = rows[number * asked["rows_per_step"] : (number + 1) * asked["rows_per_step"]]
        turns.begin()
        batches = micro_batches(of_step, micro_tokens, multiple=count, **levers.get("micro_batches", {}))
        loss, norm = gradient.of_step(optimizer, batches, number)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        turns.end()
        turns.answer(loss=loss, gradient_norm=norm, **_cuda(device))


def _cuda(device: torch.device) -> dict[str, int]:
    """On a GPU it is its memory that counts."""
    return {"peak_bytes": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}


if __name__ == "__main__":
    main()
