"""Memory and arithmetic of tensor code, followed operation by operation: a dispatch mode that knows which storages are alive.

Under ``FakeTensorMode`` no tensor has data, so that a model of 8 billion parameters can be followed on a laptop. What an operation
allocates inside itself is not seen; where that is much, WITHIN knows it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

RAM = "ram"  # the category of what is kept outside the device: it is not part of the device's total


def _as_its_input(args: tuple[Any, ...]) -> int:
    first: Tensor = args[0]
    return first.numel() * first.element_size()


# Bytes that an operation holds inside itself. logsumexp keeps exp(x - max).
WITHIN: Mapping[Any, Callable[[tuple[Any, ...]], int]] = MappingProxyType({torch.ops.aten.logsumexp: _as_its_input})


class LiveStorages(TorchDispatchMode):
    """Bytes of living storages by category, their peak, and the floating-point operations done.

    ``granule``: what an allocation is rounded up to. A storage belongs to the category in force when it was made, until
    ``assign`` gives it to another.
    """

    def __init__(self, granule: int = 1) -> None:
        super().__init__()
        self._granule = granule
        self._living: weakref.WeakKeyDictionary[torch.UntypedStorage, list[Any]] = weakref.WeakKeyDictionary()
        self._category = "activations"
        self.by_category: dict[str, int] = {}
        self.total = 0
        self.peak = 0
        self.at_peak: dict[str, int] = {}
        self.ram_peak = 0
        self.flops = 0

    @contextmanager
    def category(self, name: str) -> Iterator[None]:
        """What is made in the block belongs to ``name``."""
        before, self._category = self._category, name
        try:
            yield
        finally:
            self._category = before

    def enter_category(self, name: str) -> None:
        self._category = name

    def assign(self, tensor: Tensor, name: str) -> None:
        """Gives the storage of ``tensor``, known or not, to ``name``."""
        self._follow(tensor)
        entry = self._living[tensor.untyped_storage()]
        self._count(entry[0], -entry[1])
        entry[0] = name
        self._count(name, entry[1])

    def begin_peak(self) -> None:
        """From here on the peak is sought anew."""
        self.peak, self.at_peak, self.ram_peak = self.total, dict(self.by_category), self.by_category.get(RAM, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **(kwargs or {}), out_val=out))
        for leaf in tree_iter(out):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        if packet in WITHIN:
            self._note_peak(WITHIN[packet](args))
        return out

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._living:
            return
        size = -(-storage.nbytes() // self._granule) * self._granule
        entry = [self._category, size]
        self._living[storage] = entry
        self._count(self._category, size)
        weakref.finalize(storage, self._forget, entry)

    def _forget(self, entry: list[Any]) -> None:
        self._count(entry[0], -entry[1])

    def _count(self, name: str, size: int) -> None:
        self.by_category[name] = self.by_category.get(name, 0) + size
        if name == RAM:
            self.ram_peak = max(self.ram_peak, self.by_category[RAM])
            return
        self.total += size
        if size > 0:
            self._note_peak(0, name)

    def _note_peak(self, within: int, name: str | None = None) -> None:
        if self.total + within > self.peak:
            self.peak, self.at_peak = self.total + within, dict(self.by_category)
            if within:
                category = name or self._category
                self.at_peak[category] = self.at_peak.get(category, 0) + within
