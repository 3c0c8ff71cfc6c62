from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data.conversation import Conversation, Message, Source
from afina.data.duplicates import Groups, keys
from afina.data.split import split as split_numbers
from afina.recipe.recipe import Split


def conversation(question: str, answer: str = "a", line: int = 1) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)), Source("x.jsonl", line))


def split(conversations: Sequence[Conversation], shares: Split) -> dict[str, list[Conversation]]:
    """The sides as conversations; those that ask the same are a group."""
    asked = np.array([keys(conversation).prompt for conversation in conversations], np.uint64)
    groups = Groups(len(conversations))
    groups.join_equal(asked)
    sides = split_numbers(asked, groups.numbers(), shares)
    return {side: [conversations[number] for number in numbers] for side, numbers in sides.items()}


def numbered(count: int) -> list[Conversation]:
    return [conversation(f"question {number}", line=number + 1) for number in range(count)]


def sizes(sides: dict[str, list[Conversation]]) -> tuple[int, int, int]:
    return len(sides["train"]), len(sides["val"]), len(sides["test"])


def questions(conversations: Sequence[Conversation]) -> set[str]:
    return {" ".join(c.messages[0].content.casefold().split()) for c in conversations}


@pytest.mark.parametrize(
    ("count", "val", "test", "wanted"),
    [(100, 0.1, 0.1, (80, 10, 10)), (15, 0.1, 0.1, (11, 2, 2)), (1319, 0.0, 0.25, (989, 0, 330)), (3, 0.0, 0.5, (1, 0, 2))],
)
def test_the_shares_are_met_to_the_row_where_all_questions_differ(
    count: int, val: float, test: float, wanted: tuple[int, int, int]
) -> None:
    assert sizes(split(numbered(count), Split(val=val, test=test))) == wanted


def test_the_same_seed_gives_the_same_sides_and_another_seed_others() -> None:
    rows = numbered(60)
    assert split(rows, Split(seed=3)) == split(rows, Split(seed=3))
    assert split(rows, Split(seed=3))["test"] != split(rows, Split(seed=4))["test"]


def test_the_order_of_the_rows_does_not_change_the_sides() -> None:
    rows = numbered(60)
    mixed = random.Random(1).sample(rows, len(rows))
    for side, members in split(rows, Split()).items():
        assert set(split(mixed, Split())[side]) == set(members)


def test_each_side_keeps_the_order_of_reading() -> None:
    for members in split(numbered(60), Split()).values():
        assert [c.source.line for c in members] == sorted(c.source.line for c in members)


def test_one_added_row_moves_hardly_any_other() -> None:
    before = split(numbered(100), Split())
    after = split(numbered(101), Split())
    moved = sum(c not in after[side] for side, members in before.items() for c in members)
    assert moved <= 2


def test_where_the_rows_were_read_does_not_matter() -> None:
    rows = numbered(40)
    elsewhere = [Conversation(row.messages, Source("y.csv", 1)) for row in rows]
    here, there = split(rows, Split()), split(elsewhere, Split())
    assert all([c.messages for c in here[side]] == [c.messages for c in there[side]] for side in here)


def test_the_same_question_but_for_case_and_blanks_is_on_one_side() -> None:
    rows = [conversation(form.format(n), str(n)) for n in range(30) for form in ("Precio {}?", "precio  {}? ", "PRECIO\n{}?")]
    sides = split(rows, Split())
    assert sizes(sides) == (72, 9, 9)
    assert not questions(sides["train"]) & questions(sides["test"])
    assert not questions(sides["train"]) & questions(sides["val"])


