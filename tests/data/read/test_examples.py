from __future__ import annotations

import csv
import io
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.core.events import Event, Events, Notice, Progress
from afina.data.conversation import Message, Source
from afina.data.read.examples import Reading, read_examples
from afina.data.split import split
from afina.recipe.recipe import Columns, Data, Split

GOOD = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(1000)]


def read(*examples: Path | str, system: str | None = None, **settings: Any) -> tuple[Reading, list[Event]]:
    events: list[Event] = []
    data = Data(examples=tuple(map(str, examples)), **settings)
    return read_examples(data, system, Events(listeners=(events.append,))), events


def problem_of(*examples: Path | str, **settings: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(*examples, **settings)
    return caught.value


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def notices(events: list[Event], level: str) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice) and event.level == level]


# ── what is found and what is told ────────────────────────────────────────────────────────────────────────────────────


def test_files_of_several_kinds_and_shapes_are_read_in_their_order(tmp_path: Path) -> None:
    written(tmp_path / "b.jsonl", [{"prompt": "b1", "completion": "x", "id": 9}, {"question": "b2", "answer": "y"}])
    (tmp_path / "a.csv").write_text("pregunta;respuesta\na1;z\n", encoding="utf-8-sig")
    (tmp_path / "c.json").write_text('{"rows": [\n{"instruction": "c1", "output": "w"}]}')
    reading, events = read(tmp_path / "*.csv", tmp_path / "c.json", tmp_path / "b.jsonl", system="S")
    assert [
        (str(c.source).removeprefix(f"{tmp_path}/"), c.messages[0].content, c.prompt[1].content) for c in reading.conversations
    ] == [
        ("a.csv:2", "S", "a1"),
        ("c.json:2", "S", "c1"),
        ("b.jsonl:1", "S", "b1"),
        ("b.jsonl:2", "S", "b2"),
    ]
    assert [(file.path.name, file.kind, file.shape, file.rows, file.conversations, file.refused) for file in reading.files] == [
        ("a.csv", "csv", "pregunta/respuesta", 1, 1, 0),
        ("c.json", "json", "Alpaca", 1, 1, 0),
        ("b.jsonl", "jsonl", "prompt/completion", 2, 2, 0),
    ]
    told = [text.removeprefix(f"{tmp_path}/").split(": ", 3) for text in notices(events, "info")]
    have = "of the first {} rows have {}; {} rows are conversations"
    assert told == [
        ["a.csv", "CSV with ';', read as pregunta/respuesta", "1 " + have.format(1, "'pregunta', 'respuesta'", "1 of 1")],
        ["c.json", "JSON, read as Alpaca", "1 " + have.format(1, "'instruction', 'output'", "1 of 1")],
        [
            "b.jsonl",
            "JSONL, read as prompt/completion",
            "1 " + have.format(2, "'prompt', 'completion'", "2 of 2") + "; not used",
            "'id', 'question', 'answer'",
        ],
    ]
    assert [event.done for event in events if isinstance(event, Progress)] == [1, 2, 3]


def test_one_broken_line_among_a_thousand_is_left_out_and_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", GOOD)
    lines = path.read_text().split("\n")
    lines[499] = lines[499][:-3]
    path.write_text("\n".join(lines))
    reading, events = read(path)
    assert len(reading.conversations) == 999
    assert [(str(r.source), r.check, r.reason) for r in reading.refusals] == [
        (f"{path}:500", "broken-row", "not JSON from column 42 on: '\"answer 49'")
    ]
    assert notices(events, "warning") == [
        f"1 of 1000 rows are left out: broken-row 1; the first is {path}:500 (not JSON from column 42 on: '\"answer 49')"
    ]


