"""Tensors of a folder of safetensors as float32, row by row: no torch, and no more memory than what is asked for.

file: | 8 bytes: length of the header | header: JSON, name → type, shape, place | data |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from afina.core.errors import DataError
from afina.core.files import read_json
from afina.core.translation import _

Float32 = NDArray[np.float32]

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
# How each type lies in the file. numpy has no bfloat16: it is the upper half of a float32.
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}  # else 1
_MAX_HEADER_BYTES = 100_000_000


class Weights(Protocol):
    """Where a model's weights come from: a folder, or something that is made of one."""

    @property
    def folder(self) -> Path: ...
    def names(self) -> list[str]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def read(self, name: str, start: int = 0, stop: int | None = None) -> Float32: ...


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies: ``offset`` and ``nbytes`` in bytes from the start of ``file``."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class Checkpoint:
    """The weights in ``folder``, by name. Raises DataError for a file that is broken or cut, before any tensor is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, _Place] = {}
        for file in weight_files(folder):
            for name, place in _read_header(file).items():
                if name in self._places:
                    raise DataError(
                        _("{name} stands both in {first} and in {second}").format(
                            name=name, first=self._places[name].file, second=file.name
                        ),
                        fix=_("leave only the files of one model in {folder}").format(folder=folder),
                    )
                self._places[name] = place

    def names(self) -> list[str]:
        return list(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._place(name).shape

    def dtype(self, name: str) -> str:
        """The type in the file as safetensors writes it: ``F32``, ``BF16``, …"""
        return self._place(name).dtype

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Float32:
        """Rows ``start`` to ``stop`` (all of them by default) as float32, in memory of their own."""
        return _as_float32(self.stored(name, start, stop), self.dtype(name))

    def stored(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The same in the type of the file; bfloat16, which numpy does not have, as the bits of a uint16."""
        place = self._place(name)
        if place.dtype not in _STORED:
            raise DataError(
                _("{file}: {name} is stored as {dtype}; afina reads {known}").format(
                    file=place.file, name=name, dtype=place.dtype, known=", ".join(_STORED)
                ),
                fix=_("take a copy of the model in one of these types"),
            )
        rows = place.shape[0] if place.shape else 1
        last = rows if stop is None else min(stop, rows)
        row_values = prod(place.shape[1:])
        count = max(last - start, 0) * row_values
        stored = np.dtype(_STORED[place.dtype])
        values = np.fromfile(place.file, stored, count, offset=place.offset + start * row_values * stored.itemsize)
        if len(values) != count:
            raise _cut(place.file)
        shape = (last - start, *place.shape[1:]) if place.shape else ()
        return values.reshape(shape)

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise DataError(
                _("{folder} has no tensor {name}").format(folder=self.folder, name=name),
                fix=_("take the folder of the whole model"),
            )
        return self._places[name]


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: those of the index, else ``model.safetensors``, else every ``*.safetensors``."""
    index = folder / INDEX
    if index.is_file():
        return [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if files := sorted(folder.glob("*.safetensors")):
        return files
    raise DataError(_("{folder} has no *.safetensors").format(folder=folder), fix=_("download the model's weights into it"))


def _read_header(file: Path) -> dict[str, _Place]:
    if not file.is_file():
        raise DataError(_("there is no file {path}").format(path=file), fix=_("download the model again"))
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= _MAX_HEADER_BYTES:
            raise _broken(file, _("it does not begin like one"))
        if size < 8 + length:
            raise _cut(file)
        try:
            header = json.loads(stream.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise _broken(file, str(error)) from None
    if not isinstance(header, dict):
        raise _broken(file, _("its header is no table"))
    header.pop("__metadata__", None)
    return {name: _place_of(file, name, entry, 8 + length, size) for name, entry in header.items()}


def _place_of(file: Path, name: str, entry: Any, data_start: int, size: int) -> _Place:
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(side) for side in entry["shape"])
        begin, end = (int(number) for number in entry["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise _broken(file, _("the entry of {name} is not complete").format(name=name)) from None
    nbytes = prod(shape) * _BYTES.get(dtype, 1)
    if begin < 0 or end - begin != nbytes or min(shape, default=0) < 0:
        raise _broken(file, _("the size of {name} does not fit its shape").format(name=name))
    if data_start + end > size:
        raise _cut(file)
    return _Place(file, dtype, shape, data_start + begin, nbytes)


def _as_float32(values: NDArray[Any], dtype: str) -> Float32:
    if dtype == "BF16":
        wide = values.astype(np.uint32)
        wide <<= 16  # in place: memory that is asked for anew takes longer than the shift
        return wide.view(np.float32)
    return values.astype(np.float32, copy=False)


def _broken(file: Path, reason: str) -> DataError:
    return DataError(
        _("{path} is not a safetensors file: {reason}").format(path=file, reason=reason), fix=_("download the model again")
    )


def _cut(file: Path) -> DataError:
    return DataError(
        _("{path} is cut: it ends before the data that it names").format(path=file), fix=_("download the model again")
    )
