"""Whether a launcher such as torchrun started this process as one of several, by the environment that it sets."""

from __future__ import annotations

import os
from dataclasses import dataclass

from afina.core.errors import ResourceError
from afina.core.translation import _

_RENDEZVOUS = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """Process ``rank`` of ``count``, and the ``local_rank``-th of its machine."""

    rank: int
    count: int
    local_rank: int


def launch() -> Launch | None:
    """How this process was started; None where it is the only one. Raises ResourceError for half of an environment."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count == "1":
        return None
    if missing := [name for name in _RENDEZVOUS if name not in os.environ]:
        raise ResourceError(
            _("WORLD_SIZE is {count}, and {names} are not set: the processes cannot find each other").format(
                count=count, names=", ".join(missing)
            ),
            fix=_("torchrun --nproc-per-node {count} -m afina train …, or unset WORLD_SIZE").format(count=count),
        )
    return Launch(int(os.environ["RANK"]), int(count), int(os.environ["LOCAL_RANK"]))
