"""The shape of a model: its configuration without weights. Enough to know what a training needs."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig

from afina.core.errors import DataError
from afina.core.translation import _
from afina.model.base import SHAPES, TINY, read_config, resolve_base, shape_names


def read_shape(base: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of ``base``: a shape that comes with afina, a folder with at least a config.json, or a recipe's base.

    Raises DataError where there is none, or none of a causal language model that transformers knows.
    """
    if base.lower() in shape_names():
        return config_of(SHAPES / f"{base.lower()}.json")
    if base == "tiny":
        return config_of(TINY / "config.json")
    folder = Path(base).expanduser()
    if folder.is_dir():
        path = folder / "config.json"
        if not path.is_file():
            raise DataError(
                _("{folder} has no config.json").format(folder=folder), fix=_("name the folder of a Hugging Face model as base")
            )
        return config_of(path)
    if "/" not in base:
        close = difflib.get_close_matches(base.lower(), shape_names(), n=1)
        meant = _("; did you mean '{name}'?").format(name=close[0]) if close else ""
        raise DataError(
            _("there is neither a folder nor a shape named {base}").format(base=base) + meant,
            fix=_("name a folder with a config.json, a hub id, or one of: {names}").format(names=", ".join(shape_names())),
        )
    return config_of(resolve_base(base, revision).folder / "config.json")


def config_of(path: Path) -> PreTrainedConfig:
    """The configuration in ``path``, which must be that of a causal language model."""
    tree: Any = read_config(path)
    family = tree.get("model_type") if isinstance(tree, dict) else None
    if not isinstance(family, str):
        raise DataError(
            _("{path} names no architecture: it has no model_type").format(path=path),
            fix=_("take the config.json that comes with the model"),
        )
    if family not in CONFIG_MAPPING or CONFIG_MAPPING[family] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        close = difflib.get_close_matches(family, list(CONFIG_MAPPING), n=1)
        meant = _("; did you mean '{name}'?").format(name=close[0]) if close else ""
        raise DataError(
            _("{path}: model_type is {family!r}, which is no causal language model that transformers knows").format(
                path=path, family=family
            )
            + meant,
            fix=_("choose another base"),
        )
    config: PreTrainedConfig = CONFIG_MAPPING[family].from_dict(tree)
    return config
