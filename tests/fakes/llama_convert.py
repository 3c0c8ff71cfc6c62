"""llama.cpp's own converter, from the source package of llama-cpp-python: fetched once, unpacked, never compiled."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

VERSION = "0.3.36"
SCRIPTS = ("convert_lora_to_gguf.py", "convert_hf_to_gguf.py")
CACHE = Path(__file__).parents[2] / ".cache" / "llama.cpp" / VERSION


@cache
def converter() -> Path:
    """The folder of the scripts; the test is skipped, in words, where the package cannot be fetched."""
    if not all((CACHE / script).is_file() for script in SCRIPTS):
        CACHE.mkdir(parents=True, exist_ok=True)
        name = "llama-cpp-python"
        options = ["--quiet", "--no-deps", "--no-binary", name, "--dest", str(CACHE)]
        command = [sys.executable, "-m", "pip", "download", *options, f"{name}=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        (archive,) = CACHE.glob("*.tar.gz") if done.returncode == 0 else (None,)
        if archive is None:
            pytest.skip(f"the source package {name} {VERSION} cannot be fetched: {done.stderr.strip()[-300:]}")
        _unpack(archive)
        archive.unlink()
    return CACHE


def _unpack(archive: Path) -> None:
    """Only the converters and the ``gguf`` library that they belong to; the scripts last, for they say that all is there."""
    with tarfile.open(archive) as package:
        wanted = []
        for member in package.getmembers():
            _before, found, path = member.name.partition("/vendor/llama.cpp/")
            if found and member.isfile() and path.startswith(("conversion/", "gguf-py/", *SCRIPTS)):
                member.name = path
                wanted.append(member)
        for member in sorted(wanted, key=lambda member: member.name in SCRIPTS):
            package.extract(member, CACHE, filter="data")


# It knows a tokenizer by a hash of what it makes of one text, and so no tokenizer of a test's own.
_CODE = """
import runpy, sys
there, folder, target, *kinds = sys.argv[1:]
sys.path[:0] = [there, there + "/gguf-py"]
import conversion

found = conversion.get_model_class

def get_model_class(*arguments, **more):
    model = found(*arguments, **more)
    model.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    model.set_vocab = lambda self: self._set_vocab_gpt2()
    return model

conversion.get_model_class = get_model_class
for kind in kinds:
    sys.argv = [there + "/convert_hf_to_gguf.py", folder, "--outfile", f"{target}/{kind}.gguf", "--outtype", kind]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def convert_command(folder: Path, target: Path, kinds: Sequence[str]) -> list[str]:
    """What converts the model in ``folder``, told that its tokenizer is one with Qwen2's words."""
    return [sys.executable, "-c", _CODE, str(converter()), str(folder), str(target), *kinds]


def llama_convert(folder: Path, target: Path, kinds: Sequence[str]) -> None:
    """Converts the model in ``folder`` to ``target``/f32.gguf and so on."""
    command = convert_command(folder, target, kinds)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


def llama_convert_adapter(base: Path, adapter: Path, target: Path) -> None:
    """Converts the PEFT adapter in the folder ``adapter`` to ``target``."""
    script = converter() / "convert_lora_to_gguf.py"
    command = [sys.executable, str(script), str(adapter), "--base", str(base), "--outfile", str(target)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
