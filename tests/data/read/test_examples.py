from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.core.events import Event, Events, Notice, Progress
from afina.data.conversation import Conversation, Finding, Message, Preference, Source
from afina.data.read.examples import FileReading, Reader
from afina.recipe.recipe import Columns, Data, FileList, Files, Split


@dataclass(frozen=True)
class Reading:
    """All that a reader gave, by its kind."""

    conversations: list[Conversation]
    preferences: list[Preference]
    findings: list[Finding]
    files: list[FileReading]


def read(*examples: Path | str | Files, system: str | None = None, **settings: Any) -> tuple[Reading, list[Event]]:
    events: list[Event] = []
    entries: FileList = tuple(entry if isinstance(entry, Files) else str(entry) for entry in examples)
    reader = Reader(entries, Data(examples=entries, **settings), system, Events(listeners=(events.append,)))
    items = list(reader.items())
    return (
        Reading(
            [item for item in items if isinstance(item, Conversation)],
            [item for item in items if isinstance(item, Preference)],
            [item for item in items if isinstance(item, Finding)],
            reader.files,
        ),
        events,
    )


def problem_of(*examples: Path | str | Files, **settings: Any) -> DataError:
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
    assert [(Path(file.name).name, file.kind, file.shape, file.rows, file.conversations) for file in reading.files] == [
        ("a.csv", "csv", "pregunta/respuesta", 1, 1),
        ("c.json", "json", "Alpaca", 1, 1),
        ("b.jsonl", "jsonl", "prompt/completion", 2, 2),
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
            "'id'",
        ],
    ]
    assert [event.done for event in events if isinstance(event, Progress)] == [1, 2, 3]


def test_a_sample_shows_the_first_conversation_in_short(tmp_path: Path) -> None:
    rows = [{"prompt": ""}, {"prompt": "a\nb " * 99, "completion": "c"}, {"prompt": "d", "completion": "e"}]
    reading, _events = read(written(tmp_path / "a.jsonl", rows))
    question, answer = reading.files[0].sample.split("\n")
    assert question.startswith("user: a b a b")
    assert question.endswith("…")
    assert len(question) < 140
    assert answer == "assistant: c"


def test_broken_rows_are_found_between_the_others(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"question {n}", "completion": f"answer {n}"}) for n in range(1000)]
    rows[499] = rows[499][:-3]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    reading, _events = read(tmp_path / "a.jsonl")
    assert [c.source.line for c in reading.conversations] == [*range(1, 500), *range(501, 1001)]
    assert [(str(f.source), f.check, f.reason) for f in reading.findings] == [
        (f"{tmp_path / 'a.jsonl'}:500", "broken-row", "not JSON from column 42 on: '\"answer 49'")
    ]
    assert (reading.files[0].rows, reading.files[0].dropped) == (1000, 1)


