"""Other programs that show a training's numbers: TensorBoard, Weights & Biases, MLflow, trackio. Only where the recipe asks.

A tracker hears the events of the run and passes on the numbers of the training, under their names and steps. Its library is not
installed with afina.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from afina.core.errors import ResourceError
from afina.core.events import Event, Listener, Metric
from afina.core.translation import _

PROJECT = "afina"
_LIBRARIES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}

_Log = Callable[[dict[str, float], int], None]
_Open = tuple[_Log, Callable[[], None]]


def require_trackers(names: Sequence[str]) -> None:
    """Raises ResourceError, before anything is loaded, where the library of one is missing."""
    if missing := [name for name in names if find_spec(_LIBRARIES[name]) is None]:
        raise ResourceError(
            _("train.track names {names}, which are not installed").format(names=", ".join(missing)),
            fix=_('pip install "afina[{extra}]", or take them out of train.track').format(extra=",".join(missing)),
        )


@contextmanager
def tracked(
    names: Sequence[str], run_name: str, folder: Path, settings: Mapping[str, Any], stage: str
) -> Iterator[list[Listener]]:
    """A listener for each of ``names``; what they write to disk is below ``folder``."""
    opened = [_OPENERS[name](run_name, folder, settings) for name in names]
    try:
        yield [_listener(log, stage) for log, _close in opened]
    finally:
        for _log, close in opened:
            close()


def _listener(log: _Log, stage: str) -> Listener:
    def hear(event: Event) -> None:
        if isinstance(event, Metric) and event.stage == stage:
            log({f"{stage}/{name}": value for name, value in event.values.items()}, event.step)

    return hear


def _tensorboard(_run_name: str, folder: Path, settings: Mapping[str, Any]) -> _Open:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"))
    writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in settings.items()), 0)

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def _wandb(run_name: str, folder: Path, settings: Mapping[str, Any]) -> _Open:
    run: Any = import_module("wandb").init(project=PROJECT, name=run_name, config=dict(settings), dir=str(folder))
    return lambda values, step: run.log(values, step=step), run.finish


def _mlflow(run_name: str, _folder: Path, settings: Mapping[str, Any]) -> _Open:
    mlflow: Any = import_module("mlflow")
    mlflow.set_experiment(PROJECT)
    mlflow.start_run(run_name=run_name)
    mlflow.log_params(dict(settings))
    return lambda values, step: mlflow.log_metrics(values, step=step), mlflow.end_run


def _trackio(run_name: str, _folder: Path, settings: Mapping[str, Any]) -> _Open:
    trackio: Any = import_module("trackio")
    trackio.init(project=PROJECT, name=run_name, config=dict(settings))
    return lambda values, step: trackio.log(values, step=step), trackio.finish


_OPENERS: dict[str, Callable[[str, Path, Mapping[str, Any]], _Open]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
