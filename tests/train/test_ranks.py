"""Two real ranks on the CPU, started by torchrun: what one process would have learned, whoever is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from afina.core.errors import ResourceError
from afina.core.launch import launch
from afina.data.pack import micro_batches
from afina.train.ranks import Ranks, is_sharded
from tests.fakes.models import write_model
from tests.fakes.several_ranks import LOSSES, run
from tests.fakes.training import assert_bit_equal, made_up_rows, needs_compiler, weights_of

ELSEWHERE = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


def start_ranks(base: Path, folder: Path, names: list[str], *, count: int = 2, restarts: int = 0) -> str:
    """Runs the named trainings on ``count`` ranks below ``folder``; what they wrote on standard error."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += [f"--max-restarts={restarts}", "--monitor-interval=0.2", "-m", "tests.fakes.several_ranks", str(base), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *names], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def assert_same(one: Path, other: Path, limit: float = 1e-6) -> None:
    """The weights, all together, and the losses and norms of each step that both saw are the same up to ``limit`` of them."""
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    distance, size = (
        torch.stack([part.double().norm() for part in parts]).norm()
        for parts in ([ours[name] - theirs[name] for name in ours], ours.values())
    )
    assert distance <= limit * size
    mine, others = (json.loads((folder / LOSSES).read_text()) for folder in (one, other))
    assert mine.keys() & others.keys() >= {"6", "7", "8"}
    for step in mine.keys() & others.keys():
        assert others[step] == pytest.approx(mine[step], rel=limit)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of trainings by one process and by two ranks, of which one was lost in one training and started again."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for name in ("plain", "nf4"):
        run(base, one / name, name)
    run(base, two / "plain-killed", "plain-killed")
    shutil.copytree(two / "plain-killed", two / "plain-sharded-after-one")
    (two / "plain-sharded-after-one" / LOSSES).unlink()
    names = ["plain", "nf4-sharded", "plain-sharded-after-one", "nf4-sharded-killed", "nf4-sharded-lost"]
    start_ranks(base, two, names, restarts=1)
    return one, two


def test_two_ranks_learn_what_one_process_learns(trained: tuple[Path, Path]) -> None:
    one, two = trained
    assert_same(one / "plain", two / "plain")


def test_sharded_codes_of_four_bits_learn_what_whole_ones_learn(trained: tuple[Path, Path]) -> None:
    one, two = trained
    assert_same(one / "nf4", two / "nf4-sharded")
    shards = sorted(path.name for path in (two / "nf4-sharded" / "checkpoints" / "step-00000008").iterdir())
    assert len(shards) == 3  # a file a rank, and the state
    assert shards[-1] == "state.json"


def test_a_training_goes_on_with_another_number_of_ranks(base: Path, trained: tuple[Path, Path]) -> None:
    one, two = trained
    assert_same(one / "plain", two / "plain-sharded-after-one")
    run(base, two / "nf4-sharded-killed", "nf4")
    assert_same(one / "nf4", two / "nf4-sharded-killed")


def test_where_one_rank_is_killed_all_go_on_from_the_last_checkpoint(trained: tuple[Path, Path]) -> None:
    assert_same_but_later(trained[1], "nf4-sharded")


@pytest.mark.slow
def test_whole_models_go_on_like_sharded_ones(base: Path, tmp_path: Path) -> None:
    start_ranks(base, tmp_path, ["plain", "plain-lost"], restarts=1)
    assert_same_but_later(tmp_path, "plain")


def assert_same_but_later(folder: Path, name: str) -> None:
    """The training that lost a rank is the other one bit for bit, and its second start began after the first one's checkpoint."""
    assert_bit_equal(folder / name, folder / f"{name}-lost")
    undisturbed, lost = (json.loads((folder / part / LOSSES).read_text()) for part in (name, f"{name}-lost"))
    assert sorted(lost) == ["5", "6", "7", "8"]
    assert all(undisturbed[step] == losses for step, losses in lost.items())


@pytest.mark.slow
def test_every_kind_of_training_is_the_same_on_more_ranks(base: Path, tmp_path: Path) -> None:
    kinds = ["int8", "pissa", "dora", "few-rows"]
    names = [*kinds, *(f"{kind}-sharded" for kind in kinds), "full", "float16"]
    start_ranks(base, tmp_path / "several", names, count=3)
    for name in names:
        kind = name.removesuffix("-sharded")
        if not (tmp_path / kind).exists():
            run(base, tmp_path / kind, kind)
        # PiSSA's update is the difference of two products that are nearly the same; all weights have tiny gradients among them
        limit = {"float16": 2e-2, "full": 1e-5, "pissa": 1e-5}.get(kind, 2e-6)
        assert_same(tmp_path / kind, tmp_path / "several" / name, limit)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_compiler
def test_compiled_layers_that_are_sharded_learn_the_same_and_go_on(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path / "nf4", "nf4")
    start_ranks(base, tmp_path, ["nf4-compiled-sharded", "nf4-compiled-sharded-lost"], restarts=1)
    assert_same(tmp_path / "nf4", tmp_path / "nf4-compiled-sharded", 1e-5)
    assert_same_but_later(tmp_path, "nf4-compiled-sharded")


def test_micro_batches_are_shared_out_once_each_and_evenly() -> None:
    batches = micro_batches(made_up_rows(40), 150, multiple=3)
    assert len(batches) % 3 == 0
    shares = [Ranks(rank, 3).share(batches) for rank in range(3)]
    assert sorted(piece.number for pieces in shares for piece in pieces) == list(range(len(batches)))
    tokens = [sum(len(piece.batch.ids) for piece in pieces) for pieces in shares]
    assert max(tokens) - min(tokens) <= 0.05 * max(tokens)


def test_a_sharded_rank_without_rows_computes_along_what_does_not_count() -> None:
    batches = micro_batches(made_up_rows(2), 150, multiple=3)
    shares = [Ranks(rank, 3, sharded=True).share(batches) for rank in range(3)]
    assert {len(pieces) for pieces in shares} == {1}
    assert [piece.counts for pieces in shares for piece in pieces].count(False) == 3 - len(batches)
    assert Ranks(2, 3).share(batches) == []


def test_more_ranks_than_rows_are_told_before_the_start() -> None:
    with pytest.raises(ResourceError, match="4 ranks were started, and there are 3 rows"):
        Ranks(0, 4).require_rows(3)


def test_half_of_a_launch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ResourceError, match="WORLD_SIZE is 2, and LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set"):
        launch()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launch() is None


def test_sharding_is_for_several_ranks_that_want_it() -> None:
    assert not is_sharded(True, Ranks(), 10, ELSEWHERE)
    assert is_sharded(True, Ranks(0, 2), 10, ELSEWHERE)
    assert not is_sharded(False, Ranks(0, 2), 10, ELSEWHERE)
    assert not is_sharded("auto", Ranks(0, 2), 10, ELSEWHERE)
