"""When layers are compiled."""

from __future__ import annotations

import shutil

import pytest
import torch

from afina.core.errors import ResourceError
from afina.train.compiled import choose_compiling

CPU = torch.device("cpu")
SHORT, LONG = 100_000, 10**12  # tokens


@pytest.fixture(params=[True, False], ids=["a compiler", "no compiler"])
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the machine has a compiler."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if request.param else None)
    return bool(request.param)


@pytest.mark.parametrize(("tokens", "checkpointing"), [(SHORT, "none"), (LONG, "none"), (LONG, "full")])
def test_auto_compiles_long_runs_where_it_can(compiler: bool, tokens: int, checkpointing: str) -> None:
    choice = choose_compiling("auto", CPU, 1_000_000, tokens, checkpointing)
    assert choice.on is (compiler and tokens == LONG and checkpointing == "none")
    assert choice.reason


@pytest.mark.parametrize("setting", [True, False])
def test_what_the_recipe_says_is_done_or_refused(compiler: bool, setting: bool) -> None:
    if setting and not compiler:
        with pytest.raises(ResourceError, match="there is no C\\+\\+ compiler here"):
            choose_compiling(setting, CPU, 1_000_000, SHORT, "none")
    else:
        assert choose_compiling(setting, CPU, 1_000_000, SHORT, "none").on is setting
