"""The text that the tiny model learns from: what an answer says stands in its question, and what is held out stays out."""

from __future__ import annotations

import random

import pytest

from afina.train.step import mean_loss, prepare
from tools.tiny.blocks import rows_of_blocks, said_twice
from tools.tiny.check import ABILITIES, same_language
from tools.tiny.generate import dialogue, dialogues
from tools.tiny.grammar import Language, World, invented, is_held_out
from tools.tiny.kinds import KINDS
from tools.tiny.reading import reading
from tools.tiny.train import new_model
from tools.tiny.words import NOT_THERE


def _world(seed: int, lang: Language = "es") -> World:
    return World(random.Random(seed), lang)


@pytest.mark.parametrize("lang", ["es", "en"])
def test_what_is_read_stands_in_the_text_and_what_is_not_there_does_not(lang: Language) -> None:
    for seed in range(100):
        made = reading(_world(seed, lang))
        text = f"{made.system}\n{made.turns[0][0]}"
        for question, answer in made.turns:
            assert question
            assert (answer in text) == (answer != NOT_THERE[lang])


@pytest.mark.parametrize("absent", [True, False])
def test_whether_the_first_question_has_an_answer_can_be_chosen(absent: bool) -> None:
    for seed in range(40):
        assert (reading(_world(seed), absent=absent).turns[0][1] == NOT_THERE["es"]) == absent


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_makes_dialogues_that_end_with_an_answer(kind: str) -> None:
    for seed in range(20):
        messages = dialogue(_world(seed, "es" if seed % 2 else "en"), kind).messages()
        assert messages[-1]["role"] == "assistant"
        assert messages[-1].get("trained", True)
        assert all(message["content"].strip() for message in messages)


def test_the_same_seed_gives_the_same_text() -> None:
    assert list(dialogues(7, 50, held_out=False)) == list(dialogues(7, 50, held_out=False))


def test_a_course_can_have_shares_of_its_own() -> None:
    shares = dict.fromkeys(KINDS, 0) | {"value": 3, "entries": 1}
    kinds = [row["kind"] for row in dialogues(7, 400, held_out=False, shares=shares)]
    assert set(kinds) == {"value", "entries"}
    assert 0.65 < kinds.count("value") / len(kinds) < 0.85


def test_words_of_the_check_are_not_among_those_of_the_training() -> None:
    taught = {invented(_world(seed)) for seed in range(300)}
    asked = {invented(World(random.Random(seed), "es", held_out=True)) for seed in range(300)}
    assert not any(map(is_held_out, taught))
    assert all(map(is_held_out, asked))


def test_a_row_of_blocks_trains_only_what_stood_before() -> None:
    for seed in range(50):
        row = said_twice(random.Random(seed), 4096, 1)
        half = len(row.ids) // 2
        first = list(row.ids[:half])
        assert sorted(first) == sorted(row.ids[half:])
        for start, stop in row.spans:
            before = first.index(row.ids[start - 1])
            assert first[before + 1 : before + 1 + stop - start] == list(row.ids[start:stop])


def test_the_starting_weights_copy_tokens_that_nobody_taught_them() -> None:
    rows = rows_of_blocks(20, 4096, seed=3)
    losses = {}
    for circuit in (True, False):
        model = new_model(7, circuit=circuit)
        prepare(model)
        losses[circuit] = mean_loss(model, rows, 2048)
    assert losses[True] < 1.5
    assert losses[False] > 8  # ln 4096 is 8.3


def test_every_ability_counts_its_own_right_answer() -> None:
    for name, ability in ABILITIES.items():
        for seed in range(10):
            answer = ability.make(World(random.Random(seed), "en", held_out=True)).turns[-1][1]
            assert ability.right(answer, answer), (name, answer)


def test_an_answer_in_the_other_language_is_told() -> None:
    assert not same_language("La capital de Francia es París.", "The capital of France is Paris.")