def test_too_many_refused_rows_are_an_error_that_lists_the_first(tmp_path: Path) -> None:
    rows = [*GOOD[:92], *[{"prompt": "only a question"}] * 5, {"text": "x"}, {"prompt": "", "completion": "a"}, "text"]
    path = written(tmp_path / "a.jsonl", rows)
    error = problem_of(path)
    assert error.what.replace(str(path), "a") == (
        "8 of 100 rows cannot be used (8 %; data.max_broken allows 5 %)\n"
        "  a:93: the row has no 'completion' (no-answer)\n"
        "  a:94: the row has no 'completion' (no-answer)\n"
        "  a:95: the row has no 'completion' (no-answer)\n"
        "  a:96: the row has no 'completion' (no-answer)\n"
        "  a:97: the row has no 'completion' (no-answer)\n"
        "  … and 3 more; all by check: no-answer 5, unknown-shape 1, empty 1, broken-row 1"
    )
    assert error.fix == "mend the rows named above, or go on without them: --set data.max_broken=0.08"
    reading, _events = read(path, max_broken=0.08)
    assert (len(reading.conversations), len(reading.refusals)) == (92, 8)


def test_a_row_with_only_a_user_turn_is_named_by_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"messages": [{"role": "user", "content": "hello?"}]}])
    error = problem_of(path, max_broken=1)
    assert error.what == (
        "1 of 1 rows cannot be used (100 %; data.max_broken allows 100 %)\n"
        f"  {path}:1: the last message is the user's: there is no answer to learn (no-answer)"
    )
    assert error.fix == "mend the rows named above: not one can be learned from"


def test_a_file_in_which_nothing_is_json_is_an_error_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("hello\nworld\n")
    assert problem_of(path).what == (
        "2 of 2 rows cannot be used (100 %; data.max_broken allows 5 %)\n"
        f"  {path}:1: not JSON from column 1 on: 'hello' (broken-row)\n"
        f"  {path}:2: not JSON from column 1 on: 'world' (broken-row)"
    )


@pytest.mark.parametrize(("name", "text"), [("a.csv", "prompt,completion\n"), ("a.json", "[]")])
def test_a_file_without_rows_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    error = problem_of(tmp_path / name)
    assert (error.what, error.fix) == (f"{tmp_path / name} holds no rows", "give a file with examples in it")


def test_a_file_that_cannot_be_used_is_told_before_any_row_of_the_others_is_read(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", [{"no": "shape", "at": "all"}])
    (tmp_path / "b.jsonl").write_bytes(b"\x00")
    error = problem_of(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert error.what == f"{tmp_path / 'b.jsonl'}:1: byte 1 is zero: the file is binary"


# ── data.limit and data.map ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_takes_that_many_by_seed_and_keeps_their_order(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", GOOD)
    first, _events = read(path, limit=50)
    again, _events = read(path, limit=50)
    other, _events = read(path, limit=50, split=Split(seed=8))
    assert first == again
    assert len(first.conversations) == len(other.conversations) == 50
    assert first.conversations != other.conversations
    lines = [c.source.line for c in first.conversations]
    assert lines == sorted(lines)
    assert lines[-1] > 900


def test_a_limit_takes_the_same_rows_wherever_they_stand(tmp_path: Path) -> None:
    here, _events = read(written(tmp_path / "a.jsonl", GOOD), limit=50)
    there, _events = read(written(tmp_path / "b.jsonl", GOOD[::-1]), limit=50)
    assert {c.messages for c in here.conversations} == {c.messages for c in there.conversations}


def test_a_limit_does_not_skew_the_split(tmp_path: Path) -> None:
    reading, _events = read(written(tmp_path / "a.jsonl", GOOD), limit=100)
    assert {side: len(members) for side, members in split(reading.conversations, Split()).items()} == {
        "train": 80,
        "val": 10,
        "test": 10,
    }


def test_a_limit_above_what_there_is_is_told(tmp_path: Path) -> None:
    reading, events = read(written(tmp_path / "a.jsonl", GOOD[:3]), limit=5)
    assert len(reading.conversations) == 3
    assert notices(events, "info")[-1] == "data.limit is 5, but there are only 3 examples"


def test_a_map_makes_conversations_of_any_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Nombre;Ingredientes;Pasos\nPan;harina, agua;Amasar, hornear\nSopa;;Hervir\n")
    columns = Columns(prompt="Receta de {nombre} con {Ingredientes}", answer="pasos")
    reading, events = read(tmp_path / "a.csv", map=columns, max_broken=0.5)
    assert [c.messages for c in reading.conversations] == [
        (Message("user", "Receta de Pan con harina, agua"), Message("assistant", "Amasar, hornear"))
    ]
    assert [(r.source.line, r.check, r.reason) for r in reading.refusals] == [(3, "empty", "'Ingredientes' is empty")]
    assert "CSV with ';', read as data.map: data.map names 'Nombre', 'Ingredientes', 'Pasos'" in notices(events, "info")[0]


# ── whatever may come ─────────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: not text.isspace()
)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6)


