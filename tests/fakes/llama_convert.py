"""llama.cpp's own converter, from the source package of llama-cpp-python: fetched once, unpacked, never compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

VERSION = "0.3.36"
SCRIPTS = ("convert_lora_to_gguf.py", "convert_hf_to_gguf.py")
CACHE = Path(__file__).parents[2] / ".cache" / "llama.cpp" / VERSION


@cache
def converter() -> Path:
    """The folder of the scripts; the test is skipped, in words, where the package cannot be fetched."""
    if not CACHE.is_dir():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
            whole = Path(folder) / "unpacked"
            _unpack(_fetch(Path(folder)), whole)
            try:
                whole.rename(CACHE)
            except OSError:
                if not CACHE.is_dir():  # else another worker of the tests was faster
                    raise
    return CACHE


def _fetch(folder: Path) -> Path:
    """The source package, in ``folder``."""
    name = "llama-cpp-python"
    options = ["--quiet", "--no-deps", "--no-binary", name, "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, f"{name}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    (archive,) = folder.glob("*.tar.gz") if done.returncode == 0 else (None,)
    if archive is None:
        pytest.skip(f"the source package {name} {VERSION} cannot be fetched: {done.stderr.strip()[-300:]}")
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """Only the converters and the ``gguf`` library that they belong to."""
    with tarfile.open(archive) as package:
        for member in package.getmembers():
            _before, found, path = member.name.partition("/vendor/llama.cpp/")
            if found and member.isfile() and path.startswith(("conversion/", "gguf-py/", *SCRIPTS)):
                member.name = path
                package.extract(member, folder, filter="data")


# It knows a tokenizer by a hash of what it makes of one text, and so no tokenizer of a test's own.
_CODE = """
import json, runpy, sys
there, jobs, *kinds = sys.argv[1:]
sys.path[:0] = [there, there + "/gguf-py"]
import conversion

found = conversion.get_model_class

def get_model_class(*arguments, **more):
    model = found(*arguments, **more)
    model.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    model.set_vocab = lambda self: self._set_vocab_gpt2()
    return model

conversion.get_model_class = get_model_class
for folder, target in json.loads(jobs):
    for kind in kinds:
        sys.argv = [there + "/convert_hf_to_gguf.py", folder, "--outfile", f"{target}/{kind}.gguf", "--outtype", kind]
        runpy.run_path(sys.argv[0], run_name="__main__")
"""


def convert_command(folder: Path, target: Path, kinds: Sequence[str]) -> list[str]:
    """What converts the model in ``folder``, told that its tokenizer is one with Qwen2's words."""
    return _command({folder: target}, kinds)


def llama_convert(targets: Mapping[Path, Path], kinds: Sequence[str]) -> None:
    """Converts the model in each folder to f32.gguf and so on in its target, all in one process: it takes seconds to start."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(_command(targets, kinds), capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


def _command(targets: Mapping[Path, Path], kinds: Sequence[str]) -> list[str]:
    jobs = json.dumps([[str(folder), str(target)] for folder, target in targets.items()])
    return [sys.executable, "-c", _CODE, str(converter()), jobs, *kinds]


def llama_convert_adapter(base: Path, adapter: Path, target: Path) -> None:
    """Converts the PEFT adapter in the folder ``adapter`` to ``target``."""
    script = converter() / "convert_lora_to_gguf.py"
    command = [sys.executable, str(script), str(adapter), "--base", str(base), "--outfile", str(target)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
