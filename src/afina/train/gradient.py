"""The gradient of one step: the sum over its micro-batches, divided once by the step's trained tokens, clipped, finite.

With several ranks ``batches`` are those of the whole step, of which each rank computes some; numbers and noise are as with one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from afina.core.errors import QualityError
from afina.core.translation import _
from afina.data.pack import Packed, pack
from afina.data.render import Row
from afina.model.tensors import whole
from afina.recipe.recipe import Train
from afina.train.lanes import ONE_LANE, Lanes
from afina.train.noise import EmbeddingNoise
from afina.train.ranks import ALONE, Piece, Ranks
from afina.train.repeatable import repeatable
from afina.train.step import packed_loss
from afina.train.trainee import Trainee

_NAMED = 8  # rows that a message names


@dataclass(frozen=True)
class Gradient:
    """Makes the gradients of a step. ``scaler`` does something in float16 only."""

    model: PreTrainedModel
    trainee: Trainee
    scaler: torch.amp.GradScaler
    noise: EmbeddingNoise
    settings: Train
    ranks: Ranks = ALONE
    lanes: Lanes = ONE_LANE

    def of_step(self, optimizer: torch.optim.Optimizer, batches: Sequence[Packed], step: int) -> tuple[float, float]:
        """Leaves the gradients of step ``step`` (from 0) in the parameters; its loss a trained token, and the gradients' norm
        before clipping.

        Raises QualityError with the rows' places where a loss or a gradient is not finite.
        """
        set_train_mode(self.model)
        tokens = sum(len(batch.targets) for batch in batches)
        pieces = self.ranks.share(batches)
        if self.lanes.count == 1:
            losses = [(piece, self._add(piece, tokens, step)) for piece in pieces]
        else:
            losses = list(self._added_in_order(pieces, tokens))
        totals = self.ranks.in_order({piece.number: loss for piece, loss in losses if piece.counts})
        if wrong := [batch for batch, total in zip(batches, totals, strict=True) if not math.isfinite(total)]:
            raise self._not_finite(_("the loss"), wrong, step)
        self.ranks.sum_gradients(self.trainee.parameters.values())
        self.scaler.unscale_(optimizer)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.trainee.parameters.values(), self.settings.clip)))
        if not (math.isfinite(norm) or self._may_overflow()):
            raise self._not_finite(_("the gradient"), batches, step)
        self.model.eval()
        return sum(totals) / tokens, norm

    def _add(self, piece: Piece, tokens: int, step: int) -> float:
        """Adds a micro-batch's share to the gradients; returns its summed loss."""
        # the seed of dropout and of the embeddings' noise
        torch.manual_seed((self.settings.seed * 1_000_003 + step) * 1_003 + piece.number)
        with repeatable(self.model.device, self.settings.checkpointing):
            with self.noise.on(piece.batch):
                loss = packed_loss(self.model, piece.batch)
            self.scaler.scale(loss / tokens * piece.counts).backward()
        return loss.item()

    def _added_in_order(self, pieces: Sequence[Piece], tokens: int) -> Iterator[tuple[Piece, float]]:
        """The same with micro-batches side by side: each makes gradients of its own, which are added in their order."""
        parameters = list(self.trainee.parameters.values())

        def work(piece: Piece) -> tuple[float, Sequence[Tensor | None]]:
            loss = packed_loss(self.model, piece.batch)
            gradients = torch.autograd.grad(loss / tokens, parameters, allow_unused=True)
            return loss.item(), gradients

        for piece, (loss, gradients) in zip(pieces, self.lanes.in_order(work, pieces), strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
            yield piece, loss

    def _may_overflow(self) -> bool:
        """In float16 a gradient that is too large is no mistake: the step is passed over and the scale goes down, as far as 1."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1

    def _not_finite(self, what: str, batches: Sequence[Packed], step: int) -> QualityError:
        rows = [row for batch in batches for row in batch.rows]
        return not_finite(what, step + 1, [row for row in rows if not self._is_finite(row)] or rows)

    def _is_finite(self, row: Row) -> bool:
        """Whether the row's loss and gradients are, alone and without noise."""
        self.model.eval()
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        loss = packed_loss(self.model, pack([row]))
        found: Sequence[Tensor | None] = torch.autograd.grad(loss, parameters, allow_unused=True)
        return math.isfinite(loss.item()) and all(bool(part.isfinite().all()) for part in found if part is not None)


def set_train_mode(model: nn.Module) -> None:
    """Training mode for adapters and activation checkpointing; the base's own dropout stays off, for a frozen base is not
    regularised.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()


def not_finite(what: str, step: int, rows: Sequence[Row]) -> QualityError:
    """The error that names ``rows``, the first of them."""
    places = ", ".join(dict.fromkeys(str(row.source) for row in rows[:_NAMED]))
    more = _(" and {count} more").format(count=len(rows) - _NAMED) if len(rows) > _NAMED else ""
    return QualityError(
        _("{what} is not a finite number at step {step}; the rows were {places}{more}").format(
            what=what, step=step, places=places, more=more
        ),
        fix=_("look at these rows; then lower train.learning_rate, or --set train.dtype=float32"),
    )
