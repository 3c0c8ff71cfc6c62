"""What a training needs before it starts: memory by category, the choices that fit, time and disk.

The ladder goes from the fastest way to the leanest. A micro-batch of half the tokens costs next to nothing, so it comes first;
each further step computes something again, and says how much:

    nothing kept back · smaller micro-batches · selective · … in tiles · full · … in tiles · offload in tiles
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from afina.core.errors import ResourceError
from afina.core.translation import _
from afina.core.units import format_bytes
from afina.train.dry import Batch, Setup, dry_run
from afina.train.estimate import ALLOCATOR, FEWEST_TOKENS, MOST_TOKENS
from afina.train.saving import Checkpointing, Saving
from afina.train.sizes import Rows
from afina.train.storages import RAM
from afina.train.target import COPY_BYTES_A_SECOND, Target

_GRAIN = 256  # tokens: what a longest context is rounded down to
_SHORTEST = 1024  # tokens: below it the line no longer holds
_PROBES = (4096, 8192)  # tokens from which on the peak grows along a straight line


@dataclass(frozen=True)
class Wishes:
    """What the recipe fixes; None is left to the plan."""

    micro_tokens: int | None = None
    checkpointing: Checkpointing | None = None


@dataclass(frozen=True)
class Rung:
    """One way to train: what it needs, and what it computes more than the fastest way, as a share."""

    micro_tokens: int
    saving: Saving
    needed_bytes: int
    by_category: Mapping[str, int]
    ram_bytes: int
    flops_a_token: int
    extra: float
    fits: bool


@dataclass(frozen=True)
class Plan:
    """The ladder down to the first rung that fits, which is chosen; where none does, the leanest stands last."""

    target: Target
    rows: Rows
    ladder: tuple[Rung, ...]

    @property
    def chosen(self) -> Rung:
        return self.ladder[-1]

    @property
    def fits(self) -> bool:
        return self.chosen.fits

    @property
    def choices(self) -> dict[str, object]:
        """The settings that ``auto`` stands for."""
        saving = self.chosen.saving
        return {
            "micro_tokens": self.chosen.micro_tokens,
            "checkpointing": saving.checkpointing,
            "mlp_tile": saving.mlp_tile,
        }

    @cached_property
    def seconds_per_step(self) -> float:
        """Counted operations over the rate of the target, and the copies to RAM and back."""
        micro_batches = max(1.0, self.rows.step / self.chosen.micro_tokens)
        computing = self.rows.step * self.chosen.flops_a_token / (self.target.tflops * 1e12)
        return computing + micro_batches * 2 * self.chosen.ram_bytes / COPY_BYTES_A_SECOND


def make_plan(setup: Setup, target: Target, rows: Rows, wishes: Wishes) -> Plan:
    """Goes down the ladder to the first rung that fits ``target``. What fits nowhere is no error here: see ``require_fit``."""
    ladder: list[Rung] = []
    tried: set[tuple[Batch, Saving]] = set()
    for micro_tokens, saving in _ways(target, rows, wishes):
        way = (_batch(rows, micro_tokens), saving)
        if way in tried:  # the data have no such large micro-batch
            continue
        tried.add(way)
        rung = _rung(setup, target, way[0], micro_tokens, saving, ladder[0] if ladder else None)
        ladder.append(rung)
        if rung.fits:
            break
    return Plan(target, rows, tuple(ladder))


def _ways(target: Target, rows: Rows, wishes: Wishes) -> Iterator[tuple[int, Saving]]:
    """Micro-batch and saving of each rung, the fastest first."""
    sizes = list(_sizes(target, rows)) if wishes.micro_tokens is None else [max(wishes.micro_tokens, rows.longest)]
    savings = list(_savings(target, sizes[-1]))
    if wishes.checkpointing is not None:
        savings = [saving for saving in savings if saving.checkpointing == wishes.checkpointing]
    if not savings:
        savings = [Saving(wishes.checkpointing or "none")]
    for size in sizes[:-1]:
        yield size, savings[0]
    for saving in savings:
        yield sizes[-1], saving


def _sizes(target: Target, rows: Rows) -> Iterator[int]:
    """Tokens of a micro-batch, halved down to what is still fast or to the longest row."""
    most = max(rows.longest, MOST_TOKENS[target.kind])
    fewest = max(rows.longest, min(FEWEST_TOKENS[target.kind], most))
    size = most
    while size > fewest:
        yield size
        size = max(fewest, size // 2)
    yield fewest


def _savings(target: Target, tokens: int) -> Iterator[Saving]:
    tile = mlp_tile(tokens)
    yield Saving("none")
    yield Saving("selective")
    if tile < tokens:
        yield Saving("selective", tile)
    yield Saving("full")
    if tile < tokens:
        yield Saving("full", tile)
    if target.kind == "cuda":
        yield Saving("offload", tile if tile < tokens else None)


def mlp_tile(tokens: int) -> int:
    """An eighth of the tokens: what the MLP makes inside is then less than what attention holds, and the tiles stay large."""
    return max(512, -(-tokens // 8 // 128) * 128)


def _batch(rows: Rows, micro_tokens: int) -> Batch:
    """The largest micro-batch that can come up; a step ends with the row that fills it."""
    tokens = max(rows.longest, min(micro_tokens, rows.step + rows.longest), 2)
    return Batch(tokens, min(rows.longest, tokens), max(1, min(tokens - 1, round(rows.trained_share * tokens))))


def _rung(setup: Setup, target: Target, batch: Batch, micro_tokens: int, saving: Saving, fastest: Rung | None) -> Rung:
    dry = dry_run(setup, batch, saving, look=False)
    worst = dry.worst
    by_category = {name: size for name, size in worst.by_category.items() if size and name != RAM}
    by_category |= {"allocator": round(ALLOCATOR[target.kind] * worst.peak), **target.fixed}
    needed = sum(by_category.values())
    flops = dry.flops // batch.tokens
    extra = flops / fastest.flops_a_token - 1 if fastest else 0.0
    return Rung(micro_tokens, saving, needed, by_category, dry.ram, flops, extra, needed <= target.free_bytes)


def leanest(target: Target, tokens: int) -> Saving:
    """The last rung for a row of so many tokens."""
    return Saving("offload" if target.kind == "cuda" else "full", mlp_tile(tokens))


def context_line(setup: Setup, target: Target) -> tuple[float, float]:
    """Needed bytes = first + second · tokens, for one row in the leanest way. ``tests/train/test_plan.py`` holds the line."""
    low, high = (
        _rung(setup, target, Batch(tokens, tokens, tokens - 1), tokens, leanest(target, tokens), None) for tokens in _PROBES
    )
    slope = (high.needed_bytes - low.needed_bytes) / (_PROBES[1] - _PROBES[0])
    return low.needed_bytes - slope * _PROBES[0], slope


def context_within(line: tuple[float, float], target: Target) -> int:
    """Tokens of the longest single row, all of it trained, that fits; 0 where not even _SHORTEST do."""
    first, slope = line
    tokens = int((target.free_bytes - first) / slope) // _GRAIN * _GRAIN
    return tokens if tokens >= _SHORTEST else 0


def require_fit(plan: Plan, longest_that_fits: int | None = None) -> None:
    """Raises ResourceError, with by how much and what would help, where no rung fits."""
    if plan.fits:
        return
    lean = plan.chosen
    help_with = [_("a smaller base")]
    if lean.by_category.get("weights", 0) > lean.needed_bytes / 2:
        help_with.insert(0, "--set adapter.quantize=nf4")
    if longest_that_fits:
        help_with.insert(0, f"--set train.max_tokens={longest_that_fits}")
    raise ResourceError(
        _("the leanest way needs {needed}, {free} are free on {target}: {missing} too much").format(
            needed=format_bytes(lean.needed_bytes),
            free=format_bytes(plan.target.free_bytes),
            target=plan.target.name,
            missing=format_bytes(lean.needed_bytes - plan.target.free_bytes),
        ),
        fix=_("try one of: {ways}").format(ways=", ".join(help_with)),
    )
