"""How the threads of torch wait for each other. To be settled before torch is loaded, which reads it once."""

from __future__ import annotations

import os


def let_threads_sleep() -> None:
    """Threads that wait leave their core to others, unless the environment says otherwise.

    By default OpenMP's spin: on a machine that does something else too, they then hold the very core that the thread they wait
    for needs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
