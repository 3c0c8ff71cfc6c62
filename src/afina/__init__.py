"""afina turns examples of how a model should answer into a specialised model that runs in Ollama.

>>> from afina import Recipe, run
>>> run(Recipe.load("recipe.yaml"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from afina.core.errors import AfinaError as AfinaError
    from afina.recipe.recipe import Recipe as Recipe
    from afina.stages.run import run as run

__version__ = "0.1.0"
__all__ = ["AfinaError", "Recipe", "__version__", "run"]

_HOMES = {"AfinaError": "afina.core.errors", "Recipe": "afina.recipe.recipe", "run": "afina.stages.run"}


def __getattr__(name: str) -> Any:
    """The public names, loaded when they are first used, so that importing afina costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'afina' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
