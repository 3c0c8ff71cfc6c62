"""The checks of the whole set, on conversations that went through the stream."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from afina.core.errors import DataError
from afina.data.clean.checks import Action, actions
from afina.data.conversation import Conversation, Message, Source
from afina.data.duplicates import jaccard, signatures, similar_pairs, words
from afina.data.findings import Findings
from afina.data.flow import Earlier, Flow
from afina.data.render import Limits as RowLimits
from afina.data.render import Renderer
from afina.data.store import Store, Writer
from afina.data.survey import Limits, Survey, longest_allowed, survey
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.data.work import Steps
from tests.fakes.models import write_tokenizer

LIMITS = Limits(max_tokens=None, context=4000, keeps_long=False, examples=None, seed=7)
WORDS = (
    "clavos",
    "tornillos",
    "martillo",
    "sierra",
    "pintura",
    "brocha",
    "cinta",
    "cable",
    "bombilla",
    "taladro",
    "lija",
    "cola",
)


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    tokenizer = Tokenizer.load(folder)
    return Renderer.build(choose_template("auto", tokenizer), tokenizer)


def talk(question: str, answer: str, line: int = 1, file: str = "a.jsonl", group: str = "") -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)), Source(file, line), group=group)


def different(count: int, file: str = "a.jsonl", seed: int = 1) -> list[Conversation]:
    """Conversations that share hardly a word."""
    dice = random.Random(seed)
    texts = [" ".join(f"{word}{dice.randrange(10**6)}" for word in dice.sample(WORDS, 6)) for _ in range(2 * count)]
    return [talk(texts[2 * n], texts[2 * n + 1], n + 1, file) for n in range(count)]


def made(
    renderer: Renderer,
    folder: Path,
    examples: Sequence[Conversation],
    test: Sequence[Conversation] = (),
    limits: Limits = LIMITS,
    **chosen: Action,
) -> tuple[Survey, Store]:
    acts = {**actions({"few-examples": "off"}, redact=False), **{name.replace("_", "-"): act for name, act in chosen.items()}}
    steps = Steps(7, renderer, RowLimits(limits.context), acts, "1")
    with Findings(folder) as findings:
        with Writer(folder) as writer, Flow(steps, writer, findings) as flow:
            flow.take(examples, 0, lambda _done: None)
            flow.take(test, 2, lambda _done: None)
        store = Store(folder)
        return survey(store.traits, store, acts, limits), store


def told(survey: Survey) -> Counter[tuple[str, str]]:
    return Counter((finding.check, finding.done) for finding in survey.findings)


def test_what_is_all_different_is_left_alone(renderer: Renderer, tmp_path: Path) -> None:
    found, store = made(renderer, tmp_path, different(60))
    assert told(found) == {}
    assert found.left().tolist() == list(range(60))
    assert len(set(found.groups.tolist())) == 60
    assert len(store) == 60


def test_of_the_same_rows_the_first_one_stays(renderer: Renderer, tmp_path: Path) -> None:
    rows = [*different(40), talk("¿Hay clavos de acero largos?", "Sí, quedan siete.", 41)]
    again = [talk(" ¿Hay clavos de acero largos? ", "Sí, quedan siete.\n", line) for line in (50, 51)]
    found, store = made(renderer, tmp_path, [*rows, *again])
    assert told(found) == {("duplicate", "dropped"): 2}
    assert [str(store.source(number)) for number in np.flatnonzero(found.dropped).tolist()] == ["a.jsonl:50", "a.jsonl:51"]
    assert found.findings[0].reason == "the same as a.jsonl:41"
    kept, _store = made(renderer, tmp_path / "b", [*rows, *again], duplicate="warn")
    assert told(kept)["duplicate", "kept"] == 2
    assert not kept.dropped.any()
    assert told(made(renderer, tmp_path / "c", [*rows, *again], duplicate="off")[0])["duplicate", "kept"] == 0


def test_near_duplicates_are_told_of_and_stay_together(renderer: Renderer, tmp_path: Path) -> None:
    long = " ".join(f"{word}-{n}" for n in range(3) for word in WORDS)
    near = [talk(f"{long} uno", long, 41), talk(f"{long} dos", long, 42)]
    found, _store = made(renderer, tmp_path, [*different(40), *near])
    assert told(found) == {("near-duplicate", "kept"): 1}
    assert found.groups[40] == found.groups[41]
    assert len(found.duplicates) == 1
    assert found.duplicates[0].similarity > 0.85
    dropped, store = made(renderer, tmp_path / "b", [*different(40), *near], near_duplicate="drop")
    assert [str(store.source(number)) for number in np.flatnonzero(dropped.dropped).tolist()] == ["a.jsonl:42"]


def test_the_same_question_with_other_answers_is_a_contradiction(renderer: Renderer, tmp_path: Path) -> None:
    rows = [*different(40), talk("¿Precio del martillo?", "Nueve euros.", 41), talk("¿precio  del martillo?", "Doce euros.", 42)]
    found, _store = made(renderer, tmp_path, rows)
    assert told(found) == {("contradiction", "kept"): 1}
    assert found.findings[0].reason == "answers otherwise than a.jsonl:41"
    assert found.groups[40] == found.groups[41]
    assert told(made(renderer, tmp_path / "b", rows, contradiction="drop")[0]) == {("contradiction", "dropped"): 2}


def test_a_leak_into_a_given_test_is_taken_out_of_the_training(renderer: Renderer, tmp_path: Path) -> None:
    rows, held_out = different(40), [*different(9, "test.jsonl", seed=2), talk("¿Abrís el domingo?", "No.", 10, "test.jsonl")]
    leaked = talk("¿abrís el  domingo?", "Los domingos no.", 99)
    found, store = made(renderer, tmp_path, [*rows, leaked], held_out)
    assert told(found) == {("leak", "dropped"): 1}
    assert found.findings[0].reason == "asked in test as well: test.jsonl:10"
    assert [str(store.source(number)) for number in np.flatnonzero(found.dropped).tolist()] == ["a.jsonl:99"]
    with pytest.raises(DataError, match=r"1 rows to learn from stand .* a\.jsonl:99, as in test\.jsonl:10"):
        made(renderer, tmp_path / "b", [*rows, leaked], held_out, leak="stop")


def test_the_leak_of_a_real_set_is_found(renderer: Renderer, tmp_path: Path, shared_data: Path) -> None:
    def read(name: str) -> list[Conversation]:
        lines = (shared_data / "ds-superbowl-mlx" / name).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [talk(row["prompt"], row["completion"], n, name) for n, row in enumerate(rows, 1)]

    found, store = made(renderer, tmp_path, read("train.jsonl"), read("valid.jsonl"), near_duplicate="off", contradiction="off")
    assert [(leaked.side, leaked.same, leaked.all) for leaked in found.leaked] == [("test", 16, 144)]
    assert found.leaked[0].rows > 16
    alone, _store = made(renderer, tmp_path / "alone", read("train.jsonl"), near_duplicate="off", contradiction="off")
    assert told(alone)["duplicate", "dropped"] == 437
    texts = {tuple(m.content for m in row.messages) for row in read("train.jsonl")}
    assert sum(tuple(m.content for m in row.messages) in texts for row in read("valid.jsonl")) == 16
    asked = {row.messages[0].content.casefold() for row in read("valid.jsonl")}
    left = [
        store.conversation(number).messages[0].content.casefold()
        for number in found.left()
        if store.source(number).file == "train.jsonl"
    ]
    assert not asked & set(left)


def test_lengths_far_from_the_others_are_told_of(renderer: Renderer, tmp_path: Path) -> None:
    found, _store = made(renderer, tmp_path, [*different(300), talk("uno", "dos " * 700, 301)])
    assert told(found)["too-long", "dropped"] == 1  # more than twice what 99.5 % need
    kept, _store = made(renderer, tmp_path / "b", [*different(300), *[talk(f"uno {n}", f"dos {n} " * 350, n) for n in range(3)]])
    assert told(kept)["length-outlier", "kept"] == 3


def test_the_longest_row_decides_unless_it_is_far_from_the_others() -> None:
    assert longest_allowed(np.array([10, 20, 100]), 4096) == 128
    assert longest_allowed(np.array([*[100] * 999, 5000]), 4096) == 128
    assert longest_allowed(np.array([*[100] * 999, 190]), 4096) == 192
    assert longest_allowed(np.array([5000]), 4096) == 4096
    assert longest_allowed(np.zeros(0, np.int64), 512) == 512


def test_a_language_that_hardly_any_answer_has_is_told_of(renderer: Renderer, tmp_path: Path) -> None:
    spanish = [
        talk(
            row.messages[0].content, f"El cliente quiere saber cuánto cuesta {row.messages[1].content} y dónde está la tienda.", n
        )
        for n, row in enumerate(different(99), 1)
    ]
    english = talk("hola", "The customer would like to know how much it costs and where the shop is, and when it opens.", 100)
    found, _store = made(renderer, tmp_path, [*spanish, english], near_duplicate="off")
    assert dict(found.languages)["es"] == 99
    assert [str(f.source) for f in found.findings if f.check == "rare-language"] == ["a.jsonl:100"]


def test_one_answer_that_outweighs_all_others_is_told_of(renderer: Renderer, tmp_path: Path) -> None:
    rows = [
        talk(row.messages[0].content, "Sí." if n % 3 else row.messages[1].content, n) for n, row in enumerate(different(60), 1)
    ]
    found, _store = made(renderer, tmp_path, rows)
    assert [f.reason for f in found.findings if f.check == "unbalanced"] == ["its answer is that of 67 % of all rows"]


def test_too_few_examples_end_the_run_and_few_are_told_of(renderer: Renderer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="20 examples are left, fewer than 50") as caught:
        made(renderer, tmp_path, different(20), few_examples="stop")
    assert "--force" in caught.value.fix
    assert told(made(renderer, tmp_path / "b", different(20), few_examples="warn")[0]) == {("few-examples", "kept"): 1}
    assert told(made(renderer, tmp_path / "c", different(99), few_examples="stop")[0]) == {("few-examples", "kept"): 1}
    assert told(made(renderer, tmp_path / "d", different(100), few_examples="stop")[0]) == {}


def test_the_limit_takes_the_same_rows_in_any_order(renderer: Renderer, tmp_path: Path) -> None:
    limits = Limits(None, 4000, keeps_long=False, examples=25, seed=3)
    rows = different(80)
    one, store = made(renderer, tmp_path, rows, limits=limits)
    other, there = made(renderer, tmp_path / "b", rows[::-1], limits=limits)
    assert (one.over_limit, len(one.left())) == (55, 25)
    assert {store.source(n).line for n in one.left()} == {there.source(n).line for n in other.left()}


def test_groups_of_a_chat_or_document_stay_together(renderer: Renderer, tmp_path: Path) -> None:
    rows = [
        talk(row.messages[0].content, row.messages[1].content, n, group=f"chat {n % 5}") for n, row in enumerate(different(60))
    ]
    found, _store = made(renderer, tmp_path, rows)
    assert len(set(found.groups.tolist())) == 5


def test_estimated_similarities_are_near_the_exact_ones() -> None:
    dice = random.Random(3)
    vocabulary = [f"w{n}" for n in range(400)]
    texts = []
    for _n in range(200):
        first = dice.sample(vocabulary, 60)
        changed = dice.randrange(0, 12)
        texts += [first, [*first[changed:], *dice.sample(vocabulary, changed)]]
    pairs, scores = similar_pairs(signatures(texts), 0.85)
    exact = np.array([jaccard(texts[a], texts[b]) for a, b in pairs.tolist()])
    assert np.abs(exact - scores).max() < 0.2
    assert np.abs(exact - scores).mean() < 0.05
    found = {tuple(pair) for pair in pairs.tolist()}
    sure = [(n, n + 1) for n in range(0, 400, 2) if jaccard(texts[n], texts[n + 1]) >= 0.95]
    assert len(sure) > 30
    assert sum(pair in found for pair in sure) >= 0.97 * len(sure)


def test_words_of_a_script_without_blanks_are_its_letters_by_three() -> None:
    assert words([Message("user", "我想知道价格是多少")]) == {
        "我想知",
        "想知道",
        "知道价",
        "道价格",
        "价格是",
        "格是多",
        "是多少",
    }
    assert words([Message("system", "no"), Message("user", "¿Hola? Sí")]) == {"hola", "sí"}


def test_a_second_run_takes_over_what_did_not_change(renderer: Renderer, tmp_path: Path) -> None:
    acts = actions({}, redact=False)
    rows = [*different(600), talk("Escribe a ana@gmail.com, por favor, hoy mismo", "Hecho, ya le he escrito.", 700)]
    changed = [talk("una pregunta nueva", "una respuesta nueva", 1), *rows[:300], *rows[301:]]

    def run(folder: Path, talks: Sequence[Conversation], earlier: Earlier | None, fingerprint: str) -> tuple[Flow, Findings]:
        steps = Steps(7, renderer, RowLimits(4000), acts, fingerprint)
        with Findings(folder) as findings, Writer(folder) as writer, Flow(steps, writer, findings, earlier) as flow:
            flow.take(talks, 0, lambda _done: None)
        return flow, findings

    run(tmp_path / "1", rows, None, "1")
    earlier = Earlier(Store(tmp_path / "1"))
    flow, findings = run(tmp_path / "2", changed, earlier, "1")
    assert (flow.worked, flow.taken_over) == (1, 600)
    assert findings.counts["email", "kept"] == 1  # what was found before is told again
    alone, _found = run(tmp_path / "3", changed, None, "1")
    assert (tmp_path / "2" / "rows.arrow").read_bytes() == (tmp_path / "3" / "rows.arrow").read_bytes()
    assert alone.taken_over == 0
    for name in ("conversations.arrow", "traits.arrow", "findings.jsonl"):
        assert (tmp_path / "2" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()
    assert run(tmp_path / "4", changed, earlier, "other settings")[0].taken_over == 0
