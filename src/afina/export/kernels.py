"""Rows of float32 numbers as the bytes of a GGUF's tensor.

llama.cpp's own kernels where the prebuilt wheel exports them (Linux and macOS), found by their name; ``compiled.py`` elsewhere,
and for so many numbers that it pays to wait for its compiling; and numpy, by the ``gguf`` library, for what it can. All give
llama.cpp's bytes.

Native code can end its process, so this runs in one of its own (``encode.py``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from afina.core.errors import ResourceError
from afina.core.translation import _
from afina.model.weights import Float32
from afina.recipe.kinds import Kind

Bytes = NDArray[np.uint8]
Quantize = Callable[[Type, Float32, Float32 | None], Bytes]

IN_NUMPY = frozenset((Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q5_0, Type.Q5_1, Type.Q4_0, Type.Q4_1))
COMPILED = frozenset((Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_XS))
# Kinds of file with a type that neither of them makes: Q3_K, and IQ4_NL where the rows of a matrix are no multiple of 256.
NATIVE_ONLY: tuple[Kind, ...] = ("q3_k_m", "iq4_xs")


def quantize(rows: Float32, kind: Type, importance: Float32 | None = None, *, compiled: bool = False) -> bytes:
    """``rows`` (N, columns) in the type's blocks; ``importance`` (columns,): how much an error of each column counts.

    ``compiled``: rather by ``compiled.py``, where it has the type.
    Raises ResourceError for a type that needs llama.cpp's kernels where they are not.
    """
    native = native_kernel()
    if kind in (Type.F32, Type.F16, Type.BF16) or (native is None and kind in IN_NUMPY):
        return gguf.quants.quantize(np.ascontiguousarray(rows), kind).tobytes()
    if kind in COMPILED and (compiled or native is None):
        from afina.export.compiled import quantize_rows  # only here is numba needed, and it takes half a second to load

        return quantize_rows(rows, kind, importance).tobytes()
    if native is None:
        raise missing_kernels([kind.name.lower()])
    return native(kind, rows, importance).tobytes()


def missing_kernels(types: Sequence[str]) -> ResourceError:
    """The error for types that only llama.cpp's own code makes, where its library does not offer it."""
    return ResourceError(
        _(
            "export.types has {kinds}, which need a part of llama.cpp that its prebuilt library has on Linux and macOS only"
        ).format(kinds=", ".join(types)),
        fix=_("take q4_k_m, q5_k_m, q6_k or q8_0, without export.imatrix"),
    )


@cache
def native_kernel() -> Quantize | None:
    """``ggml_quantize_chunk`` of the llama.cpp that comes with xllamacpp; None where its library does not export it.

    It has no structure in its signature, so calling it does not depend on the version.
    """
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        return None
    for library in sorted(Path(spec.origin).parent.glob("xllamacpp*.so")):
        try:
            chunk = ctypes.CDLL(str(library)).ggml_quantize_chunk
        except (OSError, AttributeError):
            continue
        return _caller(chunk)
    return None


def _caller(chunk: ctypes._NamedFuncPointer) -> Quantize:
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]

    def quantized(kind: Type, rows: Float32, importance: Float32 | None) -> Bytes:
        source = np.ascontiguousarray(rows, np.float32)
        count, columns = source.shape
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        result = np.empty(count * (columns // int(block)) * int(block_bytes), np.uint8)
        weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
        written = chunk(
            int(kind),
            source.ctypes.data,
            result.ctypes.data,
            0,
            count,
            columns,
            None if weights is None else weights.ctypes.data,
        )
        if written != result.nbytes:
            raise RuntimeError(f"ggml_quantize_chunk wrote {written} bytes instead of {result.nbytes}")
        return result

    return quantized