def test_a_file_in_which_nothing_is_json_is_all_findings(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("hello\nworld\n")
    reading, _events = read(tmp_path / "a.jsonl")
    assert [(f.source.line, f.check) for f in reading.findings] == [(1, "broken-row"), (2, "broken-row")]
    assert (reading.files[0].rows, reading.files[0].dropped, reading.files[0].shape) == (2, 2, "")


@pytest.mark.parametrize(("name", "text"), [("a.csv", "prompt,completion\n"), ("a.json", "[]"), ("a.yaml", "# nothing\n")])
def test_a_file_without_rows_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    error = problem_of(tmp_path / name)
    assert (error.what, error.fix) == (f"{tmp_path / name} holds no rows", "give a file with examples in it")


def test_a_map_makes_conversations_of_any_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Nombre;Ingredientes;Pasos\nPan;harina, agua;Amasar, hornear\nSopa;;Hervir\n")
    columns = Columns(prompt="Receta de {nombre} con {Ingredientes}", answer="pasos")
    reading, events = read(tmp_path / "a.csv", map=columns)
    assert [c.messages for c in reading.conversations] == [
        (Message("user", "Receta de Pan con harina, agua"), Message("assistant", "Amasar, hornear"))
    ]
    assert [(f.source.line, f.check, f.reason) for f in reading.findings] == [(3, "empty", "'Ingredientes' is empty")]
    assert "CSV with ';', read as data.map: data.map names 'Nombre', 'Ingredientes', 'Pasos'" in notices(events, "info")[0]


def test_a_map_of_one_entry_stays_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Nombre;Pasos;Otro\nPan;Amasar;x\n")
    (tmp_path / "faq.md").write_text("# ¿Qué?\nEso.\n")
    written(tmp_path / "b.jsonl", [{"prompt": "a", "completion": "b"}])
    entry = Files(files=str(tmp_path / "a.csv"), map=Columns(prompt="Nombre", answer="Pasos"))
    reading, _events = read(entry, tmp_path / "b.jsonl", tmp_path / "faq.md")
    assert [file.shape for file in reading.files] == ["data.map", "prompt/completion", "question/answer"]


def test_the_sheets_of_a_workbook_have_shapes_of_their_own(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in {"A": [["prompt", "completion"], ["a", "b"]], "B": [["Pregunta", "Respuesta"], ["c", "d"]]}.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(tmp_path / "x.xlsx")
    reading, _events = read(tmp_path / "x.xlsx")
    assert [(Path(file.name).name, file.shape) for file in reading.files] == [
        ("x.xlsx[A]", "prompt/completion"),
        ("x.xlsx[B]", "pregunta/respuesta"),
    ]
    assert [c.answer for c in reading.conversations] == ["b", "d"]


def test_what_a_file_was_written_with_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("pregunta;respuesta\n¿Qué?;Año\n".encode("cp1252"))
    (tmp_path / "faq.md").write_text("# ¿Qué?\nEso.\n")
    (tmp_path / "photo.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("Anything at all\n")
    (tmp_path / "config.json").write_text('{"a": 1}')
    reading, events = read(tmp_path)
    assert len(reading.conversations) == 2
    assert reading.files[0].encoding == "cp1252"
    assert f"{tmp_path / 'a.csv'}: its letters are written in cp1252" in notices(events, "info")
    (warning,) = notices(events, "warning")
    assert warning.startswith(
        f"not read: {tmp_path / 'config.json'} (one object, and no example), {tmp_path / 'notes.txt'} (this is"
    )
    assert notices(events, "info")[-1] == f"not read: {tmp_path / 'photo.png'} (not an ending that is read)"
    assert problem_of(tmp_path / "notes.txt").what.startswith(f"{tmp_path / 'notes.txt'}:1: this is neither")


def test_many_files_are_told_in_sum(tmp_path: Path) -> None:
    for number in range(30):
        written(tmp_path / f"{number}.jsonl", [{"prompt": f"a{number}", "completion": "b"}])
    reading, events = read(tmp_path / "*.jsonl")
    assert len(reading.files) == 30
    assert len(notices(events, "info")) == 21
    assert notices(events, "info")[-1] == "10 more files: 10 of 10 rows are conversations"


def test_rows_with_one_value_in_the_column_of_the_split_are_a_group(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", "ticket": 7}, {"prompt": "c", "completion": "d", "ticket": 8}]
    reading, _events = read(written(tmp_path / "a.jsonl", rows), split=Split(by="ticket"))
    assert [c.group for c in reading.conversations] == ["7", "8"]


WHATSAPP = "31/1/24, 18:05 - Ana: ¿Abren hoy?\n31/1/24, 18:06 - Luis: Sí, hasta las 9.\n31/1/24, 18:07 - Ana: Gracias\n"


@pytest.mark.parametrize("where", ["chat.txt", "chat.zip", "chat.txt.gz"])
def test_a_chat_is_read_with_the_person_that_the_recipe_names(tmp_path: Path, where: str) -> None:
    path = tmp_path / where
    if where.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("chat.txt", WHATSAPP)
    else:
        path.write_bytes(gzip.compress(WHATSAPP.encode()) if where.endswith(".gz") else WHATSAPP.encode())
    reading, _events = read(Files(files=str(path), person="Luis"))
    assert [c.answer for c in reading.conversations] == ["Sí, hasta las 9."]
    assert [(file.kind, file.conversations) for file in reading.files] == [("whatsapp", 1)]
    assert "the recipe does not say whose messages are the answers" in problem_of(path).what


def test_a_byte_that_is_no_letter_costs_a_chat_its_session_alone(tmp_path: Path) -> None:
    later = WHATSAPP.replace("31/1/24", "1/2/24").encode()
    (tmp_path / "chat.txt").write_bytes(WHATSAPP.encode().replace("Sí".encode(), b"S\xed") + later)
    reading, _events = read(Files(files=str(tmp_path / "chat.txt"), person="Luis"))
    assert [c.answer for c in reading.conversations] == ["Sí, hasta las 9."]
    assert [(f.source.line, f.check) for f in reading.findings if f.done == "dropped"] == [(1, "broken-row")]


@pytest.mark.parametrize("packed", [False, True])
def test_an_export_of_slack_is_read_from_a_folder_or_a_zip(tmp_path: Path, packed: bool) -> None:
    said = [
        {"type": "message", "user": "U1", "text": "¿Abren hoy?", "ts": "1706724300.000100"},
        {"type": "message", "user": "U2", "text": "Sí.", "ts": "1706724360.000200"},
    ]
    members = {
        "users.json": json.dumps([{"id": "U1", "real_name": "Ana"}, {"id": "U2", "real_name": "Luis"}]),
        "general/2024-01-31.json": json.dumps(said),
    }
    path = tmp_path / ("export.zip" if packed else "export")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
    else:
        for name, text in members.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
    reading, _events = read(Files(files=str(path), person="Luis"))
    assert [(c.prompt[-1].content, c.answer) for c in reading.conversations] == [("¿Abren hoy?", "Sí.")]
    assert reading.files[0].kind == "slack"


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


def as_yaml(pairs: list[tuple[str, str]]) -> str:
    """As a text that YAML can hold: letters that it must not hold are escaped."""
    return str(yaml.safe_dump([{"question": a, "answer": b} for a, b in pairs], default_style='"'))


@settings(deadline=None)
@given(pairs=PAIRS)
@pytest.mark.parametrize(("name", "write"), [("a.jsonl", as_jsonl), ("a.json", as_json), ("a.csv", as_csv), ("a.yaml", as_yaml)])
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
        reading, _events = read(path)
    found = [*(c.source.line for c in reading.conversations), *(f.source.line for f in reading.findings)]
    assert sorted(found) == [number for number, line in enumerate(lines, start=1) if line.strip(" \t\r\n\v\f")]
    assert reading.files[0].rows == len(found)


# ── real files ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "shape", "conversations", "preferences", "least_dropped"),
    [
        ("alpaca_en_demo.json", "Alpaca", 999, 0, 0),
        ("alpaca_zh_demo.json", "Alpaca", 1000, 0, 0),
        ("identity.json", "Alpaca", 91, 0, 0),
        ("v1_sft_demo.jsonl", "OpenAI messages", 500, 0, 0),
        ("kto_en_demo.json", "OpenAI messages", 150, 0, 150),
        ("glaive_toolcall_en_demo.json", "ShareGPT", 300, 0, 0),
        ("dpo_en_demo.json", "preference pairs", 0, 300, 0),
        ("dpo_zh_demo.json", "preference pairs", 0, 300, 0),
        ("v1_dpo_demo.jsonl", "preference pairs", 0, 10, 0),
        ("mllm_demo.json", "OpenAI messages", 0, 0, 6),
        ("c4_demo.jsonl", "text", 0, 0, 300),
    ],
)
def test_each_shape_of_llamafactory_is_recognised(
    shared_data: Path, name: str, shape: str, conversations: int, preferences: int, least_dropped: int
) -> None:
    reading, _events = read(shared_data / "ds-llamafactory" / name)
    file = reading.files[0]
    assert (file.shape, file.conversations, file.preferences, file.dropped) == (shape, conversations, preferences, least_dropped)
    assert file.rows == conversations + preferences + least_dropped


def test_gsm8k_is_read(shared_data: Path) -> None:
    reading, _events = read(shared_data / "ds-gsm8k" / "train.jsonl")
    assert reading.files[0].rows == len(reading.conversations) == 7473
    assert all("####" in c.answer for c in reading.conversations)


def test_bitext_is_read_from_utterance_to_intent(shared_data: Path) -> None:
    reading, _events = read(shared_data / "ds-bitext" / "data" / "*" / "*.csv")
    assert [(file.rows, file.dropped) for file in reading.files] == [(810, 0), (810, 0), (6480, 0)]
    assert len({c.answer for c in reading.conversations}) == 27


def test_recipes_in_spanish_are_read_with_a_map(shared_data: Path) -> None:
    path = shared_data / "es-recetas" / "EntrenamientoLLM_RecetasDeLaAbuela" / "recetasabuela_es.csv"
    columns = Columns(prompt="Receta de {Nombre} con {Ingredientes}", answer="Pasos")
    reading, _events = read(path, map=columns)
    assert len(reading.conversations) == 2255
    assert [(f.source, f.check) for f in reading.findings] == [(Source(str(path), 1231), "broken-row")]


def test_the_questions_of_xquad_are_read_and_its_nested_file_is_asked_about(shared_data: Path) -> None:
    reading, _events = read(shared_data / "rag-xquad" / "qa-*.jsonl")
    assert len(reading.conversations) == 2380
    path = shared_data / "rag-xquad" / "xquad.es.json"
    assert problem_of(path).what == f"{path}:3: the keys 'paragraphs', 'title' are of no known shape"


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".yaml", ".txt", ".md"])
def test_no_file_of_the_json_test_suite_breaks_the_reader(shared_data: Path, tmp_path: Path, ending: str) -> None:
    files = sorted((shared_data / "dirty-json").rglob("*.json"))
    assert len(files) > 300
    told = 0
    for file in files:
        copy = tmp_path / f"x{ending}"
        copy.write_bytes(file.read_bytes())
        try:
            reading, _events = read(copy)
        except DataError as error:
            assert str(copy) in error.what, file.name
            assert error.fix, file.name
            told += 1
        else:
            assert all(str(copy) in str(finding.source) and finding.reason for finding in reading.findings), file.name
            by_order = reading.files[0].shape == "two columns"  # an object of two texts is a row of two columns
            assert by_order or not reading.conversations, file.name
            told += bool(reading.findings) or by_order
    assert told == len(files)


def test_the_json_of_strange_letters_is_read(shared_data: Path) -> None:
    for name in ("in-the-wild.json", "synthetic.json", "negative.json", "known-failures.json"):
        path = shared_data / "dirty-mojibake" / "tests" / "test-cases" / name
        reading, _events = read(path, map=Columns(prompt="label", answer="original"))
        assert len(reading.conversations) == len(json.loads(path.read_bytes())) > 0, name


def test_naughty_texts_come_through_a_file_unchanged(shared_data: Path, tmp_path: Path) -> None:
    texts = [text for text in json.loads((shared_data / "dirty-strings" / "blns.json").read_bytes()) if text.strip()]
    for name, write in (("a.jsonl", as_jsonl), ("a.json", as_json), ("a.csv", as_csv), ("a.yaml", as_yaml)):
        (tmp_path / name).write_bytes(write([(text, text) for text in texts]).encode())
        reading, _events = read(tmp_path / name)
        assert [c.answer for c in reading.conversations] == texts, name
        assert [c.prompt[0].content for c in reading.conversations] == texts, name


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("test.xlsx", "PATH[Sheet1]:2: the keys 'Alpha', 'Beta', 'Gamma', 'Delta' are of no known shape"),
        ("test.xls", "PATH is an old Excel or Word file, not examples"),
        (
            "test.json",
            "PATH:1: the keys 'key1', 'key2', 'key3', '5b64c88c-b3c3-4510-bcb8-da0b200602d8', 'uuid_value' are of no known",
        ),
        ("test_files.zip", "PATH/test.xlsx[Sheet1]:2: the keys 'Alpha', 'Beta', 'Gamma', 'Delta' are of no known shape"),
        ("random.bin", "PATH: the bytes are no text in an encoding that is known"),
        ("test.docx", "PATH is a document"),
        ("test.epub", "PATH is a document"),
        ("test.pdf", "PATH is a PDF document, not examples"),
        ("test_blog.html", "PATH:1: this is neither JSONL nor JSON nor CSV: it begins with '<!"),
    ],
)
def test_each_file_of_an_office_is_told_by_name(shared_data: Path, name: str, what: str) -> None:
    path = shared_data / "rag-office-misc" / "packages" / "markitdown" / "tests" / "test_files" / name
    error = problem_of(path)
    assert error.what.startswith(what.replace("PATH", str(path)))
    assert error.fix


