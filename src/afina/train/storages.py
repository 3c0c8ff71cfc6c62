"""Memory and arithmetic of tensor code, followed operation by operation: a dispatch mode that knows which storages are alive.

Under ``FakeTensorMode`` no tensor has data, so that a model of 8 billion parameters can be followed on a laptop. What an
operation allocates inside itself is not seen: where that is much, it must be told.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

RAM = "ram"  # the category of what is kept outside the device: it is not part of the device's total


Within = Callable[[tuple[Any, ...]], int]  # arguments of an operation → bytes that it holds inside itself, its result left out


class LiveStorages(TorchDispatchMode):
    """Bytes of living storages by category, their peak, and the floating-point operations done.

    ``granule``: what an allocation is rounded up to. ``within``: operations that hold something inside themselves. A storage
    belongs to the category that ``results`` names for the operation that made it, else to the one in force then, until ``assign``
    gives it to another.
    """

    def __init__(self, granule: int, within: Mapping[Any, Within], results: Mapping[Any, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._granule, self._within, self._results = granule, within, results
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
        self._follow(tensor, name)
        entry = self._living[tensor.untyped_storage()]
        self._count(entry[0], -entry[1])
        entry[0] = name
        self._count(name, entry[1])

    def begin_peak(self) -> None:
        """From here on the peak is sought anew."""
        self.peak, self.at_peak, self.ram_peak = self.total, dict(self.by_category), self.by_category.get(RAM, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace == "prim":  # questions about a tensor
            return out
        packet = func._overloadpacket
        if packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **(kwargs or {}), out_val=out))
        name = self._results.get(packet, self._category)
        for leaf in tree_iter(out):
            if isinstance(leaf, Tensor):
                self._follow(leaf, name)
        if packet in self._within:
            self._note_peak(self._within[packet](args), name)
        return out

    def _follow(self, tensor: Tensor, name: str) -> None:
        storage = tensor.untyped_storage()
        if storage in self._living:
            return
        size = -(-storage.nbytes() // self._granule) * self._granule
        entry = [name, size]
        self._living[storage] = entry
        self._count(name, size)
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

    def _note_peak(self, within: int, name: str) -> None:
        if self.total + within > self.peak:
            self.peak, self.at_peak = self.total + within, dict(self.by_category)
            self.at_peak[name] = self.at_peak.get(name, 0) + within
