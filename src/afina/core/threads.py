"""How the threads of torch wait for each other. To be settled before torch is loaded, which reads it once."""

from __future__ import annotations

import os

_LOOKS = 1000  # a few microseconds; only GNU's OpenMP, which torch has on Linux, reads it


def let_threads_sleep() -> None:
    """Threads that wait leave their core to others, but for a thousand looks first, unless the environment says otherwise.

    By default OpenMP's spin for milliseconds: on a machine that does something else too, they then hold the very core that the
    thread they wait for needs. Asleep at once, they have to be woken between any two small operations. A model 256 wide, on two
    cores, milliseconds a token: asleep 0.40, a thousand looks 0.34, ten thousand 0.33; with another program on one of them 0.59,
    0.66 and 1.31.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", str(_LOOKS))
