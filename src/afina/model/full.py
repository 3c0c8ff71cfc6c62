"""A model all of whose weights were trained, on disk: a base folder like the one it came from, in float32."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from afina.core.errors import DataError
from afina.core.files import replacing, write_json
from afina.core.translation import _
from afina.model.base import Base
from afina.model.tensors import write_tensors
from afina.model.weights import SINGLE, Checkpoint

_COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "generation_config.json")


def require_same_names(parameters: Mapping[str, Tensor], base: Base) -> None:
    """Raises DataError where the weights in memory are not those in the base's files, name by name.

    A tied output layer may stand in the files all the same; it is not written again.
    """
    stored = set(Checkpoint(base.folder).names())
    tied = {"lm_head.weight"} if base.config.get("tie_word_embeddings") else set()
    if different := sorted(stored.symmetric_difference(parameters) - tied):
        raise DataError(
            _(
                "{folder}: these weights have other names in memory, and a model trained as a whole could not be written: {names}"
            ).format(folder=base.folder, names=", ".join(different[:3])),
            fix="--set adapter.method=lora",
        )


def save_full(folder: Path, parameters: Mapping[str, Tensor], base: Base) -> None:
    """Writes ``parameters`` with the base's configuration and tokenizer; each file is replaced whole, the weights last."""
    for name in _COPIED:
        if (base.folder / name).is_file():
            with replacing(folder / name) as path:
                shutil.copyfile(base.folder / name, path)
    config = {key: value for key, value in base.config.items() if key not in ("dtype", "torch_dtype", "quantization_config")}
    write_json(folder / "config.json", {**config, "dtype": "float32"})
    write_tensors(folder / SINGLE, parameters, {"format": "pt"})
