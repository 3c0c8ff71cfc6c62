"""Packing: every row whole, once, and none seeing another."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from afina.data.conversation import Source
from afina.data.pack import epoch_steps, micro_batches, pack
from afina.data.render import Row
from tests.fakes.rows import row_of

OWN = [((1, 2), (False, True)), ((3, 4), (True, True))]  # ids and masks behind what is shared


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    head = draw(st.lists(st.integers(0, 999), max_size=20))  # what all of them begin with
    made = []
    for number in range(draw(st.integers(1, 30))):
        ids = draw(st.lists(st.integers(0, 999), min_size=2, max_size=40))
        trained = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)).filter(lambda mask: any(mask[1:])))
        made.append(row_of((*head, *ids), (*(False for _token in head), False, *trained[1:]), Source("rows", number + 1)))
    return made


@given(rows(), st.integers(16, 100), st.booleans())
def test_micro_batches_hold_every_row_once_and_every_trained_token_behind_its_input(
    made: list[Row], micro_tokens: int, share: bool
) -> None:
    batches = micro_batches(made, micro_tokens, share=share)
    assert sorted(row.source for batch in batches for row in batch.rows) == sorted(row.source for row in made)
    assert sum(len(batch.targets) for batch in batches) == sum(row.trained_tokens for row in made)
    for batch in batches:
        shared = batch.shared
        assert share or not shared
        assert len(batch.rows) == 1 or len(batch.ids) <= micro_tokens
        assert batch.starts[-1] == len(batch.ids) == len(batch.positions)
        pairs = iter(zip(batch.inputs, batch.targets, strict=True))
        for (start, stop), row in zip(pairwise(batch.starts), batch.rows, strict=True):
            places = [*range(shared), *range(start, stop)]  # where the row's tokens lie
            assert [batch.ids[place] for place in places] == list(row.ids[: row.spans[-1][1]])
            assert [batch.positions[place] for place in places] == list(range(len(places)))
            for token in (place for span in row.spans for place in range(*span)):
                assert next(pairs) == (places[token - 1], row.ids[token])


@given(rows(), st.integers(16, 200), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_has_every_row_once_in_an_order_that_seed_and_epoch_decide(
    made: list[Row], tokens: int, seed: int, epoch: int
) -> None:
    steps = epoch_steps(made, tokens, seed, epoch)
    assert sorted(row.source for step in steps for row in step) == sorted(row.source for row in made)
    assert steps == epoch_steps(made, tokens, seed, epoch)
    for step in steps[:-1]:
        assert sum(len(row.ids) for row in step) >= tokens


def test_what_follows_the_last_trained_token_is_left_out() -> None:
    row = row_of((1, 2, 3, 4, 5), (False, True, False, True, False), Source("rows", 1))
    packed = pack([row, row])
    assert packed.ids == [1, 2, 3, 4, 1, 2, 3, 4]
    assert packed.inputs == [0, 2, 4, 6]
    assert packed.targets == [2, 4, 2, 4]
    assert packed.positions == [0, 1, 2, 3, 0, 1, 2, 3]
    assert packed.starts == [0, 4, 8]


def test_what_all_rows_begin_with_is_there_once() -> None:
    head = tuple(range(10, 19))
    rows_of_step = [row_of((*head, *own), (*(False for _token in head), *mask), Source("rows", 1)) for own, mask in OWN]
    packed = pack(rows_of_step)
    assert packed.shared == 9
    assert packed.ids == [*head, 1, 2, 3, 4]
    assert packed.starts == [9, 11, 13]
    assert packed.inputs == [9, 8, 11]  # the second row's first trained token stands right behind the shared ones
    assert packed.targets == [2, 3, 4]
    assert packed.positions == [*range(11), 9, 10]
