"""Pieces of tensors as bytes of a GGUF, and back to be checked, on all cores: the work of processes beside this one.

    this process: pieces in order ─┬▶ child: read rows, add B·A, round ─┬▶ in the same order ─▶ the file
                                   └▶ child: …                         ─┘

llama.cpp's code runs in the children only: an assertion that fails there ends a child, and is an error here. A child loads no
torch unless it has to, takes about 150 MB, and holds one piece at a time.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from afina.core.child import Child, result_of, serve
from afina.core.errors import DataError, ResourceError
from afina.core.hardware import memory, processor
from afina.core.translation import _
from afina.core.units import GIB, MIB
from afina.export.kernels import COMPILED, IN_NUMPY, native_kernel, quantize
from afina.export.tensor import TensorPlan
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint, Float32

LARGEST_F16 = 65504.0
_CODE = "from afina.export.encode import work; work()"
_MOST = 8  # beyond that the disk is the slowest
_NEEDS_BYTES = GIB // 2  # of free memory, a child
# A child, measured: Python and a piece; with torch, and what it needs to encode a piece as NF4; a weight of the tensor in NF4.
_PIECE_BYTES, _TORCH_BYTES, _NF4_BYTES = 96 * MIB, 352 * MIB, 0.53
_ALONE_VALUES = 1 << 24  # numbers that one process rounds in less time than another one takes to start
_COMPILE_VALUES = 1 << 26  # a process, above which compiled kernels save more time than they take to be compiled
_COMPILE_SLOW_VALUES = 1 << 23  # the same for a type with which llama.cpp takes five times as long


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop`` of a tensor, to become ``type``."""

    plan: TensorPlan
    type: Type
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        block, block_bytes = gguf.GGML_QUANT_SIZES[self.type]
        values = (self.stop - self.start) * int(np.prod(self.plan.shape[1:]))
        return values // int(block) * int(block_bytes)


def pieces_of(plan: TensorPlan, kind: Type) -> Iterator[Piece]:
    for start, stop in plan.row_ranges():
        yield Piece(plan, kind, start, stop)


@dataclass(frozen=True)
class Deviation:
    """Σ(found − wanted)² and Σ wanted² of some numbers."""

    off: float
    size: float


