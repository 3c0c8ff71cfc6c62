"""What rows ask for, in tokens."""

from __future__ import annotations

import pytest

from afina.recipe.recipe import Train
from afina.train.sizes import usual_tokens
from tests.fakes.training import made_up_rows


@pytest.mark.parametrize(
    ("batch_tokens", "most", "wanted"), [(4096, 1024, 1024), (512, 1024, 512), (4096, 16, "mean"), (16, 1024, "mean")]
)
def test_a_usual_micro_batch_is_full_or_a_row(batch_tokens: int, most: int, wanted: int | str) -> None:
    rows = made_up_rows(20)
    mean = sum(len(row.ids) for row in rows) // 20
    assert 16 < mean < 512
    assert usual_tokens(rows, Train(batch_tokens=batch_tokens), most) == (mean if wanted == "mean" else wanted)
