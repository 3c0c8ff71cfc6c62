"""What must hold for any content: what is written is read to the letter, the split is stable, the masks cover the answers."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from afina.core.events import Events
from afina.data.conversation import Conversation, Finding, Message, Source
from afina.data.read.examples import Reader
from afina.data.render import Limits, Renderer, Row
from afina.data.split import split
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.recipe.recipe import Data, Split
from tests.fakes.models import write_tokenizer
from tools import fuzz_readers

Pair = tuple[str, str]

# ── what is written is read to the letter ─────────────────────────────────────────────────────────────────────────────

ANY = st.characters(exclude_categories=["Cs"])
WRITTEN = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"])  # what spreadsheets and YAML can hold as it is
QUOTED = st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t")  # a small CSV full of controls is no text


def texts(characters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.text(characters, min_size=1, max_size=30).filter(lambda text: text.strip() != "")


def pairs(characters: st.SearchStrategy[str]) -> st.SearchStrategy[list[Pair]]:
    return st.lists(st.tuples(texts(characters), texts(characters)), min_size=1, max_size=6)


def objects(rows: list[Pair]) -> list[dict[str, str]]:
    return [{"prompt": prompt, "completion": answer} for prompt, answer in rows]


def as_jsonl(rows: list[Pair]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects(rows))


def as_csv(rows: list[Pair], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("prompt", "completion"), *rows])
    return text.getvalue()


def as_table(rows: list[Pair]) -> pa.Table:
    return pa.Table.from_pylist(objects(rows))


def write_parquet(path: Path, rows: list[Pair]) -> None:
    parquet.write_table(as_table(rows), path, row_group_size=2)


def write_arrow(path: Path, rows: list[Pair]) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, as_table(rows).schema) as stream:
        stream.write_table(as_table(rows))


def write_excel(path: Path, rows: list[Pair]) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in [("prompt", "completion"), *rows]:
        sheet.append(row)
    book.save(path)


def write_zip(path: Path, rows: list[Pair]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.jsonl", as_jsonl(rows).encode())


FORMATS: dict[str, tuple[st.SearchStrategy[str], Callable[[Path, list[Pair]], object]]] = {
    "lines.jsonl": (ANY, lambda path, rows: path.write_bytes(as_jsonl(rows).encode())),
    "escaped.jsonl": (ANY, lambda path, rows: path.write_text("\n".join(map(json.dumps, objects(rows))), encoding="ascii")),
    "crlf.jsonl": (ANY, lambda path, rows: path.write_bytes(as_jsonl(rows).replace("\n", "\r\n").encode())),
    "bom.jsonl": (ANY, lambda path, rows: path.write_bytes(as_jsonl(rows).encode("utf-8-sig"))),
    "utf16.jsonl": (ANY, lambda path, rows: path.write_bytes(as_jsonl(rows).encode("utf-16"))),
    "utf32.jsonl": (ANY, lambda path, rows: path.write_bytes(as_jsonl(rows).encode("utf-32"))),
    "list.json": (ANY, lambda path, rows: path.write_text(json.dumps(objects(rows), ensure_ascii=False), encoding="utf-8")),
    "pretty.json": (ANY, lambda path, rows: path.write_text(json.dumps({"v": 1, "rows": objects(rows)}, indent=4))),
    "comma.csv": (QUOTED, lambda path, rows: path.write_bytes(as_csv(rows).encode())),
    "semicolon.csv": (QUOTED, lambda path, rows: path.write_bytes(as_csv(rows, ";").encode("utf-8-sig"))),
    "tabs.tsv": (QUOTED, lambda path, rows: path.write_bytes(as_csv(rows, "\t").encode())),
    "book.xlsx": (WRITTEN, write_excel),
    "table.parquet": (ANY, write_parquet),
    "table.arrow": (ANY, write_arrow),
    "rows.yaml": (
        WRITTEN,
        lambda path, rows: path.write_text(yaml.safe_dump(objects(rows), allow_unicode=True), encoding="utf-8"),
    ),
    "lines.jsonl.gz": (ANY, lambda path, rows: path.write_bytes(gzip.compress(as_jsonl(rows).encode()))),
    "lines.jsonl.bz2": (ANY, lambda path, rows: path.write_bytes(bz2.compress(as_jsonl(rows).encode()))),
    "lines.jsonl.zst": (
        ANY,
        lambda path, rows: path.write_bytes(pa.compress(as_jsonl(rows).encode(), codec="zstd", asbytes=True)),
    ),
    "comma.csv.gz": (QUOTED, lambda path, rows: path.write_bytes(gzip.compress(as_csv(rows).encode()))),
    "several.zip": (ANY, write_zip),
}


def read_back(path: Path) -> list[Conversation | Finding]:
    name = str(path)
    items = list(Reader((name,), Data(examples=(name,)), None, Events()).items())
    assert all(isinstance(item, Conversation | Finding) for item in items)
    return [item for item in items if isinstance(item, Conversation | Finding)]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_to_the_letter(name: str, tmp_path: Path) -> None:
    characters, write = FORMATS[name]

    @settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
    @given(rows=pairs(characters))
    def check(rows: list[Pair]) -> None:
        assume(not name.endswith(".xlsx") or not any(cell.startswith("=") for row in rows for cell in row))  # formulas
        path = tmp_path / name
        write(path, rows)
        found = read_back(path)
        assert [tuple(m.content for m in item.messages) if isinstance(item, Conversation) else item for item in found] == rows

    check()


BROKEN = st.binary(min_size=1, max_size=20).map(lambda data: data.replace(b"\n", b"{")) | st.sampled_from([b"{", b"null", b"[]"])


@settings(max_examples=40)
@given(broken=st.lists(st.tuples(st.integers(0, 99), BROKEN.filter(lambda line: line.strip() != b"")), max_size=6))
def test_broken_lines_cost_no_other_line_and_are_all_told(
    tmp_path_factory: pytest.TempPathFactory, broken: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "broken.jsonl"
    rows = [("¿Qué día es mañana? ñandú, pingüino", f"miércoles, {number} — así está aquí") for number in range(100)]
    lines = as_jsonl(rows).encode().split(b"\n")
    for place, line in broken:
        lines.insert(place, line)
    path.write_bytes(b"\n".join(lines))
    found = read_back(path)
    answers = [item.answer for item in found if isinstance(item, Conversation)]
    assert answers == [answer for _prompt, answer in rows]
    assert len(found) - len(answers) >= len(broken)


@pytest.mark.parametrize("kind", fuzz_readers.ENDINGS)
def test_the_files_that_fuzzing_starts_from_keep_its_promises(kind: str, tmp_path: Path) -> None:
    """What fuzzing once found is among them."""
    path = tmp_path / f"input{fuzz_readers.ENDINGS[kind]}"
    for data in fuzz_readers.made(kind):
        path.write_bytes(data)
        fuzz_readers.check(path)


# ── the split ─────────────────────────────────────────────────────────────────────────────────────────────────────────

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=20, max_size=120, unique=True)


def sides_of(keys: list[int], groups: list[int], seed: int) -> dict[int, str]:
    """Key → side."""
    made = split(np.array(keys, np.uint64), np.array(groups, np.int64), Split(val=0.2, test=0.2, seed=seed))
    return {keys[number]: side for side, numbers in made.items() for number in numbers}


@given(keys=KEYS, seed=st.integers(0, 1000), data=st.data())
def test_another_order_of_the_rows_changes_no_side_and_parts_no_group(keys: list[int], seed: int, data: st.DataObject) -> None:
    groups = [number // 3 for number in range(len(keys))]
    order = data.draw(st.permutations(range(len(keys))))
    before = sides_of(keys, groups, seed)
    assert sides_of([keys[place] for place in order], [groups[place] for place in order], seed) == before
    assert all(len({before[key] for key in keys[start : start + 3]}) == 1 for start in range(0, len(keys), 3))
    assert set(before) == set(keys)


@given(keys=KEYS, added=st.integers(0, 2**64 - 1), seed=st.integers(0, 1000))
def test_an_added_row_moves_at_most_three_others(keys: list[int], added: int, seed: int) -> None:
    assume(added not in keys)
    before = sides_of(keys, list(range(len(keys))), seed)
    after = sides_of([*keys, added], list(range(len(keys) + 1)), seed)
    moved = [key for key in keys if before[key] != after[key]]
    assert len(moved) <= 3  # each of the two shares may grow by one, and the new row may push one over each border


# ── rows and their masks ──────────────────────────────────────────────────────────────────────────────────────────────

SPOKEN = texts(st.characters(exclude_categories=["Cs", "Co"]))
TALKS = st.lists(st.tuples(SPOKEN, SPOKEN), min_size=1, max_size=4)
PLACE = Source("made.jsonl", 1)


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> dict[str, Renderer]:
    made = tmp_path_factory.mktemp("bytes")
    write_tokenizer(made)
    folders = {name: shared_data / "tokenizers" / name for name in ("qwen2.5", "qwen3", "mistral-v3", "phi-3")} | {"bytes": made}
    tokenizers = {name: Tokenizer.load(folder) for name, folder in folders.items()}
    return {name: Renderer.build(choose_template("auto", tokenizer), tokenizer) for name, tokenizer in tokenizers.items()}


def conversation(turns: list[Pair]) -> Conversation:
    messages = [message for question, answer in turns for message in (Message("user", question), Message("assistant", answer))]
    return Conversation(tuple(messages), PLACE)


def rows_of(renderer: Renderer, talk: Conversation) -> list[Row]:
    return [row for rendered in renderer.rows(talk, Limits(100_000)).rendered for row in rendered.rows]


@pytest.mark.parametrize("name", ["bytes", "qwen2.5", "qwen3", "mistral-v3", "phi-3"])
def test_the_spans_hold_each_answer_with_its_end_of_turn_and_nothing_else(name: str, renderers: dict[str, Renderer]) -> None:
    renderer = renderers[name]
    tokenizer = renderer.tokenizer

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(turns=TALKS)
    def check(turns: list[Pair]) -> None:
        talk = conversation(turns)
        assume(not any(tokenizer.special_in(message.content) or tokenizer.loses(message.content) for message in talk.messages))
        outcome = renderer.rows(talk, Limits(100_000))
        rows = [row for rendered in outcome.rendered for row in rendered.rows]
        if not rows:  # a template may refuse texts that are blank for it; never without a word
            assert outcome.findings
            return
        spans = [row.ids[start:stop] for row in rows for start, stop in row.spans]
        assert len(spans) == len(turns)
        for ids, (_question, answer) in zip(spans, turns, strict=True):
            assert ids.count(renderer.end_of_turn_id) == 1
            assert ids[-1] == renderer.end_of_turn_id
            text = tokenizer.pipeline.decode(list(ids[:-1]), skip_special_tokens=False)
            assert without_blanks(text, tokenizer) == without_blanks(answer, tokenizer)
        beginnings = [row.ids.count(tokenizer.bos_id) for row in rows if tokenizer.bos_id is not None]
        assert all(count == renderer.prompt_ids(talk.prompt).count(tokenizer.bos_id or -1) for count in beginnings)

    check()


def without_blanks(text: str, tokenizer: Tokenizer) -> str:
    """The text in the tokenizer's normal form: templates trim answers, and SentencePiece joins blanks."""
    normalizer = tokenizer.pipeline.normalizer
    normal = normalizer.normalize_str(text) if normalizer is not None else text
    return "".join(normal.replace("▁", " ").split())


@pytest.mark.parametrize("name", ["bytes", "qwen2.5", "qwen3", "mistral-v3", "phi-3"])
def test_each_answer_stands_behind_the_prompt_that_the_served_model_reads(name: str, renderers: dict[str, Renderer]) -> None:
    renderer = renderers[name]

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(turns=TALKS)
    def check(turns: list[Pair]) -> None:
        talk = conversation(turns)
        rows = rows_of(renderer, talk)
        assume(rows)
        prompt = renderer.prompt_ids(talk.prompt)
        start, stop = rows[-1].spans[-1]
        assert list(rows[-1].ids[:start]) == prompt
        assert stop == len(rows[-1].ids)

    check()
