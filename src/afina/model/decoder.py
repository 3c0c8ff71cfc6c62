"""The stack of layers of a causal language model, found by what all of them have in common."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder's layers, first to last. Raises TypeError where there is no list of as many modules as the config names."""
    count = model.config.get_text_config().num_hidden_layers
    for _name, module in model.get_decoder().named_children():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise TypeError(f"{type(model).__name__} has no list of {count} layers")
