"""The weights of a base with an adapter worked in: W + scale · B A, in float32, a few rows at a time.

W (out, in) + scale · B (out, R) A (R, in)        rows 0:512 of W need rows 0:512 of B, and all of A, which is small
DoRA: each row of that is given the length m (out,)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from afina.core.errors import DataError
from afina.core.translation import _
from afina.model.adapter import AdapterFiles, load_adapter
from afina.model.weights import Checkpoint, Float32

if TYPE_CHECKING:  # torch is needed for NF4 only, and takes a second to load
    from torch import Tensor

    from afina.model.nf4 import NF4


class MergedWeights:
    """The tensors of ``checkpoint`` with the adapter in ``adapter_folder`` added; without one, the checkpoint's own.

    The tensors in ``rounded`` go through NF4 first: the weights that a QLoRA adapter was trained on. Raises DataError where a
    tensor of the adapter fits no weight: an adapter that does nothing there is a bug.
    """

    def __init__(self, checkpoint: Checkpoint, adapter_folder: Path | None = None, rounded: Iterable[str] = ()) -> None:
        self.rounded = frozenset(rounded)
        self._encoded: tuple[str, NF4] | None = None  # the last one of them, whole: its pieces come one after another
        self._base = checkpoint
        self._adapter: AdapterFiles | None = None
        if adapter_folder is not None:
            self._adapter = load_adapter(adapter_folder)
            self._update = Checkpoint(adapter_folder)
            self._require_fit(self._adapter)

    @property
    def folder(self) -> Path:
        """That of the base."""
        return self._base.folder

    @property
    def adapter_folder(self) -> Path | None:
        return self._adapter.folder if self._adapter else None

    def names(self) -> list[str]:
        return self._base.names()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._base.shape(name)

    def dtype(self, name: str) -> str:
        """The type of the base's tensor; what ``read`` gives is float32 in any case."""
        return self._base.dtype(name)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Float32:
        """Rows ``start`` to ``stop`` of the merged tensor as float32."""
        rows = self._through_nf4(name, start, stop) if name in self.rounded else self._base.read(name, start, stop)
        if self._adapter is None or name not in self._adapter.pairs:
            return rows
        a_name, b_name = self._adapter.pairs[name]
        scale = np.float32(self._adapter.scale(name))
        rows += scale * (self._update.read(b_name, start, stop) @ self._update.read(a_name))
        if name in self._adapter.magnitudes:
            lengths = self._update.read(self._adapter.magnitudes[name], start, stop)
            rows *= (lengths / np.linalg.norm(rows, axis=1))[:, None]
        return rows

    def _through_nf4(self, name: str, start: int, stop: int | None) -> Float32:
        """Rows of the tensor as NF4 keeps it. Its scales of scales reach over rows, so that it is encoded whole."""
        import torch

        from afina.model import nf4

        rows, columns = self.shape(name)
        if self._encoded is None or self._encoded[0] != name:
            self._encoded = None  # not two at once
            self._encoded = name, nf4.encode_stretches(self._stretches(name), rows * columns, torch.device("cpu"))
        last = rows if stop is None else min(stop, rows)
        values: Float32 = nf4.decode_stretch(self._encoded[1], start * columns, last * columns).numpy()
        return values.reshape(-1, columns)

    def _stretches(self, name: str) -> Iterator[Tensor]:
        """The base's tensor in whole blocks of NF4: as many rows at a time as a block has numbers, however long they are."""
        import torch

        from afina.model.nf4 import BLOCK

        for start in range(0, self.shape(name)[0], BLOCK):
            yield torch.from_numpy(self._base.read(name, start, start + BLOCK)).view(-1)

    def _require_fit(self, adapter: AdapterFiles) -> None:
        known = set(self.names())
        for name, (a_name, b_name) in adapter.pairs.items():
            if name not in known:
                reason = _("there is no weight {name}").format(name=name)
            else:
                (rank, inside), (outside, rank_b) = self._update.shape(a_name), self._update.shape(b_name)
                lengths = self._update.shape(adapter.magnitudes[name]) if name in adapter.magnitudes else (outside,)
                if rank == rank_b == adapter.rank(name) and (outside, inside) == self.shape(name) and lengths == (outside,):
                    continue
                reason = _("{name} is {shape}, the update is {update} of rank {rank}").format(
                    name=name, shape=_by(self.shape(name)), update=_by((outside, inside)), rank=rank
                )
            raise DataError(
                _("the adapter {folder} belongs to another base: {reason}").format(folder=adapter.folder, reason=reason),
                fix=_("name the base that it was trained on ({base})").format(base=adapter.config.get("base_model_name_or_path")),
            )


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
