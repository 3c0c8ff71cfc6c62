"""llama.cpp's own quantizer, as cyllama brings it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from afina.export.mix import file_type
from afina.recipe.kinds import Kind

_CODE = """
import sys
import cyllama.llama.llama_cpp as llama

llama.disable_logging()
source, target, number = sys.argv[1:]
wanted = llama.LlamaModelQuantizeParams()
wanted.ftype, wanted.nthread = int(number), 1
llama.model_quantize(source, target, wanted)
"""


def llama_quantize(source: Path, target: Path, kind: Kind) -> Path:
    """``target``, made of the F32 file ``source``."""
    pytest.importorskip("cyllama", reason="cyllama has no wheel for this system")
    command = [sys.executable, "-c", _CODE, str(source), str(target), str(int(file_type(kind)))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return target