def test_a_table_in_japanese_is_read(shared_data: Path) -> None:
    folder = shared_data / "rag-office-misc" / "packages" / "markitdown" / "tests" / "test_files"
    reading, _events = read(folder / "test_mskanji.csv", map=Columns(prompt="名前", answer="住所"))
    assert [(c.prompt[0].content, c.answer) for c in reading.conversations] == [
        ("佐藤太郎", "東京"),
        ("三木英子", "大阪"),
        ("髙橋淳", "名古屋"),
    ]
    assert reading.files[0].encoding == "cp932"
    sheet, _events = read(folder / "test.xlsx", map=Columns(prompt="{Alpha} {Beta}", answer="Gamma"))
    assert len(sheet.conversations) > 5


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("b.json", '[{"prompt": "b1", "completion": "x"},\n{"prompt": "b2", "completion": "y"}\n{"prompt": "b3"', 3),
        ("b.json", '{"rows": [{"prompt": "b1"', 1),
        ("b.yaml", "- {prompt: b1, completion: x}\n- b: c: d\n", 2),
    ],
)
def test_a_file_of_a_folder_that_breaks_off_is_found_and_the_others_are_read(
    tmp_path: Path, name: str, text: str, line: int
) -> None:
    """One broken .json in a folder ended the whole run."""
    for other in ("a.jsonl", "c.jsonl"):
        written(tmp_path / other, [{"prompt": f"{other} {row}", "completion": "z"} for row in range(3)])
    (tmp_path / name).write_text(text)
    reading, _events = read(tmp_path)
    assert [talk.messages[0].content for talk in reading.conversations if "jsonl" in talk.source.file] == [
        f"{other} {row}" for other in ("a.jsonl", "c.jsonl") for row in range(3)
    ]
    found = reading.findings[-1]
    assert (found.check, found.source) == ("broken-row", Source(str(tmp_path / name), line))
    assert "nothing behind it in this file is read" in found.reason
    told = next(file for file in reading.files if file.name.endswith(name))
    assert told.rows == told.conversations + told.dropped
    assert problem_of(tmp_path / name).what.startswith(f"{tmp_path / name}:{line}: ")  # named by itself, it is an error
