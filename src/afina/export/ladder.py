"""How much of what was learned survives each step from the adapter to the file that is served.

The same places of held-out rows are asked everywhere: how likely is each token to come next? A place is a trained token with all
that stands before it.

    base ─▶ adapter on the base it was trained on ─▶ merged ─▶ f16 ─▶ q8_0 ─▶ … ─▶ q4_k_m
            └──────────── torch ────────────────────────────┘ └────── llama.cpp ────────┘

The gain is the base's loss less the tuned model's. Rounding harms the base too, and that is another thing than forgetting: so
the base is rounded in the same way and measured beside it. A file keeps as much of the gain as its loss lies below that of the
base, or of the rounded base where that is less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from afina.data.render import Row
from afina.infer.llama import LlamaServer
from afina.measure.intervals import Interval, mean_interval
from afina.model.streamed import Passage

ROWS, PLACES = 48, 8  # rows that are asked, and places of each
TOP = 256  # likeliest tokens that are asked for; the rest counts as one
_LEAST = 1e-12

Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Told:
    """What one model says at all places, row by row: the loss of each place's token, and all that is needed to compare.

    ``ids`` and ``logs``: (K,) tokens and their log-probabilities at each place; all tokens where it ``is_whole``; none where
    nothing but the losses was kept.
    """

    losses: tuple[Floats, ...]
    ids: tuple[NDArray[np.int64], ...]
    logs: tuple[NDArray[np.floating[Any]], ...]
    is_whole: bool


@dataclass(frozen=True)
class Closeness:
    """How near one model's words are to another's: Kullback–Leibler divergence in nats (mean, 99th percentile), and the share of
    places with the same likeliest token.
    """

    divergence: float
    divergence_99: float
    agreement: float


def choose_passages(rows: Sequence[Row]) -> list[Passage]:
    """Up to ROWS rows from all over the list, up to PLACES trained tokens of each, the first and the last among them."""
    passages = []
    for row in spread([row for row in rows if any(row.trained[1:])], ROWS):
        trained = [place for place, is_trained in enumerate(row.trained) if is_trained and place]
        picked = np.linspace(0, len(trained) - 1, min(PLACES, len(trained))).round().astype(int)
        places = tuple(trained[number] for number in dict.fromkeys(picked.tolist()))
        passages.append(Passage(tuple(row.ids[: places[-1] + 1]), places))
    return passages


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of the ``items``, evenly spaced."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def told_by_torch(logs: Iterable[NDArray[np.float32]], passages: Sequence[Passage], *, keep: bool = True) -> Told:
    """From log-probabilities of the whole vocabulary, (N, V) for each passage; without ``keep`` only the losses stay."""
    losses: list[Floats] = []
    at_places: list[NDArray[np.float32]] = []
    for passage, values in zip(passages, logs, strict=True):
        targets = [passage.ids[place] for place in passage.places]
        losses.append(-values[np.arange(len(targets)), targets].astype(np.float64))
        at_places += list(values) if keep else []
    every = np.arange(len(at_places[0]) if keep else 0)
    return Told(tuple(losses), (every,) * len(at_places), tuple(at_places), is_whole=True)


def told_by_llama(server: LlamaServer, passages: Sequence[Passage], vocabulary: int) -> Told:
    """The same from llama.cpp."""
    is_whole = vocabulary <= TOP
    losses, ids, logs = [], [], []
    for passage in passages:
        of_row = []
        for place in passage.places:
            before, token = passage.ids[:place], passage.ids[place]
            told = server.log_probabilities(before, TOP)
            found, values = np.array(list(told), np.int64), np.array(list(told.values()), np.float64)
            likeliest = max(told.items(), key=lambda pair: pair[1])
            of_row.append(-(told[token] if token in told else server.log_probability(before, token, likeliest)))
            ids.append(found)
            logs.append(values)
        losses.append(np.array(of_row))
    return Told(tuple(losses), tuple(ids), tuple(logs), is_whole)


def closeness(reference: Told, other: Told) -> Closeness:
    """How near ``other`` is to ``reference``, which knows the whole vocabulary."""
    divergences, same = [], []
    for logs, other_ids, other_logs in zip(reference.logs, other.ids, other.logs, strict=True):
        wanted = logs[other_ids].astype(np.float64)
        divergence = float((np.exp(wanted) * (wanted - other_logs)).sum())
        if not other.is_whole:
            rest = max(1.0 - float(np.exp(wanted).sum()), _LEAST)
            divergence += rest * float(np.log(rest / max(1.0 - float(np.exp(other_logs).sum()), _LEAST)))
        divergences.append(max(divergence, 0.0))
        same.append(int(logs.argmax()) == int(other_ids[other_logs.argmax()]))
    return Closeness(float(np.mean(divergences)), float(np.quantile(divergences, 0.99)), float(np.mean(same)))


def mean_loss(told: Told) -> float:
    """In nats a token, every place counting the same."""
    return float(np.concatenate(told.losses).mean())


def kept_gain(base: Told, tuned: Told, rounded_base: Told, rounded: Told, *, resamples: int, seed: int) -> Interval | None:
    """The share of the gain that ``rounded`` keeps, with an interval over rows; None where these rows show no gain.

    Against the base, or against the base rounded in the same way, whichever is less.
    """
    gains = _sums(base) - _sums(tuned)
    if mean_interval(gains, resamples=resamples, seed=seed).low <= 0:
        return None
    shares = [
        mean_interval(_sums(against) - _sums(rounded), gains, resamples=resamples, seed=seed) for against in (base, rounded_base)
    ]
    return min(shares, key=lambda share: share.value)


def smallest_that_keeps(kept: dict[str, float | None], sizes: dict[str, int], least: float) -> str | None:
    """The smallest file that keeps at least ``least`` of the gain; without a gain, the smallest one; None where none keeps it."""
    good = [kind for kind, share in kept.items() if share is None or share >= least]
    return min(good, key=lambda kind: sizes[kind], default=None)


def _sums(told: Told) -> Floats:
    return np.array([losses.sum() for losses in told.losses])
