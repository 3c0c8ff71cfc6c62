"""Train the tiny model from random weights with afina's own training loop, stage after stage.

    python -m tools.tiny.train dialogues DATA FOLDER --state STATE --steps 4000 --batch-tokens 2048
    python -m tools.tiny.train passages  MORE FOLDER --state STATE --steps 950 --peak 5e-4 --schedule linear --from dialogues
    python -m tools.tiny.train exercises LONG FOLDER --state STATE --steps 2700 --batch-tokens 2048 --from passages
    python -m tools.tiny.train drills    LAST FOLDER --state STATE --steps 2450 --batch-tokens 4096 --optimizer muon \\
        --peak 1e-3 --schedule linear --from exercises
    python -m tools.tiny.train world     MANY FOLDER --state STATE --steps 955 --batch-tokens 65536 --optimizer muon \\
        --peak 5e-3 --schedule linear --from drills

Each is a further course on other dialogues of the generator; ``world`` takes three minutes on a large GPU, six hours on two CPU
cores. ``copying``, on random tokens, is for who changes the start. On a GPU a stage computes in bfloat16 on float32 weights.

``FOLDER`` holds the tokenizer. Every stage has a folder of its own in ``--state``; its best weights so far are in
``STATE/STAGE/model``, in float32, and a later stage begins with them (``--from``). Started again, a stage goes on where it
stopped; with more ``--steps`` than before it goes on beyond its end. ``python -m tools.tiny.install`` writes the weights that the
package ships.

On a machine that does something else too, set ``OMP_WAIT_POLICY=PASSIVE``: threads that spin while they wait make a step there
ten times as long.
"""

import argparse
import json
import math
import random
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from afina.cli.terminal import line
from afina.core.events import Event, Events
from afina.data.conversation import Source
from afina.data.render import Row
from afina.model.load import choose_device, choose_dtype, choose_threads
from afina.recipe.recipe import Train
from afina.train.loop import train as run_loop
from afina.train.step import prepare
from afina.train.trainee import Trainee, masters_of
from tools.tiny.blocks import rows_of_blocks
from tools.tiny.start import add_circuit

PAD, START, END = 0, 1, 2
LONGEST = 900
WHOLE = 0.1  # share of the dialogues that count with all their tokens, but for the last courses
REMEMBERED = 0.08  # rows of blocks for each dialogue, so that copying any token is not forgotten
HELD_OUT = 400
LOOK_EVERY, LOOKS = 100, 20  # steps; at most so many looks in a long training
WEIGHTS = "weights.safetensors"
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "dtype": "bfloat16",
    "eos_token_id": END,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 768,
    "max_position_embeddings": 1024,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 5,
    "num_key_value_heads": 4,
    "pad_token_id": PAD,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 4096,
}


def read_rows(path: Path, folder: Path, whole: float) -> list[Row]:
    """The dialogues of a file as tokens, rendered like the chat template; those longer than ``LONGEST`` are counted only.

    ``whole``: the share of them whose every token is a target. ``folder`` holds the tokenizer.
    """
    rows: list[Row] = []
    count = 0
    with path.open(encoding="utf-8") as file, ProcessPoolExecutor() as pool:
        for part in pool.map(partial(_rows_of, path.name, folder, whole), _parts(file)):
            count += len(part)
            rows += [row for row in part if len(row.ids) <= LONGEST]
    tokens = sum(len(row.ids) for row in rows)
    print(f"{path.name}: {len(rows)} dialogues, {tokens} tokens, {count - len(rows)} left out for their length", flush=True)
    return rows


