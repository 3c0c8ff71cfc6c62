"""What a training needs before it starts: memory by category, the choices that fit, time and disk.

The ladder goes from the fastest way to the leanest. On a CPU several micro-batches side by side come first (``lanes.py``); one of
half the tokens costs next to nothing, so it comes next, as long as it keeps the device busy; each further step computes something
again, and says how much:

    side by side · nothing kept back · smaller micro-batches · selective · … in tiles · full · … in tiles · offload in tiles
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from afina.core.errors import ResourceError
from afina.core.translation import _
from afina.core.units import format_bytes
from afina.train.dry import Batch, Dry, Kind, Part, Setup, dry_run
from afina.train.estimate import ALLOCATOR, FEWEST_TOKENS, most_tokens
from afina.train.saving import Checkpointing, Saving
from afina.train.sizes import Rows
from afina.train.storages import RAM
from afina.train.target import COPY_BYTES_A_SECOND, Target

_GRAIN = 256  # tokens: what a longest context is rounded down to
SHORTEST = 1024  # tokens: no shorter context is told
_PROBES = (8192, 32768)  # tokens: where a longest context is looked for first
# Seconds in which Python hands a GPU one decoder layer's kernels, forward and backward: measured with NF4 on an H100's host,
# where micro-batches of 2,048 and 4,096 tokens took the same time (bench/results/plan-cuda.json). A slower GPU never notices.
LAUNCH_S = 0.0134
# As ALLOCATOR, measured too (bench/results/plan.json): with several lanes each thread keeps some for itself; where layers are
# computed again the tensors are fewer and come and go more often.
_LANES_KEEP, _AGAIN_KEEPS = 0.32, 0.35
_OF_EACH_LANE = frozenset({"activations", "loss", "quantization"})


@dataclass(frozen=True)
class Wishes:
    """What the recipe fixes; None is left to the plan. ``lanes``: at most so many micro-batches side by side."""

    micro_tokens: int | None = None
    checkpointing: Checkpointing | None = None
    lanes: int = 1


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
    lanes: int = 1


@dataclass(frozen=True)
class Plan:
    """The ladder down to the first rung that fits, which is chosen; where none does, the leanest stands last."""

    target: Target
    rows: Rows
    layers: int
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
            "lanes": self.chosen.lanes,
        }

    @cached_property
    def seconds_per_step(self) -> float:
        """Counted operations over the rate of the target, or what launching them takes; and the copies to RAM and back."""
        micro_batches = max(1.0, self.rows.step / self.chosen.micro_tokens)
        computing = self.rows.step * self.chosen.flops_a_token / (self.target.tflops * 1e12)
        launching = (
            micro_batches * self.layers * LAUNCH_S * (1 + max(0.0, self.chosen.extra)) if self.target.kind == "cuda" else 0.0
        )
        return max(computing, launching) + micro_batches * 2 * self.chosen.ram_bytes / COPY_BYTES_A_SECOND


def make_plan(setup: Setup, target: Target, rows: Rows, wishes: Wishes) -> Plan:
    """Goes down the ladder to the first rung that fits ``target``. What fits nowhere is no error here: see ``require_fit``."""
    ladder: list[Rung] = []
    tried: set[tuple[Batch, Saving, int]] = set()
    layers = int(setup.config.num_hidden_layers)

    def busy_from() -> int:
        return tokens_that_keep_busy(target, layers, ladder[0].flops_a_token)

    for micro_tokens, saving, lanes in _ways(
        target, rows, wishes, most_tokens(target.kind, int(setup.config.get_text_config().hidden_size)), busy_from
    ):
        way = (_batch(rows, micro_tokens, lanes), saving, lanes)
        if way in tried:  # the data have no such large micro-batch
            continue
        tried.add(way)
        adds_up = rows.step > way[0].tokens
        rung = _rung(setup, target, way[0], micro_tokens, saving, ladder[0] if ladder else None, lanes, adds_up=adds_up)
        ladder.append(rung)
        if rung.fits:
            break
    return Plan(target, rows, layers, tuple(ladder))


def tokens_that_keep_busy(target: Target, layers: int, flops_a_token: int) -> int:
    """Tokens of a micro-batch below which a GPU would wait for the program more than compute; 0 for a CPU."""
    if target.kind != "cuda":
        return 0
    return round(layers * LAUNCH_S * target.tflops * 1e12 / flops_a_token)


def _ways(
    target: Target, rows: Rows, wishes: Wishes, most: int, busy_from: Callable[[], int]
) -> Iterator[tuple[int, Saving, int]]:
    """Micro-batch, saving and lanes of each rung, the fastest first; ``busy_from`` is known once the first one was looked at. At
    most ``most`` tokens are computed at once, but for rows that have more.
    """
    lanes = wishes.lanes
    while lanes > 1:
        size = wishes.micro_tokens or most
        fewest = wishes.micro_tokens or max(FEWEST_TOKENS[target.kind], most // lanes)
        while size >= fewest:
            yield size, _wished(target, size, wishes)[0], lanes
            size //= 2
        lanes //= 2
    yield from ((size, saving, 1) for size, saving in _ways_alone(target, rows, wishes, most, busy_from))


def _ways_alone(
    target: Target, rows: Rows, wishes: Wishes, most: int, busy_from: Callable[[], int]
) -> Iterator[tuple[int, Saving]]:
    """Those of one micro-batch at a time."""
    if wishes.micro_tokens is not None:
        size = max(wishes.micro_tokens, rows.longest)
        yield from ((size, saving) for saving in _wished(target, size, wishes))
        return
    size = most = max(rows.longest, most)
    fewest = max(rows.longest, min(FEWEST_TOKENS[target.kind], most))
    yield size, _wished(target, size, wishes)[0]
    busy = min(most, max(fewest, busy_from()))
    while size // 2 > busy:
        size //= 2
        yield size, _wished(target, size, wishes)[0]
    for size in dict.fromkeys((busy, fewest)):
        yield from ((size, saving) for saving in _wished(target, size, wishes))


def _wished(target: Target, tokens: int, wishes: Wishes) -> list[Saving]:
    """The ways to save memory that are left to the plan, the fastest first."""
    if wishes.checkpointing is None:
        return list(_savings(target, tokens))
    savings = [saving for saving in _savings(target, tokens) if saving.checkpointing == wishes.checkpointing]
    return savings or [Saving(wishes.checkpointing)]


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


def _batch(rows: Rows, micro_tokens: int, lanes: int) -> Batch:
    """The largest micro-batch that can come up, of several the part of each; a step ends with the row that fills it."""
    tokens = max(rows.longest, min(micro_tokens, rows.step + rows.longest), 2)
    tokens = max(2, min(tokens, -(-(rows.step + rows.longest) // lanes)))
    return Batch(tokens, min(rows.longest, tokens), max(1, min(tokens - 1, round(rows.trained_share * tokens))))


def _rung(
    setup: Setup,
    target: Target,
    batch: Batch,
    micro_tokens: int,
    saving: Saving,
    fastest: Rung | None,
    lanes: int = 1,
    *,
    adds_up: bool = False,
) -> Rung:
    """``adds_up``: a step has more micro-batches than this one."""
    dry = side_by_side(dry_run(setup, batch, saving, look=False), lanes, adds_up=adds_up)
    worst = dry.worst
    by_category = {name: size for name, size in worst.by_category.items() if size and name != RAM}
    by_category |= {"allocator": round(allocator_share(target.kind, saving, lanes) * worst.peak), **target.fixed}
    needed = sum(by_category.values())
    flops = dry.flops // batch.tokens
    extra = flops / fastest.flops_a_token - 1 if fastest else 0.0
    return Rung(micro_tokens, saving, needed, by_category, dry.ram, flops, extra, needed <= target.free_bytes, lanes)


def allocator_share(kind: Kind, saving: Saving, lanes: int) -> float:
    """What the allocator keeps beside the tensors, as a share of them."""
    if lanes > 1:
        return _LANES_KEEP
    return _AGAIN_KEEPS if kind == "cpu" and saving.checkpointing == "full" else ALLOCATOR[kind]


def side_by_side(dry: Dry, lanes: int, *, adds_up: bool = False) -> Dry:
    """What ``lanes`` micro-batches at once come to, each at its peak with gradients of its own, which are added to the step's.
    One alone has the step's too where it is not the first: ``adds_up``.
    """
    if lanes == 1 and not adds_up:
        return dry
    gradients = max(part.by_category.get("gradients", 0) for part in dry.parts.values())

    def together(part: Part) -> Part:
        if not any(part.by_category.get(name) for name in _OF_EACH_LANE):
            return part
        found = {name: size * (lanes if name in _OF_EACH_LANE else 1) for name, size in part.by_category.items()}
        found["gradients"] = gradients if lanes == 1 else (lanes + 1) * gradients
        return Part(sum(found.values()), found, part.ram)

    return replace(dry, parts={name: together(part) for name, part in dry.parts.items()})


def leanest(target: Target, tokens: int) -> Saving:
    """The last rung for a row of so many tokens."""
    return Saving("offload" if target.kind == "cuda" else "full", mlp_tile(tokens))


class ContextNeeds:
    """Needed bytes of one row of so many tokens, all of them trained, in the leanest way; ``known`` are those run dry so far."""

    def __init__(self, setup: Setup, target: Target) -> None:
        self._setup, self._target = setup, target
        self.known: dict[int, int] = {}

    def __call__(self, tokens: int) -> int:
        if tokens not in self.known:
            way = leanest(self._target, tokens)
            rung = _rung(self._setup, self._target, Batch(tokens, tokens, tokens - 1), tokens, way, None)
            self.known[tokens] = rung.needed_bytes
        return self.known[tokens]


def longest_context(needs: ContextNeeds, free_bytes: int) -> int:
    """Tokens of the longest single row that fits; 0 where not even SHORTEST do. Several sizes take the least time largest first.

    The peak is that of the part that needs most, each of which grows along a line: so it bends upwards only, and between two
    places that were run dry it lies below the line through them. What is told lies between two such places, or was run dry.
    """
    if needs(_PROBES[0]) > free_bytes:
        return 0 if needs(SHORTEST) > free_bytes else _on_line(needs, SHORTEST, _PROBES[0], free_bytes)
    if all(needed <= free_bytes for needed in needs.known.values()):
        for probe in _PROBES[1:]:
            needs(probe)
    for _attempt in range(3):
        if (guess := _beyond_known(needs, free_bytes)) is None:
            break
        if needs(guess) > free_bytes:  # it bends once more
            needs(_between(needs, free_bytes))
    return _between(needs, free_bytes)


def _beyond_known(needs: ContextNeeds, free_bytes: int) -> int | None:
    """Where the line through the last two known places leads to, if all fit and that is more than a little further on."""
    if any(needed > free_bytes for needed in needs.known.values()):
        return None
    before, last = sorted(needs.known)[-2:]
    guess = _on_line(needs, before, last, free_bytes)
    return guess if guess > 1.02 * last else None


def _between(needs: ContextNeeds, free_bytes: int) -> int:
    """On the line from the last known place that fits to the first that does not; that place where all fit."""
    fitting = max(tokens for tokens, needed in needs.known.items() if needed <= free_bytes)
    beyond = [tokens for tokens, needed in needs.known.items() if needed > free_bytes]
    return _on_line(needs, fitting, min(beyond), free_bytes) if beyond else fitting


def _on_line(needs: ContextNeeds, low: int, high: int, free_bytes: int) -> int:
    """Where the line through ``low`` and ``high`` meets ``free_bytes``, rounded down."""
    slope = (needs(high) - needs(low)) / (high - low)
    return int(low + (free_bytes - needs(low)) / slope) // _GRAIN * _GRAIN


def require_fit(plan: Plan, longest_that_fits: int | None = None) -> None:
    """Raises ResourceError, with by how much and what would help, where no rung fits."""
    if plan.fits:
        return
    lean = plan.chosen
    raise ResourceError(
        _("the leanest way needs {needed}, {free} are free on {target}: {missing} too much").format(
            needed=format_bytes(lean.needed_bytes),
            free=format_bytes(plan.target.free_bytes),
            target=plan.target.name,
            missing=format_bytes(lean.needed_bytes - plan.target.free_bytes),
        ),
        fix=_("try one of: {ways}").format(ways=", ".join(ways_to_fit(plan, longest_that_fits))),
    )


def ways_to_fit(plan: Plan, longest_that_fits: int | None = None) -> list[str]:
    """What would help where no rung fits."""
    lean = plan.chosen
    help_with = [_("a smaller base")]
    if lean.by_category.get("weights", 0) > lean.needed_bytes / 2:
        help_with.insert(0, "--set adapter.quantize=nf4")
    if longest_that_fits:
        help_with.insert(0, f"--set train.max_tokens={longest_that_fits}")
    return help_with
