"""What all tests share: real data beside the project, English texts, one thread, no time limit for single examples."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from afina.core import hardware
from afina.core.errors import ServiceError
from afina.core.units import GIB
from afina.infer.ollama import Ollama, find_ollama

os.environ["AFINA_LANG"] = "en"
os.environ["OMP_NUM_THREADS"] = "1"  # the models are tiny: a second thread only waits
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a shell's background job, whose programs would pass over Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("afina", deadline=None)
hypothesis.settings.load_profile("afina")

STARTING_S = 20.0  # what a server may take to answer
WORKER_BYTES = 3 * GIB  # a worker takes up to 1.7, and the processes that its tests start
LONGEST = ("e2e", "train", "stages", "export")  # folders, those whose files take longest first
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker a core, and no more than there is memory for."""
    found = hardware.memory()
    room = found.available_bytes // WORKER_BYTES if found else 1
    return max(1, min(hardware.processor().cores, room))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no worker is left with it at the end."""
    items.sort(
        key=lambda item: next((place for place, name in enumerate(LONGEST) if name == item.path.parent.name), len(LONGEST))
    )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test material beside the repository; the test skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real test material is not there: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def real_ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ollama]:
    """The Ollama that answers, or one that is started for these tests where the program is installed."""
    if (found := find_ollama()) is not None:
        yield found
        return
    program = shutil.which("ollama")
    if program is None:
        pytest.skip("no Ollama answers at OLLAMA_HOST or 127.0.0.1:11434, and there is no program 'ollama'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "OLLAMA_HOST": host, "OLLAMA_MODELS": str(tmp_path_factory.mktemp("ollama"))}
    with subprocess.Popen([program, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            started = Ollama(f"http://{host}")
            deadline = time.monotonic() + STARTING_S
            while not _answers(started):
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{program} serve did not answer at {host}: look at what it prints when you start it by hand")
                time.sleep(0.2)  # nobody is told when it is ready
            yield started
        finally:
            server.terminate()


def _answers(server: Ollama) -> bool:
    try:
        server.version()
    except ServiceError:
        return False
    return True
