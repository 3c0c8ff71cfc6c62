"""A process beside this one: asked, crashed, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from afina.core.child import Child

ECHO = "from afina.core.child import serve\nserve(lambda request: print('noise', flush=True) or [b'said', *request])"


def test_it_answers_what_it_is_asked_whatever_is_printed_there() -> None:
    child = Child(ECHO, {})
    assert child.ask([b"one", b""]) == [b"said", b"one", b""]
    assert child.ask([b"\0" * 3_000_000]) == [b"said", b"\0" * 3_000_000]
    assert child.ask([]) == [b"said"]
    child.close()
    assert child.exit_code() == 0


def test_it_has_its_own_environment() -> None:
    child = Child(
        "import os\nfrom afina.core.child import serve\nserve(lambda _r: [os.environ['AFINA_X'].encode()])", {"AFINA_X": "7"}
    )
    assert child.ask([b""]) == [b"7"]
    child.close()


def test_a_crash_is_an_end_with_last_words() -> None:
    child = Child("import os, sys\nsys.stderr.write('assertion failed\\n')\nsys.stderr.flush()\nos.abort()", {})
    with pytest.raises((EOFError, OSError)):
        child.ask([b"x"])
    assert child.exit_code() != 0
    assert child.last_words().endswith("assertion failed")
    child.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_it_ends_with_the_process_that_started_it() -> None:
    starter = "import os\nfrom afina.core.child import Child\nchild = Child(" + repr(ECHO) + ", {})\nchild.ask([b''])\n"
    starter += "print(child._process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    process = int(done.stdout)
    for _try in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("it still runs")
