"""Several processes that train one model: who they are, what each of them computes, and what they tell each other.

They are started by PyTorch's own launcher (``torchrun``), which also starts them again where one was lost. Data parallel: every
rank holds the whole model, computes some of a step's micro-batches, and the gradients are summed once a step. Sharded: the
decoder's layers are shared out too (FSDP2), frozen codes and adapter alike; a layer is gathered while it is computed.

In scope: everything that ranks have to agree on. Elsewhere: who writes what (the loop, the stage, ``checkpoint``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional as F
from transformers import PreTrainedModel

from afina.core.errors import INTERRUPTED_EXIT_CODE, ResourceError
from afina.core.launch import launch
from afina.core.run import differences
from afina.core.translation import _
from afina.data.pack import Packed
from afina.model.decoder import decoder_layers, decoder_of

SHARE_OF_CARD = 0.4  # frozen weights that take more of a GPU than this are shared out (train.shard: auto)
_BUCKET = 64 * 2**20  # gradients summed at once
_SPOKE = "afina/spoke"
_ASK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Piece:
    """Micro-batch ``number`` of a step. One that does not count is computed along only because the other ranks need it."""

    number: int
    batch: Packed
    counts: bool = True


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. ``sharded``: the layers are shared out, so that every rank must compute as
    many micro-batches as the others.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    sharded: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def gathered(self, value: Any) -> list[Any]:
        """The ``value`` of every rank, by rank; what JSON can hold. All of them wait here for each other."""
        if self.count == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _rank in range(self.count)]
        dist.all_gather(lengths, torch.tensor([len(data)]))
        longest = int(max(lengths))
        found = [torch.empty(longest, dtype=torch.uint8) for _rank in range(self.count)]
        dist.all_gather(found, F.pad(data, (0, longest - len(data))))
        return [json.loads(part[: int(length)].numpy().tobytes()) for part, length in zip(found, lengths, strict=True)]

    def wait(self) -> None:
        """Returns when all ranks are here."""
        self.gathered(None)

    def any_of(self, *wishes: bool) -> list[bool]:
        """Whether each of ``wishes`` is true on any rank."""
        return [any(of_one) for of_one in zip(*self.gathered(wishes), strict=True)]

    def in_order(self, values: Mapping[int, float]) -> list[float]:
        """The numbers of all ranks together, by their keys: summed up they give the same bits whoever computed which."""
        everything = [pair for pairs in self.gathered(list(values.items())) for pair in pairs]
        return [value for _key, value in sorted(everything)]

    def share(self, batches: Sequence[Packed]) -> list[Piece]:
        """What this rank computes of ``batches``: longest first to the rank that has the least, none more than its part."""
        most = -(-len(batches) // self.count)
        mine: list[list[int]] = [[] for _rank in range(self.count)]
        tokens = [0] * self.count
        for number in sorted(range(len(batches)), key=lambda number: len(batches[number].ids), reverse=True):
            rank = min((rank for rank in range(self.count) if len(mine[rank]) < most), key=lambda rank: tokens[rank])
            mine[rank].append(number)
            tokens[rank] += len(batches[number].ids)
        pieces = [Piece(number, batches[number]) for number in sorted(mine[self.rank])]
        if self.sharded and len(pieces) < most:
            shortest = min(range(len(batches)), key=lambda number: len(batches[number].ids))
            pieces += [Piece(shortest, batches[shortest], counts=False)] * (most - len(pieces))
        return pieces

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes every rank's gradients the sum of all; sharded ones are that already.

        A rank that computed nothing has none: it gives zeros. Where no rank has one, there is none afterwards.
        """
        if self.count == 1 or self.sharded:
            return
        for bucket in _buckets(parameters):
            flat = torch.cat([_or_zeros(parameter).view(-1) for parameter in bucket])
            has = torch.tensor([float(parameter.grad is not None) for parameter in bucket], device=flat.device)
            flat = torch.cat([flat, has])
            dist.all_reduce(flat)
            *sums, has = flat.split([*(parameter.numel() for parameter in bucket), len(bucket)])
            for parameter, total, ranks in zip(bucket, sums, has.tolist(), strict=True):
                parameter.grad = total.view_as(parameter) if ranks else None

    def device(self, chosen: torch.device) -> torch.device:
        """This rank's own GPU where ``chosen`` is CUDA. Raises ResourceError where the machine has not as many."""
        if self.count == 1 or chosen.type != "cuda":
            return chosen
        found = torch.cuda.device_count()
        if self.local_rank >= found:
            raise ResourceError(
                _("rank {rank} of this machine has no GPU of its own: torch finds {count}").format(
                    rank=self.local_rank, count=found
                ),
                fix=_("torchrun --nproc-per-node {count} …, or --set train.device=cpu").format(count=found),
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def require_same(self, inputs: Mapping[str, str]) -> None:
        """Raises ResourceError, with the difference, where ranks would train something else than the first one."""
        everyone = self.gathered(dict(inputs))
        for rank, theirs in enumerate(everyone):
            if changed := differences(everyone[0], theirs):
                raise ResourceError(
                    _("rank {rank} does not train the same as rank 0: {what}").format(rank=rank, what=", ".join(changed)),
                    fix=_("give every machine the same recipe, the same base and the same software"),
                )

    def require_rows(self, rows: int) -> None:
        """Raises ResourceError where there are more ranks than rows."""
        if self.count > rows:
            raise ResourceError(
                _("{count} ranks were started, and there are {rows} rows to train on").format(count=self.count, rows=rows),
                fix=_("start at most {rows} ranks: torchrun --nproc-per-node …").format(rows=rows),
            )


ALONE = Ranks()


def here() -> Ranks:
    """The ranks as ``joined`` made them."""
    found = launch() if dist.is_initialized() else None
    return ALONE if found is None else Ranks(found.rank, found.count, found.local_rank)


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that a launcher started, connected while the block runs; ``ALONE`` where nobody started several.

    Where the block fails on one rank, all of them end: the first one that fails raises its error, the others leave quietly.
    """
    found = launch()
    if found is None:
        yield ALONE
        return
    found_store, rank, count = next(rendezvous("env://"))
    store = dist.PrefixStore(_this_start(found_store, rank, count), found_store)  # type: ignore[attr-defined]
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
        yield here()
        here().wait()
    except KeyboardInterrupt:
        if rank:
            raise SystemExit(INTERRUPTED_EXIT_CODE) from None
        raise
    except Exception as error:
        if _another_spoke(store):
            raise SystemExit(1) from None
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise _lost(error) from error
        raise
    dist.destroy_process_group()


def _this_start(store: Any, rank: int, count: int) -> str:
    """A name for this start of the ranks, the same for all of them and for no other start.

    A launcher that starts lost ranks again keeps its store, with the addresses of the dead in it. So each rank says who it is by
    a word that nobody said before, and the first one answers to that.
    """
    word = uuid4().hex
    if rank:
        store.set(f"afina/here/{rank}", word)
        start: str = store.get(f"afina/start/{word}").decode()
        store.add(f"afina/joined/{start}", 1)
        return start
    while store.add(f"afina/joined/{word}", 0) < count - 1:
        for other in range(1, count):
            if store.check([f"afina/here/{other}"]):
                store.set(f"afina/start/{store.get(f'afina/here/{other}').decode()}", word)
        time.sleep(_ASK_AGAIN_S)
    return word


def _another_spoke(store: Any) -> bool:
    try:
        return bool(store.add(_SPOKE, 1) > 1)
    except dist.DistError:  # the rank that held the store is gone
        return False


def _lost(error: Exception) -> ResourceError:
    reason = str(error).splitlines()[0].split(". ")[0]  # gloo goes on for long
    return ResourceError(
        _("another rank went away ({reason}); the checkpoints made until then stay").format(reason=reason),
        fix=_("the same command goes on; torchrun --max-restarts 3 does so by itself"),
    )


def is_sharded(setting: bool | Literal["auto"], ranks: Ranks, frozen_bytes: int, device: torch.device) -> bool:
    """``train.shard`` decided. ``auto``: on GPUs where the frozen weights would take more than ``SHARE_OF_CARD`` of one."""
    if ranks.count == 1 or setting != "auto":
        return ranks.count > 1 and setting is True
    if device.type != "cuda":
        return False
    smallest = min(ranks.gathered(torch.cuda.get_device_properties(device).total_memory))
    return frozen_bytes > SHARE_OF_CARD * float(smallest)


def shard(model: PreTrainedModel, ranks: Ranks, device: torch.device) -> None:
    """Shares the decoder's layers out over the ranks, whatever their parts are; embeddings, norm and output layer stay whole.

    ``model`` may lie on the CPU: only this rank's parts go to ``device``. From here on all ranks must compute together.
    """
    mesh = init_device_mesh(device.type, (ranks.count,))
    layers = decoder_layers(model)
    for layer in layers:
        fully_shard(layer, mesh=mesh)
        layer.set_gradient_divide_factor(1.0)  # type: ignore[operator]  # summed, not averaged …
        layer.set_force_sum_reduction_for_comms(True)  # type: ignore[operator]  # … by the operation that gloo knows, too
    of_layers = set(layers.parameters())
    others = {parameter for parameter in model.parameters() if parameter not in of_layers}
    fully_shard(decoder_of(model), mesh=mesh, ignored_params=others)
    nn.Module.to(model, device)


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters in their order, at most ``_BUCKET`` bytes of them at once."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.nbytes > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    if bucket:
        yield bucket


def _or_zeros(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