def test_the_system_message_and_earlier_turns_belong_to_the_question() -> None:
    def asked(before: str, line: int) -> Conversation:
        earlier = (Message("user", before), Message("assistant", "yes"))
        return Conversation((*earlier, Message("user", "and?"), Message("assistant", "b")), Source("x", line))

    assert sizes(split([asked(f"u{n}", n) for n in range(20)], Split())) == (16, 2, 2)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=15, max_size=120),
    st.floats(0.1, 0.3),
    st.sampled_from([0.0, 0.1, 0.2]),
    st.integers(0, 9),
)
def test_every_row_is_on_exactly_one_side_and_no_question_on_two(
    pairs: list[tuple[int, int]], test: float, val: float, seed: int
) -> None:
    rows = [conversation(f"Q {question}" + " " * blanks, line=line) for line, (question, blanks) in enumerate(pairs, 1)]
    try:
        sides = split(rows, Split(val=val, test=test, seed=seed))
    except DataError:
        assert len(questions(rows)) < 5
        return
    assert sorted(c.source.line for members in sides.values() for c in members) == list(range(1, len(rows) + 1))
    asked = [questions(members) for members in sides.values()]
    assert len(set.union(*asked)) == sum(map(len, asked))
    assert len(sides["test"]) >= 2
    assert len(sides["train"]) >= 1
    assert bool(sides["val"]) == bool(val)
    largest = max(sum(questions([row]) == {q} for row in rows) for q in questions(rows))
    assert abs(len(sides["test"]) - len(rows) * test) <= largest + 1


@pytest.mark.parametrize(("count", "needed"), [(0, 15), (1, 15), (4, 15), (14, 15)])
def test_too_few_rows_say_how_many_are_needed(count: int, needed: int) -> None:
    with pytest.raises(DataError) as caught:
        split(numbered(count), Split())
    assert caught.value.what == f"{count} examples are too few for a split with val 0.1 and test 0.1: {needed} are needed"
    assert caught.value.fix == "add examples, or hold out a larger share: --set data.split.val=0.2 --set data.split.test=0.3"
    split(numbered(needed), Split())


@settings(deadline=None)
@given(st.integers(0, 30), st.floats(0.01, 0.5), st.floats(0, 0.3))
def test_the_number_that_is_named_is_enough_and_one_less_is_not(count: int, test: float, val: float) -> None:
    shares = Split(val=val, test=test)
    try:
        split(numbered(count), shares)
    except DataError as error:
        needed = int(error.what.split(": ")[1].split()[0])
        assert needed > count
        if needed < 300:
            split(numbered(needed), shares)
            with pytest.raises(DataError):
                split(numbered(needed - 1), shares)


def test_many_rows_that_ask_the_same_cannot_be_parted() -> None:
    rows = [conversation(f"question {n % 2}", str(n)) for n in range(100)]
    with pytest.raises(DataError) as caught:
        split(rows, Split())
    assert caught.value.what == "the 100 examples ask only 2 different things: too few to part into train, val and test"
    assert caught.value.fix == "add examples that ask something else; the same question never stands on two sides"


def test_a_large_group_goes_to_training_where_small_ones_meet_the_share() -> None:
    rows = [conversation("the same", str(n)) for n in range(50)] + numbered(50)
    sides = split(rows, Split())
    assert sizes(sides) == (80, 10, 10)
    assert questions(sides["train"]) >= {"the same"}


def test_a_group_is_never_parted() -> None:
    rows = numbered(60)
    asked = np.array([keys(row).prompt for row in rows], np.uint64)
    groups = np.arange(60) // 4
    sides = split_numbers(asked, groups, Split(val=0.1, test=0.2))
    on = {side: set(groups[numbers].tolist()) for side, numbers in sides.items()}
    assert not on["train"] & on["test"]
    assert not on["train"] & on["val"]
    assert sorted(number for numbers in sides.values() for number in numbers.tolist()) == list(range(60))


def test_a_side_whose_share_is_nothing_gets_nothing() -> None:
    asked = np.arange(40, dtype=np.uint64)
    sides = split_numbers(asked, np.arange(40), Split(val=0.1, test=0.1).model_copy(update={"val": 0, "test": 0}))
    assert {side: len(numbers) for side, numbers in sides.items()} == {"train": 40, "val": 0, "test": 0}
