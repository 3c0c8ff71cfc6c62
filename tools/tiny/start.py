"""The weights that the tiny model starts from: random, and in the first two layers a circuit that copies.

    layer 0   a head looks one token back and writes a code of what it finds there into a part of the residual stream of its own
    layer 1   a head looks for the place where the same code stands (the current token was there before) and hands on the token
              that stands there: what followed last time follows again

This is an induction head (Olsson et al., 2022). Models of this size find it by themselves, but late: it needs two layers that
help each other, and alone neither of them lowers the loss. Here the training starts from it; all weights are trained.

The attention of Llama has no biases, so that a head can look one token back only if all tokens have something in common: their
embeddings share the direction ``EVERY``. RoPE turns the pairs of a head's numbers by the position, the first pairs fast, the last
ones slowly: the first ones tell one position from the next, the last ones carry the code.
"""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention

EVERY, SHARED = 0, 6.0  # the direction that all tokens share, and how much larger it is than the others
ONE_BACK = 4.0  # nats by which the token before is preferred to the token itself
SAME = 4.0  # of codes; squared it is what their match weighs
CODE = 3.0  # how much larger a code is than the embedding under it
HANDED_ON = 12.0
LOUD = 0.1  # standard deviation of the embeddings: a step of the optimizer is small beside it
LEVEL = 0.1  # so that neither of a code's two matrices has entries as small as a step of the optimizer
QUIET = 0.1  # what random weights write into the residual stream, or it drowns the circuit's codes; less where it works


@torch.no_grad()
def add_circuit(model: LlamaForCausalLM) -> None:
    """Adds the circuit to ``model``'s random weights."""
    config: Any = model.config  # transformers calls every number of it optional
    size, width, groups = int(config.head_dim), int(config.hidden_size), int(config.num_key_value_heads)
    embeddings = model.model.embed_tokens.weight
    embeddings *= LOUD / float(config.initializer_range)
    embeddings[:, EVERY] = SHARED * LOUD
    axes = torch.linalg.qr(torch.randn(width - 1, width - 1)).Q.T  # (D - 1, D - 1), rows of length 1
    axes = torch.cat([torch.zeros(width - 1, 1), axes], dim=1)  # (D - 1, D), none of them along EVERY
    before, own = axes[: groups * size], axes[groups * size :]
    common = SHARED / math.sqrt((width - 1 + SHARED**2) / width)  # the shared direction behind the norm
    query, key = _one_back(size, float(config.rope_parameters["rope_theta"]))
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.o_proj.weight *= QUIET**2 if number < 2 else QUIET
        layer.mlp.down_proj.weight *= QUIET
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    first.v_proj.weight *= QUIET
    for group in range(groups):
        code = torch.randn(size, len(own)) / math.sqrt(len(own)) @ own  # (size, D): of the token alone
        place = before[group * size : (group + 1) * size]  # (size, D): where the code of the token before is kept
        handed = own[torch.arange(group * size, (group + 1) * size) % len(own)]
        slow = _slow(size)[:, None]
        _add(first, group, query=query[:, None] / common, key=key[:, None] / common, column=EVERY)
        _add_values(first, group, CODE * LEVEL * code, place.T * LOUD / LEVEL)
        _add(second, group, query=SAME * slow * code, key=SAME * slow * place)
        _add_values(second, group, handed, handed.T * LOUD * HANDED_ON)


def _one_back(size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Query and key (size,) that match best at a distance of one, by their five fastest pairs."""
    half = size // 2
    speed = theta ** (-torch.arange(half) / half)
    fast = (torch.arange(half) < 5).float()
    gap = float((fast * (1 - torch.cos(speed))).sum())
    strength = math.sqrt(ONE_BACK / gap * math.sqrt(size))
    query = torch.cat([fast * torch.cos(speed), -fast * torch.sin(speed)])
    return strength * query, strength * torch.cat([fast, torch.zeros(half)])


def _slow(size: int) -> Tensor:
    """1 for the slower half of the pairs, which look the same at any distance in a text, else 0; (size,)."""
    half = size // 2
    pairs = (torch.arange(half) >= half // 2).float()
    return torch.cat([pairs, pairs])


def _add(attention: LlamaAttention, group: int, *, query: Tensor, key: Tensor, column: int | None = None) -> None:
    """Adds to the queries of a group of heads and to its keys; to one input column only, or to all of them."""
    size = len(query)
    keys = attention.k_proj.weight[group * size : (group + 1) * size]
    heads = len(attention.q_proj.weight) // len(attention.k_proj.weight)
    columns = slice(None) if column is None else slice(column, column + 1)
    keys[:, columns] += key
    for head in range(group * heads, (group + 1) * heads):
        attention.q_proj.weight[head * size : (head + 1) * size, columns] += query


def _add_values(attention: LlamaAttention, group: int, value: Tensor, output: Tensor) -> None:
    """Adds to the values of a group and to what its heads, each its share, write."""
    size = len(value)
    heads = len(attention.q_proj.weight) // len(attention.k_proj.weight)
    attention.v_proj.weight[group * size : (group + 1) * size] += value
    for head in range(group * heads, (group + 1) * heads):
        attention.o_proj.weight[:, head * size : (head + 1) * size] += output / heads
