import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.report.prepared import load, measure_lengths, save
from tests.report.shop import SHOP


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "report.json", SHOP)
    assert load(tmp_path / "report.json") == SHOP


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": 3},
        {"files": [{"name": "a"}]},
        {"flow": [{"stage": "dreaming", "left": 1, "dropped": [], "changed": 0}]},
        {"languages": [["es", 1, 2]]},
        {"extra": 1},
        {"sides": "none"},
    ],
    ids=str,
)
def test_a_report_of_another_shape_is_refused_by_name(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "report.json"
    save(path, SHOP)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(DataError, match=r"report\.json is not a report that this version of afina writes"):
        load(path)


def test_a_torn_report_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"name": ', encoding="utf-8")
    with pytest.raises(DataError, match=r"report\.json"):
        load(tmp_path / "report.json")


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=200), st.integers(0, 60_000))
def test_every_row_lies_in_one_bin_and_the_limit_is_an_edge(tokens: list[int], limit: int) -> None:
    lengths = measure_lengths(tokens, limit)
    assert lengths is not None
    assert sum(lengths.counts) == len(tokens)
    assert list(lengths.bins) == sorted(set(lengths.bins))
    assert len(lengths.bins) == len(lengths.counts) <= 75
    below = [edge for edge in lengths.bins if edge <= limit]
    beyond = sum(count for edge, count in zip(lengths.bins, lengths.counts, strict=True) if edge > limit)
    if limit:
        assert beyond == sum(1 for token in tokens if token > limit), (below, lengths)
    assert lengths.longest == max(tokens) == lengths.bins[-1]
    assert lengths.median <= lengths.p95 <= lengths.p995 <= lengths.longest


def test_lengths_come_from_arrays_too_and_no_rows_have_none() -> None:
    assert measure_lengths(np.array([3, 5, 9], np.int32), 0) == measure_lengths([3, 5, 9], 0)
    assert measure_lengths([], 512) is None
