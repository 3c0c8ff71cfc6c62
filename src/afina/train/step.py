"""One micro-batch: from packed ids to the summed loss of its trained tokens.

In scope: any causal language model that transformers knows, through public hooks only (its table of attention functions, its
decoder, its output layer). A family whose rows cannot be packed is found by trying, and its rows are computed one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Source
from afina.data.pack import Packed, micro_batches, pack
from afina.data.render import Row
from afina.model.decoder import decoder_layers, decoder_of
from afina.train import attention
from afina.train.attention import Layout, documents_of
from afina.train.lanes import ONE_LANE, Lanes
from afina.train.last_layer import prune_last_layer, used_places
from afina.train.loss import head_of, summed_loss
from afina.train.norms import join_norms
from afina.train.ranks import ALONE, Piece, Ranks


def prepare(model: PreTrainedModel, *, prune: bool = True, compiled: bool = False) -> list[str]:
    """Makes ``packed_loss`` right and fast on ``model``, once, and returns in words what could not be made fast and why.

    Each is tried on two short rows against the family's own attention and logits: rows packed; with ``prune`` the last layer
    only where its result is used. ``compiled``: ``torch.compile`` for each layer, which takes a C++ compiler (CPU) or Triton
    (CUDA) and about half a minute; values differ in their last digits. Raises DataError where the hidden states do not make the
    family's logits.
    """
    own = attention_name(model)
    wanted = _tried_alone(model)
    if not compiled:  # a compiler joins all of a layer's small operations
        join_norms(model)
    attention.register()
    difference = _unknown_mask(model)
    try:
        if difference is None:
            model.set_attn_implementation(attention.NAME)
            difference = _difference(model, wanted)
    except (TypeError, ValueError, RuntimeError) as error:
        difference = str(error).splitlines()[0]
    if difference is not None:
        model.set_attn_implementation(own)
        return [_("rows are computed one by one: {reason}").format(reason=difference)]
    remarks = []
    layers = list(decoder_layers(model))
    if prune:
        hook = prune_last_layer(layers[-1])
        try:
            difference = _difference(model, wanted)
        except (TypeError, ValueError, RuntimeError) as error:
            difference = str(error).splitlines()[0]
        if difference is not None:
            hook.remove()
            remarks = [_("the last layer is computed whole: {reason}").format(reason=difference)]
    for layer in layers[:-1] if compiled else []:  # the last one is left half-way, which a compiled layer cannot be
        layer.forward = torch.compile(layer.forward, dynamic=True)  # and not the whole call: checkpointing may go around it
    return remarks


def _unknown_mask(model: PreTrainedModel) -> str | None:
    """In words, what the family's attention may not see and packed attention would; two short rows would not show it."""
    if "chunked_attention" in (getattr(model.config.get_text_config(), "layer_types", None) or ()):
        return _("its attention sees chunks of tokens")
    return None


def attention_name(model: PreTrainedModel) -> str:
    """The attention implementation that ``model`` uses, by transformers' name."""
    return str(model.config._attn_implementation)


_TRIED = [Row(array("i", ids), ((10, len(ids)),), Source("", 0)) for ids in (range(1, 13), (*range(1, 11), 20, 21, 22))]


@torch.no_grad()
def _tried_alone(model: PreTrainedModel) -> Tensor:
    """Hidden states (N, D) of the tried rows in the family's own attention, after a look at the logits that they make."""
    try:
        hidden = torch.cat([_hidden_alone(model, row) for row in _TRIED])
    except AttributeError as error:
        raise _unknown_head(model, str(error)) from None
    theirs = [
        model(input_ids=torch.tensor(row.ids, device=model.device)[None], use_cache=False).logits[0, 9:-1].float()
        for row in _TRIED
    ]
    if (difference := _distance(head_of(model).logits(hidden), torch.cat(theirs), model.dtype)) is not None:
        raise _unknown_head(model, difference)
    return hidden


@torch.no_grad()
def _difference(model: PreTrainedModel, wanted: Tensor) -> str | None:
    """In words, how the tried rows packed differ from ``wanted``; None where they do not."""
    return _distance(_hidden(model, pack(_TRIED))[0], wanted, model.dtype)


def _distance(ours: Tensor, theirs: Tensor, computed: torch.dtype) -> str | None:
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    limit = 64 * torch.finfo(computed).eps
    if difference <= limit:
        return None
    return _("values differ by {difference:.1e} of the largest; at most {limit:.1e} is rounding").format(
        difference=difference, limit=limit
    )


def _unknown_head(model: PreTrainedModel, reason: str) -> DataError:
    return DataError(
        _("the output layer of {family} is not computed as afina knows it: {reason}").format(
            family=model.config.model_type, reason=reason
        ),
        fix=_("choose a base of another family (Llama, Mistral, Qwen, Gemma, Phi, …)"),
    )


def packed_loss(model: PreTrainedModel, batch: Packed) -> Tensor:
    """Summed loss of a micro-batch; the output layer sees only the rows that predict a trained token."""
    if attention_name(model) == attention.NAME:
        hidden, targets = _hidden(model, batch)
    else:
        hidden = torch.cat([_hidden_alone(model, row) for row in batch.rows])
        targets = torch.tensor([target for row in batch.rows for target in pack([row]).targets], device=model.device)
    return summed_loss(hidden, head_of(model), targets)


def _hidden(model: PreTrainedModel, batch: Packed) -> tuple[Tensor, Tensor]:
    """Hidden states (N, D) at the places that predict a trained token, and those tokens (N,)."""
    device = model.device
    documents = documents_of(batch)
    used = used_places(documents, batch.inputs, device)
    hidden = decoder_of(model)(
        input_ids=torch.tensor(batch.ids, device=device)[None],  # (1, T)
        position_ids=torch.tensor(batch.positions, device=device)[None],
        use_cache=False,
        layout=Layout(documents, device),
        used=used,
    ).last_hidden_state[0]  # (T, D), or (places, D) where the last layer is pruned
    inputs = torch.tensor(batch.inputs, device=device)
    if used is not None and len(hidden) == len(used.places):
        inputs = torch.searchsorted(used.places, inputs)
    return hidden.index_select(0, inputs), torch.tensor(batch.targets, device=device)


def _hidden_alone(model: PreTrainedModel, row: Row) -> Tensor:
    """The same of one row by itself in the family's own attention."""
    batch = pack([row])
    ids = torch.tensor(batch.ids, device=model.device)[None]
    hidden: Tensor = decoder_of(model)(input_ids=ids, use_cache=False).last_hidden_state[0]
    return hidden.index_select(0, torch.tensor(batch.inputs, device=model.device))


def mean_loss(
    model: PreTrainedModel, rows: Sequence[Row], micro_tokens: int, ranks: Ranks = ALONE, lanes: Lanes = ONE_LANE
) -> float:
    """Loss a trained token over ``rows``, all tokens weighing the same; each of ``ranks`` computes a part and knows the whole."""

    @torch.no_grad()
    def summed(piece: Piece) -> float:
        return packed_loss(model, piece.batch).item()

    tokens = sum(row.trained_tokens for row in rows)
    pieces = ranks.share(micro_batches(rows, micro_tokens, multiple=ranks.count * lanes.count))
    losses = zip(pieces, lanes.in_order(summed, pieces), strict=True)
    return sum(ranks.in_order({piece.number: loss for piece, loss in losses if piece.counts})) / tokens
