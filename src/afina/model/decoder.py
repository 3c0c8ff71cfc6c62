"""The stack of layers of a causal language model, found by what all of them have in common."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """What makes hidden states of ids: embeddings, layers and the last norm. (Llama 4 says that it is its own decoder.)"""
    found: nn.Module = model.get_decoder()
    inner = [child for child in found.children() if isinstance(child, PreTrainedModel)] if found is model else []
    return inner[0] if inner else found


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder's layers, first to last. Raises TypeError where there is no list of as many modules as the config names."""
    count = model.config.get_text_config().num_hidden_layers
    for _name, module in decoder_of(model).named_children():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise TypeError(f"{type(model).__name__} has no list of {count} layers")
