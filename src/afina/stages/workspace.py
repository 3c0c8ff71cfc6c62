"""The place of a run while a command works in it: locked, its recipe frozen, its events written and heard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from afina.core.errors import RecipeError, ServiceError
from afina.core.events import Events, Listener
from afina.core.files import write_atomic
from afina.core.run import RunFolder
from afina.recipe.load import to_yaml
from afina.recipe.recipe import Recipe

DEFAULT_RUNS = Path("runs")


@contextmanager
def working_in(
    recipe: Recipe, runs: Path = DEFAULT_RUNS, listeners: tuple[Listener, ...] = (), *, leads: bool = True
) -> Iterator[tuple[RunFolder, Events]]:
    """The folder of the recipe's run and its events. Raises ResourceError where another process works there.

    One that does not lead takes part in the work of one that does: it writes nothing, and nobody hears its events.

    A recipe that turns out to be mistaken (RecipeError) does not replace the one of the run before it, nor does one that differs
    only in where the model goes, where nobody answers there (ServiceError).
    """
    run = RunFolder(runs / recipe.name)
    if not leads:
        with Events() as events:
            yield run, events
        return
    with run.locked(), Events(run.events_path, listeners) as events:
        before = run.recipe_path.read_text(encoding="utf-8") if run.recipe_path.is_file() else None
        write_atomic(run.recipe_path, to_yaml(recipe))
        try:
            yield run, events
        except (RecipeError, ServiceError) as error:  # a mistake in it is not what later commands shall take it from
            if before is not None and (isinstance(error, RecipeError) or _deploys_elsewhere(before, recipe)):
                write_atomic(run.recipe_path, before)
            raise


def _deploys_elsewhere(before: str, recipe: Recipe) -> bool:
    """Whether nothing but ``deploy`` is otherwise than in the recipe before: all other stages are as good for both."""
    old, new = yaml.safe_load(before), recipe.model_dump(mode="json")
    return {**old, "deploy": None} == {**new, "deploy": None}
