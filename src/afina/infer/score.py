"""How likely a model finds given answers: the loss of each row's trained tokens, one row of a batch as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from afina.data.render import Row
from afina.model.decoder import decoder_of

BATCH_TOKENS = 2048
HEAD_ROWS = 256  # logits held at once: (256, V) in float32, 150 MB for the largest vocabularies


@torch.inference_mode()
def score_rows(
    model: PreTrainedModel,
    rows: Sequence[Row],
    batch_tokens: int = BATCH_TOKENS,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> list[tuple[float, int]]:
    """For each row the sum of its trained tokens' negative log-likelihood in nats (float32 log-softmax), and their number.

    Rows of similar length are computed together, padded on the right: causal attention never looks there, so no mask is needed.
    ``on_progress`` hears how many rows are done.
    """
    scores: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    done = 0
    for numbers in _batches([len(row.ids) for row in rows], batch_tokens):
        batch = [rows[number] for number in numbers]
        losses = _losses(model, batch).tolist()
        counts = [sum(row.trained[1:]) for row in batch]
        start = 0
        for number, count in zip(numbers, counts, strict=True):
            scores[number] = (sum(losses[start : start + count]), count)
            start += count
        done += len(batch)
        on_progress(done)
    return scores


@torch.inference_mode()
def log_probabilities(model: PreTrainedModel, ids: Sequence[int], places: Sequence[int]) -> Tensor:
    """Of every token to be the one at each of ``places`` (at least 1) after those before it, (N, V) float32 on the CPU."""
    before = torch.tensor([place - 1 for place in places], device=model.device)
    hidden = _states(model, torch.tensor([list(ids)], device=model.device))[0, before]  # (N, D)
    return torch.cat([_logits(model, part).log_softmax(-1).cpu() for part in hidden.split(HEAD_ROWS)])


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers by length, as many together as fit into ``batch_tokens`` with their padding; a longer row stands alone."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[number] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _losses(model: PreTrainedModel, batch: Sequence[Row]) -> Tensor:
    """Loss of each trained token, row after row, (N,) float32 on the CPU."""
    length = max(len(row.ids) for row in batch)
    ids = torch.tensor([[*row.ids, *[0] * (length - len(row.ids))] for row in batch], device=model.device)  # (B, T)
    # The state at place t predicts the token at t + 1.
    trained = torch.tensor([[*row.trained[1:], *[False] * (length - len(row.ids) + 1)] for row in batch], device=model.device)
    targets = ids.roll(-1, dims=1)[trained]  # (N,)
    hidden = _states(model, ids)[trained]  # (N, D)
    pieces = []
    for start in range(0, len(targets), HEAD_ROWS):
        logits = _logits(model, hidden[start : start + HEAD_ROWS])  # (at most HEAD_ROWS, V)
        pieces.append(F.cross_entropy(logits, targets[start : start + HEAD_ROWS], reduction="none"))
    return torch.cat(pieces).cpu() if pieces else torch.zeros(0)


def _states(model: Any, ids: Tensor) -> Tensor:
    """The last layer's states of ``ids`` (B, T), (B, T, D)."""
    states: Tensor = decoder_of(model)(input_ids=ids, use_cache=False).last_hidden_state
    return states


def _logits(model: Any, hidden: Tensor) -> Tensor:
    """Float32 logits (N, V) of states (N, D)."""
    logits: Tensor = model.get_output_embeddings()(hidden).float()
    cap: float | None = getattr(model.config, "final_logit_softcapping", None)  # Gemma 2
    return cap * torch.tanh(logits / cap) if cap else logits
