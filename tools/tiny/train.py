"""Train the tiny model from random weights on the generated dialogues, with afina's own training loop.

    python -m tools.tiny.train /tmp/tiny/data src/afina/model/tiny --state /tmp/tiny/state --steps 3000

The loss counts the assistant's tokens; in one dialogue of four it counts all of them, so that the questions' words are learnt
too. Started again with the same ``--state``, it goes on where it stopped.
"""

import argparse
import json
import math
import random
import sys
from array import array
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from afina.cli.terminal import line
from afina.core.events import Event, Events
from afina.data.conversation import Source
from afina.data.render import Row
from afina.model.load import choose_threads
from afina.recipe.recipe import Train
from afina.train.loop import train as run_loop
from afina.train.step import mean_loss, prepare
from afina.train.trainee import Trainee

PAD, START, END = 0, 1, 2
LONGEST = 384
WHOLE = 0.25  # share of the dialogues that count with all their tokens
LOOK_EVERY = 250
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
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "pad_token_id": PAD,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 4096,
}


def read_rows(path: Path, tokenizer: Tokenizer, whole: float) -> list[Row]:
    """The dialogues of a file as tokens, rendered like the chat template; those longer than ``LONGEST`` are counted only.

    ``whole``: the share of them whose every token is a target.
    """
    rows: list[Row] = []
    left_out = 0
    newline = tokenizer.encode("\n").ids
    dice = random.Random(path.name)
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            ids: list[int] = []
            answers: list[tuple[int, int]] = []
            for message in json.loads(text)["messages"]:
                ids += [START, *tokenizer.encode(message["role"] + "\n").ids]
                start = len(ids)
                ids += [*tokenizer.encode(message["content"]).ids, END]
                if message["role"] == "assistant":
                    answers.append((start, len(ids)))
                ids += newline
            spans = ((0, len(ids)),) if dice.random() < whole else tuple(answers)
            if len(ids) > LONGEST:
                left_out += 1
            else:
                rows.append(Row(array("i", ids), spans, Source(path.name, number)))
    tokens = sum(len(row.ids) for row in rows)
    print(f"{path.name}: {len(rows)} dialogues, {tokens} tokens, {left_out} left out for their length", flush=True)
    return rows


def write_model(folder: Path, model: LlamaForCausalLM) -> None:
    """The model as users load it: bfloat16 weights without the tied head, and its two settings files."""
    weights = {
        name: weight.detach().to(torch.bfloat16).contiguous()
        for name, weight in model.named_parameters()
        if name != "lm_head.weight"
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors leaves it to its owner alone
    generation = {"do_sample": False, "eos_token_id": [END, PAD], "max_new_tokens": 128, "pad_token_id": PAD}
    for name, content in (("config.json", CONFIG), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def train(data: Path, folder: Path, state: Path, steps: int, batch_tokens: int, peak: float, seed: int) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = read_rows(data / "train.jsonl", tokenizer, WHOLE)
    held_out = read_rows(data / "val.jsonl", tokenizer, 0)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG)).float()
    prepare(model)
    trainee = Trainee(dict(model.named_parameters()), lambda: None, lambda _folder: write_model(folder, model), lambda: True)
    settings = Train(
        epochs=math.ceil(steps * batch_tokens / sum(len(row.ids) for row in rows)) + 1,
        max_steps=steps,
        learning_rate=peak,
        warmup=min(0.5, 100 / steps),
        weight_decay=0.1,
        batch_tokens=batch_tokens,
        micro_tokens=batch_tokens,
        evaluate_every=LOOK_EVERY,
        save_every=LOOK_EVERY,
        seed=seed,
    )
    with Events(state / "events.jsonl", (say,)) as events:
        trained = run_loop(model, rows, held_out[:400], settings, trainee, state, events)
    print(f"held-out answers, all: {mean_loss(model, held_out, batch_tokens):.4f}", flush=True)
    print(f"{trained.steps} steps, {trained.tokens_per_second:,.0f} tokens a second", flush=True)


def say(event: Event) -> None:
    if text := line(event):
        print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(choose_threads(CONFIG, chosen.batch_tokens))
    train(chosen.data, chosen.folder, chosen.state, chosen.steps, chosen.batch_tokens, chosen.peak, chosen.seed)


if __name__ == "__main__":
    main()
