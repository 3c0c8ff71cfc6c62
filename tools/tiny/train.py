"""Train the tiny model from random weights on the generated dialogues.

    python -m tools.tiny.train /tmp/tiny/data src/afina/model/tiny --state /tmp/tiny/state --steps 3000

Batches hold whole dialogues of about the same length, padded on the right: under causal attention no mask is needed and no
dialogue sees another. The loss counts the assistant's tokens; in one dialogue of four it counts all of them, so that the
questions' words are learnt too. Started again with the same ``--state``, it goes on where it stopped.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

PAD, START, END = 0, 1, 2
LONGEST = 384
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


@dataclass(frozen=True)
class Row:
    """One dialogue: its tokens, and True where a token is the assistant's."""

    ids: list[int]
    answer: list[bool]


def read_rows(path: Path, tokenizer: Tokenizer) -> list[Row]:
    """The dialogues of a file as tokens, rendered like the chat template; those longer than ``LONGEST`` are counted only."""
    rows: list[Row] = []
    left_out = 0
    newline = tokenizer.encode("\n").ids
    with path.open(encoding="utf-8") as file:
        for line in file:
            ids: list[int] = []
            answer: list[bool] = []
            for message in json.loads(line)["messages"]:
                head = [START, *tokenizer.encode(message["role"] + "\n").ids]
                body = [*tokenizer.encode(message["content"]).ids, END]
                ids += [*head, *body, *newline]
                answer += [False] * len(head) + [message["role"] == "assistant"] * len(body) + [False] * len(newline)
            if len(ids) > LONGEST:
                left_out += 1
            else:
                rows.append(Row(ids, answer))
    print(
        f"{path.name}: {len(rows)} dialogues, {sum(len(row.ids) for row in rows)} tokens, {left_out} left out for their length",
        flush=True,
    )
    return rows


def batches(rows: list[Row], batch_tokens: int, seed: int) -> Iterator[list[Row]]:
    """Without end: batches of rows of like length, ``batch_tokens`` padded tokens at most, in an order given by the seed."""
    rng = random.Random(seed)
    while True:
        order = rng.sample(range(len(rows)), len(rows))
        for start in range(0, len(order), 4096):
            window = sorted((rows[index] for index in order[start : start + 4096]), key=lambda row: len(row.ids))
            cut: list[list[Row]] = [[]]
            for row in window:
                if (len(cut[-1]) + 1) * len(row.ids) > batch_tokens:
                    cut.append([])
                cut[-1].append(row)
            rng.shuffle(cut)
            yield from cut


def tensors(rows: list[Row], counted: list[list[bool]]) -> tuple[Tensor, Tensor]:
    """Tokens (B, T), padded on the right, and the positions (N,) of the flattened (B, T - 1) that predict a counted token."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [PAD] * (width - len(row.ids)) for row in rows])  # (B, T)
    mask = torch.tensor([flags + [False] * (width - len(flags)) for flags in counted])  # (B, T)
    return ids, mask[:, 1:].reshape(-1).nonzero()[:, 0]  # (B, T), (N,)


def mean_loss(model: LlamaForCausalLM, ids: Tensor, positions: Tensor) -> Tensor:
    """Mean cross-entropy over the counted positions; the logits of the others are never computed."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, D)
        hidden = hidden.reshape(-1, hidden.shape[-1])[positions]  # (N, D)
        targets = ids[:, 1:].reshape(-1)[positions]  # (N,)
        total = torch.zeros(())
        for part, wanted in zip(hidden.split(1024), targets.split(1024), strict=True):
            total = total + cross_entropy(model.lm_head(part).float(), wanted, reduction="sum")
    return total / len(positions)


@torch.no_grad()
def answer_loss(model: LlamaForCausalLM, rows: list[Row]) -> float:
    """Mean cross-entropy of the assistant's tokens."""
    total, count = 0.0, 0
    ordered = sorted(rows, key=lambda row: len(row.ids))
    for start in range(0, len(ordered), 64):
        part = ordered[start : start + 64]
        ids, positions = tensors(part, [row.answer for row in part])
        total += float(mean_loss(model, ids, positions)) * len(positions)
        count += len(positions)
    return total / count


def rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then half a cosine down to a fiftieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def save_state(folder: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, record: dict[str, float]) -> None:
    """Weights, both moments of every weight and the counters, as safetensors; the old state stays until the new one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {f"weight.{name}": weight.detach() for name, weight in model.named_parameters()}
    for name, weight in model.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            state[f"{moment}.{name}"] = optimizer.state[weight][moment]
    save_file(state, folder / "next.safetensors", metadata={"record": json.dumps(record)})
    (folder / "next.safetensors").replace(folder / "state.safetensors")


def load_state(folder: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The counters of the saved state, after its weights and moments were put back."""
    path = folder / "state.safetensors"
    state = load_file(path)
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    record: dict[str, float] = json.loads(header["__metadata__"]["record"])
    for name, weight in model.named_parameters():
        weight.data.copy_(state[f"weight.{name}"])
        optimizer.state[weight] = {
            "step": torch.tensor(float(record["step"])),
            "exp_avg": state[f"exp_avg.{name}"],
            "exp_avg_sq": state[f"exp_avg_sq.{name}"],
        }
    return record


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
    rows, held_out = read_rows(data / "train.jsonl", tokenizer), read_rows(data / "val.jsonl", tokenizer)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG)).float()
    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    plain = [weight for weight in model.parameters() if weight.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=peak, betas=(0.9, 0.95), fused=True
    )
    record: dict[str, float] = {"step": 0, "tokens": 0, "seconds": 0.0}
    if (state / "state.safetensors").exists():
        record = load_state(state, model, optimizer)
    print(f"{sum(weight.numel() for weight in model.parameters())} parameters, from step {record['step']} to {steps}", flush=True)
    begun = time.monotonic() - record["seconds"]
    for step, batch in enumerate(batches(rows, batch_tokens, seed)):
        if step == steps:
            break
        if step < record["step"]:
            continue
        whole = random.Random(seed * 1_000_003 + step)
        counted = [[True] * len(row.ids) if whole.random() < 0.25 else row.answer for row in batch]
        ids, positions = tensors(batch, counted)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak)
        loss = mean_loss(model, ids, positions)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        record = {"step": step + 1, "tokens": record["tokens"] + ids.numel(), "seconds": time.monotonic() - begun}
        if step % 25 == 0:
            print(f"step {step} loss {loss.item():.3f} tokens {record['tokens']} seconds {record['seconds']:.0f}", flush=True)
        if (step + 1) % 250 == 0:
            print(f"step {step + 1} held-out {answer_loss(model, held_out[:400]):.4f}", flush=True)
            save_state(state, model, optimizer, record)
            write_model(folder, model)
    write_model(folder, model)
    print(f"held-out answers, all: {answer_loss(model, held_out):.4f}", flush=True)
    print(f"{record['step']} steps, {record['tokens']} tokens with padding, {record['seconds'] / 60:.1f} minutes", flush=True)


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
    torch.set_num_threads(2)
    train(chosen.data, chosen.folder, chosen.state, chosen.steps, chosen.batch_tokens, chosen.peak, chosen.seed)


if __name__ == "__main__":
    main()
