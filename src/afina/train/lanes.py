"""Micro-batches side by side on a CPU, each computed by few threads.

Threads that share one operation wait for each other after it, and while something is done that cannot be shared out, all but one
of them wait. With micro-batches of their own they do not:

    one lane, two threads      ████ █ ██ █ ████          two lanes      ████████████
                               ████   ██   ████                         ████████████

The results are taken in the order of the micro-batches, whoever is ready first, so that a sum of them is the same each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from transformers import PreTrainedConfig

from afina.recipe.recipe import Adapter, Train

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 4  # more were not measured; they would wait for Python's lock
_NUMBERS_A_LANE = 256 * 1024  # tokens of a step by width: with half of them nothing is gained
_AHEAD = 2  # results that a lane may be ahead of the order: each holds gradients
# Rotary embeddings that keep the frequencies of the longest row seen in the module: lanes would take each other's.
_STATEFUL_ROTATIONS = frozenset({"dynamic", "longrope"})


@dataclass(frozen=True)
class Lanes:
    """``count`` micro-batches at a time, each on so many ``threads``."""

    count: int = 1
    threads: int = 1

    def in_order(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """``work`` of each of ``items``, in their order. Where it ends early, what is under way is waited for: a thread that is
        in torch when Python ends would take it down.
        """
        if self.count == 1 or len(items) < 2:
            yield from map(work, items)
            return
        pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(self.threads,))
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                if len(waiting) == _AHEAD * self.count:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


ONE_LANE = Lanes()


def most_lanes(
    config: PreTrainedConfig, dtype: torch.dtype, adapter: Adapter, settings: Train, kind: str, threads: int, tokens: int
) -> int:
    """How many lanes ``threads`` of a device of this kind are worth for steps of so many tokens; 1 where micro-batches cannot be
    computed side by side.

    They cannot where they draw from one generator (dropout, noise), where gradients are handed on as they are made (all weights,
    in a smaller type than their own), where a layer is compiled, and where a module keeps something of the last micro-batch.
    """
    draws = adapter.dropout > 0 or settings.neftune > 0
    hands_on = dtype == torch.float16 or (adapter.method == "full" and dtype != torch.float32)
    if kind != "cpu" or draws or hands_on or settings.compile is True or _rotations(config) & _STATEFUL_ROTATIONS:
        return 1
    most = min(_MOST, threads, tokens * config.get_text_config().hidden_size // _NUMBERS_A_LANE)
    counts = range(2, most + 1)  # those that leave the fewest threads idle: 4 of 8, and 3 of 6
    return max(counts, key=lambda count: (threads // count * count, count), default=1)


def _rotations(config: PreTrainedConfig) -> set[str]:
    """The kinds of rotary embeddings, of which a configuration names one, or one for each kind of layer."""
    rotation = getattr(config.get_text_config(), "rope_parameters", None) or {}
    of_layers = [rotation, *(part for part in rotation.values() if isinstance(part, dict))]
    return {str(part["rope_type"]) for part in of_layers if "rope_type" in part}