class Encoder:
    """Does the work itself. ``importance``: for a GGUF's tensor how much an error in each of its columns counts.

    ``compiled``: whether there are so many numbers that compiled kernels are worth their compiling.
    """

    def __init__(self, weights: MergedWeights, importance: Mapping[str, Float32], *, compiled: bool = False) -> None:
        self._weights = weights
        self._importance = importance
        self._compiled = compiled

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def encoded(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """The bytes of each piece, in order. Raises DataError for a number that is none (NaN), or too large for F16."""
        for piece in pieces:
            rows = piece.plan.read(self._weights, piece.start, piece.stop)
            _require_finite(rows, piece)
            yield quantize(rows, piece.type, self._importance.get(piece.plan.name), compiled=self._compiled)

    def deviations(self, file: Path, placed: Iterable[tuple[Piece, int]]) -> Iterator[Deviation]:
        """How far the bytes at a place of ``file`` are from each piece, in float64; each column as important as in rounding."""
        for piece, offset in placed:
            wanted = piece.plan.read(self._weights, piece.start, piece.stop).astype(np.float64)
            data = np.fromfile(file, np.uint8, piece.nbytes, offset=offset)
            match piece.type:
                case Type.F32:
                    blocks: NDArray[Any] = data.view("<f4")
                case Type.F16:
                    blocks = data.view("<f2")
                case _:
                    blocks = data.reshape(len(wanted), -1)
            got = gguf.quants.dequantize(blocks, piece.type).reshape(wanted.shape)
            weights = self._importance.get(piece.plan.name, np.ones(1))
            yield Deviation(float((weights * np.square(got - wanted)).sum()), float((weights * np.square(wanted)).sum()))


class Encoders:
    """The same by ``count`` processes. Close them, or use ``with``."""

    def __init__(self, weights: MergedWeights, importance: Mapping[str, Float32], count: int, *, compiled: bool = False) -> None:
        adapter = weights.adapter_folder and str(weights.adapter_folder)
        rounded = sorted(weights.rounded)
        told = {"base": str(weights.folder), "adapter": adapter, "rounded": rounded, "compiled": compiled}
        parts = [
            json.dumps(told).encode(),
            *(part for name, values in importance.items() for part in (name.encode(), values.tobytes())),
        ]
        self._children = [Child(_CODE, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}) for _number in range(count)]
        self._idle: SimpleQueue[Child] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="afina-encode")
        for child in self._children:
            self._threads.submit(self._set_up, child, parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for child in self._children:
            child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            child.close()

    def encoded(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """As ``Encoder.encoded``. Raises ResourceError where a process has ended."""
        return self._in_order([_piece_text(piece)] for piece in pieces)

    def deviations(self, file: Path, placed: Iterable[tuple[Piece, int]]) -> Iterator[Deviation]:
        """As ``Encoder.deviations``."""
        asked = ([_piece_text(piece), json.dumps([str(file), offset]).encode()] for piece, offset in placed)
        for answer in self._in_order(asked):
            yield Deviation(*np.frombuffer(answer, np.float64).tolist())

    def _in_order(self, asked: Iterable[list[bytes]]) -> Iterator[bytes]:
        waiting: deque[Future[bytes]] = deque()
        for request in asked:
            waiting.append(self._threads.submit(self._do, request))
            if len(waiting) > 2 * len(self._children):
                yield result_of(waiting.popleft())
        while waiting:
            yield result_of(waiting.popleft())

    def _set_up(self, child: Child, parts: Sequence[bytes]) -> None:
        self._asked(child, parts)

    def _do(self, request: Sequence[bytes]) -> bytes:
        return self._asked(self._idle.get(), request)

    def _asked(self, child: Child, request: Sequence[bytes]) -> bytes:
        try:
            error, answer = child.ask(request)
        except (OSError, EOFError):
            code, words = child.exit_code(), child.last_words().splitlines()
            raise ResourceError(
                _("a process that rounds the weights was ended ({code}): {words}").format(
                    code=code, words=words[-1] if words else _("it said nothing")
                ),
                fix=_("close other programs to free memory, and run the same command again"),
            ) from None
        finally:
            self._idle.put(child)
        if error:
            raise DataError(**json.loads(error))
        return answer


def process_bytes(largest_in_nf4: int = 0) -> int:
    """The RAM of one of the processes that merge and round; ``largest_in_nf4``: numbers of the largest tensor that goes through
    NF4.
    """
    return _PIECE_BYTES if not largest_in_nf4 else _TORCH_BYTES + round(_NF4_BYTES * largest_in_nf4)


def encoders(
    weights: MergedWeights, types: Iterable[Type], values: int, importance: Mapping[str, Float32] | None = None
) -> Encoder | Encoders:
    """What suits ``values`` numbers that become ``types``: this process alone for few of them that need no native code."""
    kinds = set(types)
    if values < _ALONE_VALUES and kinds <= IN_NUMPY:
        return Encoder(weights, importance or {})
    there = memory()
    fitting = there.available_bytes // _NEEDS_BYTES if there else _MOST
    few = max(1, values // _ALONE_VALUES)
    count = max(1, min(processor().cores, _MOST, fitting, few))
    enough = _COMPILE_SLOW_VALUES if Type.IQ4_XS in kinds else _COMPILE_VALUES
    compiled = values >= count * enough and not kinds.isdisjoint(COMPILED)
    return Encoders(weights, importance or {}, count, compiled=compiled)


@cache
def has_native_kernel() -> bool:
    """Whether the children can use llama.cpp's own code; found out by one of them."""
    child = Child(_CODE, {})
    try:
        return child.ask([b""]) == [b"", b"native"]
    except (OSError, EOFError):
        return False  # it ended while it loaded the library
    finally:
        child.close()


def _require_finite(rows: Float32, piece: Piece) -> None:
    largest = float(np.abs(rows).max(initial=0.0))
    if not np.isfinite(largest):  # NaN is the largest of all to numpy
        raise DataError(
            _("the merged weight {name} holds a number that is none ({value})").format(name=piece.plan.source, value=largest),
            fix=_("train again with a lower train.learning_rate, or download the base again"),
        )
    if piece.type is Type.F16 and largest > LARGEST_F16:
        raise DataError(
            _("the merged weight {name} reaches {value:.0f}; F16 ends at {limit:.0f}").format(
                name=piece.plan.source, value=largest, limit=LARGEST_F16
            ),
            fix=_("take other types: --set export.types=[bf16,q8_0]"),
        )


# ── in the other process ──────────────────────────────────────────────────────────────────────────────────────────────


def work() -> None:
    """What a child does from its start to its end: told the model first, then piece after piece. Nothing asks for the kernel."""
    encoder: list[Encoder] = []

    def answer(request: list[bytes]) -> Sequence[bytes]:
        if not encoder and request == [b""]:
            return [b"", b"native" if native_kernel() else b""]
        if not encoder:
            encoder.append(_told(request))
            return [b"", b""]
        piece = _piece(request[0])
        try:
            if len(request) == 1:
                return [b"", *encoder[0].encoded([piece])]
            file, offset = json.loads(request[1])
            (deviation,) = encoder[0].deviations(Path(file), [(piece, offset)])
            return [b"", np.array([deviation.off, deviation.size]).tobytes()]
        except DataError as error:
            return [json.dumps({"what": error.what, "fix": error.fix}).encode(), b""]

    serve(answer)


def _told(request: Sequence[bytes]) -> Encoder:
    told = json.loads(request[0])
    importance = {
        name.decode(): np.frombuffer(values, np.float32) for name, values in zip(request[1::2], request[2::2], strict=True)
    }
    adapter = told["adapter"] and Path(told["adapter"])
    weights = MergedWeights(Checkpoint(Path(told["base"])), adapter, told["rounded"])
    return Encoder(weights, importance, compiled=told["compiled"])


def _piece_text(piece: Piece) -> bytes:
    return json.dumps(asdict(replace(piece, type=int(piece.type)))).encode()  # type: ignore[arg-type]


def _piece(data: bytes) -> Piece:
    told: dict[str, Any] = json.loads(data)
    plan = told.pop("plan")
    return Piece(TensorPlan(**plan | {"shape": tuple(plan["shape"])}), Type(told["type"]), told["start"], told["stop"])