def as_jsonl(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(json.dumps({"prompt": a, "completion": b}, ensure_ascii=False) for a, b in pairs)


def as_json(pairs: list[tuple[str, str]]) -> str:
    return json.dumps(
        [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in pairs], indent=1
    )


def as_csv(pairs: list[tuple[str, str]]) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=";").writerows([("instruction", "response"), *pairs])
    return file.getvalue()


@settings(deadline=None)
@given(pairs=PAIRS)
@pytest.mark.parametrize(("name", "write"), [("a.jsonl", as_jsonl), ("a.json", as_json), ("a.csv", as_csv)])
def test_conversations_written_to_a_file_are_read_as_they_were(name: str, write: Any, pairs: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(write(pairs).encode("utf-8"))
        reading, _events = read(path)
    assert [tuple(m.content for m in c.messages) for c in reading.conversations] == pairs


LINES = st.sampled_from(
    [
        '{"prompt": "a", "completion": "b"}',
        '{"messages": [{"role": "user", "content": "a"}]}',
        '{"question": "a", "answer": ""}',
        '{"conversations": [{"from": "human", "value": "a"}, {"from": "observation", "value": "b"}]}',
        "{", "NaN", '"a"', "[]", "[[[", "", "  ", "\u2028",
    ]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(LINES, max_size=30))
def test_no_row_vanishes(lines: list[str]) -> None:
    lines = ['{"prompt": "a", "completion": "b"}', *lines]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        reading, _events = read(path, max_broken=1)
    found = [*(c.source.line for c in reading.conversations), *(r.source.line for r in reading.refusals)]
    assert sorted(found) == [number for number, line in enumerate(lines, start=1) if line.strip()]
    assert reading.files[0].rows == len(found)


# ── real files ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "shape", "kept", "refused"),
    [
        ("alpaca_en_demo.json", "Alpaca", 999, {}),
        ("alpaca_zh_demo.json", "Alpaca", 1000, {}),
        ("identity.json", "Alpaca", 91, {}),
        ("v1_sft_demo.jsonl", "OpenAI messages", 500, {}),
        ("kto_en_demo.json", "OpenAI messages", 150, {"preference": 150}),
        ("glaive_toolcall_en_demo.json", "ShareGPT", 109, {"tools": 191}),
        ("glaive_toolcall_zh_demo.json", "ShareGPT", 100, {"tools": 200}),
    ],
)
def test_each_shape_of_llamafactory_is_recognised(
    shared_data: Path, name: str, shape: str, kept: int, refused: dict[str, int]
) -> None:
    reading, _events = read(shared_data / "ds-llamafactory" / name, max_broken=0.7)
    assert reading.files[0].shape == shape
    assert (len(reading.conversations), Counter(r.check for r in reading.refusals)) == (kept, refused)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("dpo_en_demo.json", "300 of 300 rows cannot be used (100 %; data.max_broken allows 5 %)"),
        ("mllm_demo.json", "6 of 6 rows cannot be used (100 %; data.max_broken allows 5 %)"),
        ("reason_tool_use_demo_50.jsonl", "50 of 50 rows cannot be used (100 %; data.max_broken allows 5 %)"),
        ("c4_demo.jsonl", "PATH:1: the keys 'text' are of no known shape"),
        (
            "wiki_demo.txt",
            "PATH:1: this is neither JSONL nor JSON nor CSV: it begins with 'Anarchism is a political philosophy and '",
        ),
    ],
)
def test_what_afina_cannot_learn_from_yet_is_refused_by_name(shared_data: Path, name: str, what: str) -> None:
    path = shared_data / "ds-llamafactory" / name
    assert problem_of(path).what.split("\n")[0] == what.replace("PATH", str(path))


