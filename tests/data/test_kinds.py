import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from afina.data.kinds import MOST_SAMPLED, Finder, kinds

TOPICS = {
    "envío": [
        "cuándo llega mi {x} envío",
        "el envío de {x} no llega",
        "dónde está el envío de {x}",
        "cuánto tarda el envío de {x}",
    ],
    "devolver": ["quiero devolver {x}", "cómo puedo devolver {x}", "devolver {x} sin caja", "se puede devolver {x} usado"],
    "invoice": [
        "send me the invoice for {x}",
        "my invoice for {x} is wrong",
        "where is the invoice of {x}",
        "invoice {x} please",
    ],
}
THINGS = ["zapatos", "botas", "shoes", "a bag", "camisas", "gorras", "belts", "pantalones", "coats", "bufandas"]


def shop(repeat: int = 1) -> tuple[list[str], list[str]]:
    pairs = [(form.format(x=thing), topic) for topic, forms in TOPICS.items() for form in forms for thing in THINGS] * repeat
    random.Random(3).shuffle(pairs)
    return [question for question, _topic in pairs], [topic for _question, topic in pairs]


def test_kinds_of_question_are_told_apart_and_named_by_their_words() -> None:
    questions, topics = shop()
    found = kinds(questions, seed=7)
    pure = sum(max(sum(topics[row] == topic for row in kind.rows) for topic in TOPICS) for kind in found)
    assert pure / len(questions) > 0.95
    assert set(TOPICS) <= {word for kind in found for word in kind.words}


def test_every_question_belongs_to_one_kind_and_the_shares_make_a_whole() -> None:
    questions, _topics = shop()
    found = kinds(questions, seed=7)
    assert sorted(row for kind in found for row in kind.rows) == list(range(len(questions)))
    assert sum(kind.share for kind in found) == pytest.approx(1)
    assert [kind.count for kind in found] == sorted((len(kind.rows) for kind in found), reverse=True)
    assert all(set(kind.examples) <= {questions[row] for row in kind.rows} for kind in found)
    assert all(1 <= len(kind.examples) <= 3 for kind in found)


def test_an_example_that_is_long_ends_behind_a_whole_word_with_a_sign() -> None:
    questions = [f"{question} {'and so on ' * 60}" for question in shop()[0]]
    shown = [example for kind in kinds(questions, seed=7) for example in kind.examples]
    assert shown
    assert all(len(example) <= 300 and example.endswith((" and…", " so…", " on…")) for example in shown)


def test_words_that_stand_in_every_question_name_no_kind() -> None:
    questions, _topics = shop()
    named = {word for kind in kinds(questions, seed=7) for word in kind.words}
    assert not named & {"mi", "el", "de", "the", "me", "for", "cómo", "quiero", "please"}


def test_the_same_questions_and_seed_give_the_same_kinds_with_any_number_of_threads() -> None:
    questions, _topics = shop()
    code = "from afina.data.kinds import kinds; from tests.data.test_kinds import shop; print(kinds(shop()[0], seed=7))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "9"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == f"{kinds(questions, seed=7)}\n"


def test_few_questions_have_no_kinds() -> None:
    assert kinds([], seed=7) == []
    assert kinds(["¿Cuándo llega?", "¿Y ahora?"], seed=7) == []
    assert kinds(["siempre lo mismo"] * 500, seed=7) == []


def test_questions_that_have_nothing_in_common_do_not_stop_it() -> None:
    chance = random.Random(1)
    questions = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _question in range(60)]
    assert sum(kind.count for kind in kinds(questions, seed=7)) in {0, 60}
    assert sum(kind.count for kind in kinds([""] * 30 + ["🙂" * n for n in range(30)], seed=7)) in {0, 60}
    assert sum(kind.count for kind in kinds([f"1 + 1 = {n}" for n in range(60)], seed=7)) in {0, 60}


def test_of_many_questions_a_sample_is_looked_at_and_its_rows_are_named() -> None:
    questions, topics = shop(repeat=50)
    assert len(questions) > MOST_SAMPLED
    found = kinds(questions, seed=7)
    rows = [row for kind in found for row in kind.rows]
    assert len(set(rows)) == len(rows) == MOST_SAMPLED
    assert max(rows) > MOST_SAMPLED
    pure = sum(max(sum(topics[row] == topic for row in kind.rows) for topic in TOPICS) for kind in found)
    assert pure / MOST_SAMPLED > 0.95


def test_the_kinds_of_a_real_help_desk_follow_its_categories(shared_data: Path) -> None:
    (path,) = (shared_data / "ds-bitext").rglob("*Validation*.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = kinds([row["utterance"] for row in rows], seed=7)
    assert len(found) >= 4
    most = [
        max(sum(rows[row]["category"] == name for row in kind.rows) for name in {row["category"] for row in rows})
        for kind in found
    ]
    by_chance = max(sum(row["category"] == name for row in rows) for name in {row["category"] for row in rows}) / len(rows)
    assert sum(most) / len(rows) > by_chance + 0.2


def test_real_sums_have_kinds_too(shared_data: Path) -> None:
    path = min((shared_data / "ds-gsm8k").glob("*test*.jsonl"))
    with path.open(encoding="utf-8") as file:
        found = kinds([json.loads(line)["question"] for line in file], seed=7)
    assert len(found) >= 3
    assert all(kind.words for kind in found)


def test_a_process_that_loads_beside_other_work_finds_the_same_kinds_and_is_done_without_where_it_has_ended() -> None:
    questions = [*shop()[0], "half a pair \ud83d of a question"]
    wanted = kinds(questions, seed=7)
    with Finder() as finder:
        assert finder.kinds(questions, 7) == wanted
        assert finder.kinds(questions[:3], 7) == []
        finder._child.kill()
        assert finder.kinds(questions, 7) == wanted
    assert finder._child._process.poll() is not None