def _parts(lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """Numbered lines, some thousand at a time."""
    numbered = enumerate(lines, 1)
    while part := list(islice(numbered, 4096)):
        yield part


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    """Once in each process that reads."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _rows_of(name: str, folder: Path, whole: float, lines: Sequence[tuple[int, str]]) -> list[Row]:
    tokenizer = _tokenizer(folder)
    newline = tokenizer.encode("\n").ids
    rows: list[Row] = []
    for number, text in lines:
        ids: list[int] = []
        answers: list[tuple[int, int]] = []
        for message in json.loads(text)["messages"]:
            ids += [START, *tokenizer.encode(message["role"] + "\n").ids]
            start = len(ids)
            ids += [*tokenizer.encode(message["content"]).ids, END]
            if message["role"] == "assistant" and message.get("trained", True):
                answers.append((start, len(ids)))
            ids += newline
        is_whole = random.Random(f"{name} {number}").random() < whole
        rows.append(Row(array("i", ids), ((0, len(ids)),) if is_whole else tuple(answers), Source(name, number)))
    return rows


def new_model(seed: int, *, circuit: bool = True) -> LlamaForCausalLM:
    """Starting weights; without ``circuit`` they are random alone, as one is used to."""
    torch.manual_seed(seed)
    model: LlamaForCausalLM = LlamaForCausalLM(LlamaConfig(**CONFIG)).float()
    if circuit:
        add_circuit(model)
    return model


def save_weights(folder: Path, parameters: Mapping[str, torch.Tensor]) -> None:
    """The model's weights in float32, without the tied head; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().contiguous() for name, weight in parameters.items()}
    save_file(weights, folder / "new.safetensors", metadata={"format": "pt"})
    (folder / "new.safetensors").replace(folder / WEIGHTS)


def rows_of(stage: str, data: Path, folder: Path, seed: int) -> tuple[list[Row], list[Row]]:
    """Rows to train on and held-out ones."""
    vocabulary = int(CONFIG["vocab_size"])
    if stage == "copying":
        return rows_of_blocks(60_000, vocabulary, seed), rows_of_blocks(300, vocabulary, seed + 1)
    rows = read_rows(data / "train.jsonl", folder, 0 if stage in ("exercises", "drills") else WHOLE)
    blocks = rows_of_blocks(int(REMEMBERED * len(rows)), vocabulary, seed + 2)
    return rows + blocks, read_rows(data / "val.jsonl", folder, 0)[:HELD_OUT]


def train(chosen: argparse.Namespace) -> None:
    rows, held_out = rows_of(chosen.stage, chosen.data, chosen.folder, chosen.seed)
    state = chosen.state / chosen.stage
    model = new_model(chosen.seed)
    if chosen.begin:
        model.load_state_dict(load_file(chosen.state / chosen.begin / "model" / WEIGHTS), strict=False)
    device = choose_device("auto")
    dtype, _reason = choose_dtype("auto", device, model.num_parameters())
    torch.nn.Module.to(model, device)
    masters, publish = masters_of(dict(model.named_parameters()), dtype)
    for remark in prepare(model):
        print(remark, file=sys.stderr)
    trainee = Trainee(masters, publish, save=lambda folder: save_weights(folder / "model", masters), has_learned=lambda: True)
    look_every = max(LOOK_EVERY, chosen.steps // LOOKS)
    settings = Train(
        epochs=math.ceil(chosen.steps * chosen.batch_tokens / sum(len(row.ids) for row in rows)) + 1,
        max_steps=chosen.steps,
        learning_rate=chosen.peak,
        schedule=chosen.schedule,
        optimizer=chosen.optimizer,
        warmup=min(0.5, 100 / chosen.steps),
        weight_decay=0.1,
        batch_tokens=chosen.batch_tokens,
        micro_tokens=chosen.batch_tokens + LONGEST,
        evaluate_every=look_every,
        save_every=look_every // 2 if device.type == "cpu" else look_every,
        seed=chosen.seed,
    )
    with Events(state / "events.jsonl", (say,)) as events:
        trained = run_loop(model, rows, held_out, settings, trainee, state, events)
    print(
        f"{trained.steps} steps, {trained.tokens_per_second:,.0f} tokens a second, held-out loss {trained.best_loss}", flush=True
    )


def say(event: Event) -> None:
    if text := line(event):
        print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("copying", "dialogues", "passages", "exercises", "drills", "world"))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--from", dest="begin", help="the stage whose weights it begins with")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--peak", type=float, default=8e-4)
    parser.add_argument("--schedule", default="wsd")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, help="left out: as many as pay")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads or choose_threads(CONFIG, chosen.batch_tokens))
    train(chosen)


if __name__ == "__main__":
    main()