def test_gsm8k_is_read_and_limited(shared_data: Path) -> None:
    reading, _events = read(shared_data / "ds-gsm8k" / "train.jsonl", limit=500)
    assert reading.files[0].rows == 7473
    assert len(reading.conversations) == 500
    assert all("####" in c.answer for c in reading.conversations)


def test_superbowl_is_split_without_a_question_on_two_sides(shared_data: Path) -> None:
    reading, _events = read(shared_data / "ds-superbowl-mlx" / "train.jsonl", shared_data / "ds-superbowl-mlx" / "valid.jsonl")
    assert len(reading.conversations) == 1944
    sides = split(reading.conversations, Split())
    asked = [{c.prompt for c in members} for members in sides.values()]
    assert not asked[0] & asked[1]
    assert not asked[0] & asked[2]
    assert not asked[1] & asked[2]
    assert len(sides["val"]) == pytest.approx(194, abs=2)
    assert len(sides["test"]) == pytest.approx(194, abs=2)


def test_bitext_is_read_from_utterance_to_intent(shared_data: Path) -> None:
    reading, _events = read(shared_data / "ds-bitext" / "data" / "*" / "*.csv")
    assert [(file.rows, file.refused) for file in reading.files] == [(810, 0), (810, 0), (6480, 0)]
    assert len({c.answer for c in reading.conversations}) == 27


def test_recipes_in_spanish_are_read_with_a_map(shared_data: Path) -> None:
    path = shared_data / "es-recetas" / "EntrenamientoLLM_RecetasDeLaAbuela" / "recetasabuela_es.csv"
    columns = Columns(prompt="Receta de {Nombre} con {Ingredientes}", answer="Pasos")
    reading, _events = read(path, map=columns)
    assert len(reading.conversations) == 2255
    assert [(r.source, r.check) for r in reading.refusals] == [(Source(str(path), 1231), "broken-row")]
    assert problem_of(path).fix.endswith('map: {prompt: "Nombre", answer: "Ingredientes"}')


def test_the_questions_of_xquad_are_read_and_its_nested_file_is_asked_about(shared_data: Path) -> None:
    reading, _events = read(shared_data / "rag-xquad" / "qa-*.jsonl")
    assert len(reading.conversations) == 2380
    path = shared_data / "rag-xquad" / "xquad.es.json"
    assert problem_of(path).what == f"{path}:3: the keys 'paragraphs', 'title' are of no known shape"


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv"])
def test_no_file_of_the_json_test_suite_breaks_the_reader(shared_data: Path, tmp_path: Path, ending: str) -> None:
    files = sorted((shared_data / "dirty-json").rglob("*.json"))
    assert len(files) > 300
    for file in files:
        copy = tmp_path / f"x{ending}"
        copy.write_bytes(file.read_bytes())
        error = problem_of(copy)
        assert str(copy) in error.what, file.name
        assert error.fix, file.name


def test_naughty_texts_come_through_a_file_unchanged(shared_data: Path, tmp_path: Path) -> None:
    texts = [text for text in json.loads((shared_data / "dirty-strings" / "blns.json").read_bytes()) if text.strip()]
    for name, write in (("a.jsonl", as_jsonl), ("a.json", as_json), ("a.csv", as_csv)):
        (tmp_path / name).write_bytes(write([(text, text) for text in texts]).encode())
        reading, _events = read(tmp_path / name)
        assert [c.answer for c in reading.conversations] == texts, name
        assert [c.prompt[0].content for c in reading.conversations] == texts, name
