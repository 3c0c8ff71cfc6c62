"""The stage `prepare` from its files to its files, on small real models and tokenizers."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml

from afina.core.errors import DataError, RecipeError, ServiceError
from afina.core.events import Event, Events, Notice, Progress, StageSkipped
from afina.core.run import RunFolder
from afina.data import flow
from afina.data.conversation import Conversation
from afina.data.store import CONVERSATIONS, ROWS, SIDES, SIDES_FILE, Store, load_conversations, load_side
from afina.data.template import CHATML
from afina.data.tokenizer import Tokenizer
from afina.recipe.load import to_yaml, validate
from afina.recipe.recipe import Recipe
from afina.report.prepared import PreparePage, load
from afina.stages.prepare import CHUNKS, PREFERENCES, REPORT, Prepared, prepare
from afina.stages.prepare_summary import rendered_rows
from afina.stages.workspace import working_in
from tests.fakes.models import write_model
from tests.fakes.vocabularies import write_model_around

PROJECT = Path(__file__).parents[2]
ARTICLES = (
    "clavos tornillos martillos sierras pinturas brochas cintas cables bombillas taladros lijas colas tubos grifos llaves "
    "cubos escaleras guantes cascos palas rastrillos macetas tijeras metros niveles alicates cinceles limas remaches candados"
).split()
BINARY = (CONVERSATIONS, ROWS, SIDES_FILE)
LEFT_IN_FULL = (CONVERSATIONS, "report.json", "report.html", "findings.jsonl")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"), max_position_embeddings=2048)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """The real tokenizer and chat template of Qwen2.5 around one layer of random weights."""
    tokenizer = shared_data / "tokenizers" / "qwen2.5"
    config = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    return write_model_around(tmp_path_factory.mktemp("qwen"), tokenizer, chat_template=config["chat_template"])


@dataclass(frozen=True)
class Done:
    """A preparation that went through: what it returned, wrote and told."""

    result: Prepared
    told: tuple[Event, ...]

    @property
    def folder(self) -> Path:
        return self.result.folder

    @property
    def page(self) -> PreparePage:
        return load(self.folder / REPORT)

    @property
    def findings(self) -> list[dict[str, str]]:
        return records(self.folder / "findings.jsonl")

    def side(self, side: str) -> list[Conversation]:
        return list(load_conversations(self.folder, side))

    @property
    def kept(self) -> list[Conversation]:
        return [talk for side in SIDES for talk in self.side(side)]

    def found(self, check: str) -> list[tuple[str, str]]:
        """Line and what was done of each finding of a check."""
        return [(one["source"].rpartition(":")[2], one["done"]) for one in self.findings if one["check"] == check]


def recipe(base: Path, examples: Sequence[Path | Mapping[str, Any]], /, train: object = None, **data: object) -> Recipe:
    """A recipe of these files; few examples are no reason to stop."""
    checks = {"few-examples": "off", **data.pop("checks", {})}  # type: ignore[dict-item]
    entries = [str(entry) if isinstance(entry, Path) else entry for entry in examples]
    system = data.pop("system", None)
    return validate(
        {
            "name": "shop",
            "base": str(base),
            "system": system,
            "data": {"examples": entries, "checks": checks, **data},
            **({"train": train} if train else {}),
        },
        "recipe.yaml",
    )


def prepared(recipe: Recipe, folder: Path) -> Done:
    """Runs the stage in ``folder``/shop; every preparation here must add up."""
    heard: list[Event] = []
    with Events(None, (heard.append,)) as events:
        done = Done(prepare(recipe, RunFolder(folder / "shop"), events), tuple(heard))
    require_that_it_adds_up(done)
    return done


def require_that_it_adds_up(done: Done) -> None:
    page, result = done.page, done.result
    first = {one["source"]: one["check"] for one in reversed(done.findings) if one["done"] == "dropped"}
    dropped = Counter(first.values())  # a row that two checks leave out is left out once
    assert page.flow[0].left == sum(file.rows for file in page.files)
    pairs = len(records(done.folder / PREFERENCES)) if (done.folder / PREFERENCES).is_file() else 0
    assert sum(file.rows - file.conversations - file.dropped for file in page.files) == pairs
    for before, step in zip(page.flow, page.flow[1:], strict=False):
        if step.stage != "limit":
            assert step.left + sum(count for _check, count in step.dropped) == before.left, step
    told = Counter({check: count for step in page.flow for check, count in step.dropped})
    assert told == dropped == Counter(result.dropped)
    assert {one.check: one.count for one in page.found} == Counter(one["check"] for one in done.findings)
    store, sides = Store(done.folder), {side: load_side(done.folder, side).tolist() for side in SIDES}
    assert len({number for numbers in sides.values() for number in numbers}) == sum(map(len, sides.values()))
    assert len({str(store.source(number)) for numbers in sides.values() for number in numbers}) == page.flow[-1].left
    for side in page.sides:
        rows = [store.row(row) for number in sides[side.name] for row in store.row_numbers(number)]
        assert (side.conversations, side.rows) == (result.conversations[side.name], len(rows))
        assert side.tokens == result.tokens[side.name] == sum(len(row.ids) for row in rows)
        assert side.trained_tokens == result.trained_tokens[side.name] == sum(sum(row.trained) for row in rows)
    changed = {one["source"] for one in done.findings if one["done"] == "changed"}
    assert result.changed <= sum(one["done"] == "changed" for one in done.findings)
    assert bool(result.changed) == bool(changed)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def question(number: int) -> str:
    return f"¿Tenéis {ARTICLES[number % 30]} del tipo {number * 7919 % 10007} en {ARTICLES[(number // 30 + number) % 30]}?"


def answer(number: int) -> str:
    return f"Quedan {number + 3} en el estante {number * 31 % 997}, junto a {ARTICLES[number * 7 % 30]}."


def shop_rows(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"prompt": question(n), "completion": answer(n)} for n in range(start, start + count)]


def said(talks: Iterable[Conversation]) -> Counter[tuple[str, str]]:
    """Question and answer of each."""
    return Counter((talk.messages[-2].content, talk.answer) for talk in talks)


def notices(done: Done, level: str = "warning") -> str:
    return "\n".join(event.text for event in done.told if isinstance(event, Notice) and event.level == level)


def all_bytes(folder: Path, names: Iterable[str] = BINARY) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


# ── what is read ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_of_eight_formats_and_shapes_in_one_recipe_give_every_row_to_the_letter(base: Path, tmp_path: Path) -> None:
    parts = [shop_rows(10, 10 * n) for n in range(8)]
    chat = [[{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}] for r in parts[0]]
    write_rows(tmp_path / "chat.jsonl", [{"messages": messages} for messages in chat])
    lines = ["pregunta;respuesta", *(f"{r['prompt']};{r['completion']}" for r in parts[1])]
    (tmp_path / "faq.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    book = openpyxl.Workbook()
    book.active.title = "Tienda"
    for cells in [("Question", "Answer"), *((r["prompt"], r["completion"]) for r in parts[2])]:
        book.active.append(cells)
    book.save(tmp_path / "faq.xlsx")
    turns = [[{"from": "human", "value": r["prompt"]}, {"from": "gpt", "value": r["completion"]}] for r in parts[3]]
    (tmp_path / "shared.json").write_text(json.dumps({"data": [{"conversations": t} for t in turns]}, indent=1), "utf-8-sig")
    alpaca = [{"instruction": r["prompt"], "input": "", "output": r["completion"]} for r in parts[4]]
    (tmp_path / "alpaca.yaml").write_text(yaml.safe_dump(alpaca, allow_unicode=True), "utf-16")
    (tmp_path / "faq.md").write_text("".join(f"**Q:** {r['prompt']}\n\n**A:** {r['completion']}\n\n" for r in parts[5]))
    with gzip.open(tmp_path / "more.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(r) + "\n" for r in parts[6])
    parquet.write_table(pa.Table.from_pylist(parts[7]), tmp_path / "rows.parquet")

    done = prepared(recipe(base, [tmp_path], split={"test": 0.2}), tmp_path / "runs")
    assert said(done.kept) == Counter((r["prompt"], r["completion"]) for part in parts for r in part)
    assert {Path(file.name).name: (file.rows, file.conversations) for file in done.page.files} == dict.fromkeys(
        ("alpaca.yaml", "chat.jsonl", "faq.csv", "faq.md", "faq.xlsx[Tienda]", "more.jsonl.gz", "rows.parquet", "shared.json"),
        (10, 10),
    )
    encodings = {Path(file.name).name: file.encoding for file in done.page.files}
    assert (encodings["faq.csv"], encodings["alpaca.yaml"][:6], encodings["chat.jsonl"]) == ("cp1252", "utf-16", "utf-8")
    assert done.findings == []
    assert done.result.conversations == {"train": 56, "val": 8, "test": 16}


def test_documents_become_chunks_and_a_broken_one_is_told_without_an_end(base: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    text = "\n\n".join(f"## {name}\n\n{'Los ' + name + ' se guardan en el almacén. ' * 20}" for name in ARTICLES[:6])
    (tmp_path / "docs" / "guide.md").write_text(f"# Guía\n\n{text}\n")
    (tmp_path / "docs" / "torn.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<<")
    (tmp_path / "docs" / "notes.bin").write_bytes(b"\0\1\2")
    rows = write_rows(tmp_path / "a.jsonl", shop_rows(60))
    done = prepared(recipe(base, [rows], documents=[str(tmp_path / "docs")], chunk_characters=300), tmp_path / "runs")
    chunks = records(done.folder / CHUNKS)
    assert done.result.chunks == len(chunks) >= 6
    joined = " ".join(chunk["text"] for chunk in chunks)
    assert all(f"## {name}" in joined or name in " ".join(chunk["place"] for chunk in chunks) for name in ARTICLES[:6])
    assert {Path(chunk["document"]).name for chunk in chunks} == {"guide.md"}
    told = {Path(document.name).name: document for document in done.page.documents}
    assert told["guide.md"].chunks == len(chunks)
    assert told["torn.pdf"].problem
    assert told["notes.bin"].problem
    assert "torn.pdf" in notices(done)


def test_preference_pairs_are_kept_apart_word_for_word(base: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": question(n), "chosen": answer(n), "rejected": "Ni idea."} for n in range(100, 112)]
    files = [write_rows(tmp_path / "a.jsonl", shop_rows(60)), write_rows(tmp_path / "pairs.jsonl", pairs)]
    done = prepared(recipe(base, files), tmp_path / "runs")
    kept = records(done.folder / PREFERENCES)
    assert [(one["prompt"][-1]["content"], one["chosen"], one["rejected"]) for one in kept] == [
        (pair["prompt"], pair["chosen"], pair["rejected"]) for pair in pairs
    ]
    assert [one["source"] for one in kept] == [f"{files[1]}:{n}" for n in range(1, 13)]
    assert sum(done.result.conversations.values()) == 60
    assert done.result.dropped == {"preference": 12}


def test_tools_and_calls_are_written_as_the_real_template_writes_them(qwen: Path, tmp_path: Path) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "stock",
            "description": "How many are left",
            "parameters": {"type": "object", "properties": {"article": {"type": "string"}}, "required": ["article"]},
        },
    }

    def row(number: int) -> dict[str, object]:
        arguments = json.dumps({"article": ARTICLES[number % 30]}, ensure_ascii=False)
        call = {"id": "1", "type": "function", "function": {"name": "stock", "arguments": arguments}}
        messages = [
            {"role": "user", "content": question(number)},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": f"{number} left"},
            {"role": "assistant", "content": answer(number)},
        ]
        return {"messages": messages, "tools": [tool]}

    done = prepared(recipe(qwen, [write_rows(tmp_path / "a.jsonl", map(row, range(60)))]), tmp_path / "runs")
    assert sum(done.result.conversations.values()) == 60
    store, tokenizer = Store(done.folder), Tokenizer.load(qwen)
    for number in range(60):
        pieces = [tokenizer.pipeline.decode(list(r.ids), skip_special_tokens=False) for r in map(store.row, [number])]
        text = "".join(pieces)
        article = store.conversation(number).messages[1].calls[0].arguments
        assert text.count('"name": "stock", "description": "How many are left"') == 1
        (first, last) = store.row(number).spans
        learned = [
            tokenizer.pipeline.decode(list(store.row(number).ids[a:b]), skip_special_tokens=False) for a, b in (first, last)
        ]
        assert learned[0] == f'<tool_call>\n{{"name": "stock", "arguments": {article}}}\n</tool_call><|im_end|>'
        assert learned[1] == f"{store.conversation(number).answer}<|im_end|>"
        assert f"<tool_response>\n{number} left\n</tool_response>" in text


# ── what is learned ───────────────────────────────────────────────────────────────────────────────────────────────────


def talk_row(number: int, turns: int) -> dict[str, object]:
    messages = [
        {"role": role, "content": text}
        for turn in range(turns)
        for role, text in (("user", question(number * 50 + turn)), ("assistant", answer(number * 50 + turn)))
    ]
    return {"messages": messages}


def test_turns_last_learns_the_last_answer_and_nothing_else(base: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "a.jsonl", [talk_row(n, 3) for n in range(60)])
    every, last = (prepared(recipe(base, [rows], turns=turns), tmp_path / turns) for turns in ("all", "last"))
    stores = Store(every.folder), Store(last.folder)
    for number in range(60):
        (one,), (other,) = ([store.row(row) for row in store.row_numbers(number)] for store in stores)
        assert one.ids == other.ids
        assert len(one.spans) == 3
        assert other.spans == one.spans[-1:]
    shown = rendered_rows(recipe(base, [rows], turns="last"), tmp_path / "last", 5)
    assert all([trained for _text, trained in row.segments].count(True) == 1 for row in shown)


def test_rows_that_are_too_long_are_left_out_parted_or_kept(base: Path, tmp_path: Path) -> None:
    rows = [*(talk_row(n, 1) for n in range(60)), *(talk_row(n, 4) for n in range(60, 70))]
    path = write_rows(tmp_path / "a.jsonl", rows)
    short = {"max_tokens": 200}
    dropped, parted, kept = (
        prepared(recipe(base, [path], train=short, long=long, max_broken=0.5, checks={"length-outlier": "off"}), tmp_path / long)
        for long in ("drop", "split", "keep")
    )
    with pytest.raises(DataError) as caught:
        prepared(recipe(base, [path], train=short, checks={"length-outlier": "off"}), tmp_path / "stopped")
    assert "--set data.long=split; or go on without these rows: --set data.max_broken=0.15" in caught.value.fix
    assert dropped.found("too-long") == [(str(n), "dropped") for n in range(61, 71)]
    assert sum(dropped.result.conversations.values()) == 60
    assert dropped.result.longest <= 200
    assert parted.found("too-long") == [(str(n), "changed") for n in range(61, 71)]
    assert parted.result.longest <= 200
    wanted = Counter(talk["messages"][turn + 1]["content"] for talk in rows for turn in range(0, len(talk["messages"]), 2))  # type: ignore[arg-type,index]
    answers = Counter(m.content for talk in parted.kept for m in talk.messages if m.role == "assistant")
    assert answers == wanted  # nothing is lost by the parting, and nothing twice
    for side in SIDES:
        here = {str(talk.source) for talk in parted.side(side)}
        assert not here & {str(talk.source) for other in SIDES if other != side for talk in parted.side(other)}
    assert kept.found("too-long") == []
    assert sum(kept.result.conversations.values()) == 70
    assert (kept.result.max_tokens, kept.result.longest > 200) == (2048, True)


def test_the_same_words_in_both_halves_of_a_parted_row_do_not_count_as_a_row_left_out(base: Path, tmp_path: Path) -> None:
    twice = talk_row(60, 1)["messages"]
    rows = [*(talk_row(n, 1) for n in range(60)), {"messages": [*twice, *twice]}]  # type: ignore[misc]
    path = write_rows(tmp_path / "a.jsonl", rows)
    done = prepared(recipe(base, [path], train={"max_tokens": 130}, long="split"), tmp_path / "runs")
    assert {talk.source.line for talk in done.kept} == set(range(1, 62))
    assert not [found for found in done.found("duplicate") if found[1] == "dropped"]


def test_the_system_message_of_the_recipe_stands_before_rows_without_one(base: Path, tmp_path: Path) -> None:
    own = [{"system": "Eres breve.", **row} for row in shop_rows(30)]
    files = [write_rows(tmp_path / "own.jsonl", own), write_rows(tmp_path / "none.jsonl", shop_rows(30, 30))]
    done = prepared(recipe(base, files, system="Eres amable."), tmp_path / "runs")
    systems = Counter((Path(t.source.file).name, t.messages[0].role, t.messages[0].content) for t in done.kept)
    assert systems == {("own.jsonl", "system", "Eres breve."): 30, ("none.jsonl", "system", "Eres amable."): 30}


# ── what is held out ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_given_files_are_the_sides_and_a_leak_leaves_the_training(base: Path, tmp_path: Path) -> None:
    leaked = {"prompt": f"  {question(205).upper()} ", "completion": "Ya no."}
    files = {
        "examples": write_rows(tmp_path / "a.jsonl", [*shop_rows(60), leaked]),
        "val": write_rows(tmp_path / "v.jsonl", shop_rows(10, 100)),
        "test": write_rows(tmp_path / "t.jsonl", shop_rows(10, 200)),
    }
    given = {side: [str(files[side])] for side in ("val", "test")}
    done = prepared(recipe(base, [files["examples"]], **given), tmp_path / "runs")
    assert done.result.conversations == {"train": 60, "val": 10, "test": 10}
    for side, name in (("train", "examples"), ("val", "val"), ("test", "test")):
        assert {talk.source.file for talk in done.side(side)} == {str(files[name])}
    assert done.found("leak") == [("61", "dropped")]
    assert [(twins.first, twins.second) for twins in done.page.leaks] == [(f"{files['test']}:6", f"{files['examples']}:61")]
    assert "leak: 1 ×" in notices(done)
    with pytest.raises(DataError, match="stand in the files held out as well") as caught:
        prepared(recipe(base, [files["examples"]], **given, checks={"leak": "stop"}), tmp_path / "stopped")
    assert f"{files['examples']}:61" in caught.value.what


def test_only_val_is_given_and_test_is_a_share_of_the_examples(base: Path, tmp_path: Path) -> None:
    examples, val = write_rows(tmp_path / "a.jsonl", shop_rows(60)), write_rows(tmp_path / "v.jsonl", shop_rows(5, 100))
    done = prepared(recipe(base, [examples], val=[str(val)], split={"val": 0.3, "test": 0.2}), tmp_path / "runs")
    assert done.result.conversations == {"train": 48, "val": 5, "test": 12}


def test_the_rows_of_a_real_validation_set_leave_its_training_set(qwen: Path, tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "ds-superbowl-mlx"
    train, valid = (records(folder / name) for name in ("train.jsonl", "valid.jsonl"))
    whole = {(row["prompt"], row["completion"]) for row in train}
    shared = [pair for row in valid if (pair := (row["prompt"], row["completion"])) in whole]
    assert len(shared) == 16
    data = {"val": [str(folder / "valid.jsonl")], "checks": {"near-duplicate": "off", "contradiction": "off"}}
    done = prepared(recipe(qwen, [folder / "train.jsonl"], **data), tmp_path / "runs")
    leaks = {int(line) for line, how in done.found("leak") if how == "dropped"}
    out = {(train[line - 1]["prompt"], train[line - 1]["completion"]) for line in leaks}
    assert set(shared) <= out
    learned = {(t.messages[-2].content, t.answer) for side in ("train", "test") for t in done.side(side)}
    assert not set(shared) & learned

    def folded(text: str) -> str:
        return " ".join(text.casefold().split())

    asked = {folded(row["prompt"]) for row in valid}
    left = {(row["prompt"].strip(), row["completion"].strip()) for row in train if folded(row["prompt"]) not in asked}
    assert {(prompt.strip(), completion.strip()) for prompt, completion in learned} == left
    assert sum(done.result.conversations[side] for side in ("train", "test")) == len(left)
    assert done.result.conversations["val"] == len({(row["prompt"], row["completion"]) for row in valid})
    assert set(done.result.dropped) == {"leak", "duplicate"}
    assert done.result.dropped["duplicate"] > 400


@pytest.mark.parametrize("near", ["warn", "off"])
def test_near_copies_never_stand_on_two_sides_whatever_is_told_of_them(near: str, base: Path, tmp_path: Path) -> None:
    """Docs, near-duplicate: "They always go to the same side of the split"; and a near copy of a test row is a leak."""
    texts = [" ".join(f"{name}{n}" for name in ARTICLES) for n in range(30)]
    twins = [{"prompt": f"{text} {word}", "completion": text} for text in texts for word in ("uno", "dos")]
    path = write_rows(tmp_path / "a.jsonl", twins)
    checks = {"near-duplicate": near}
    done = prepared(recipe(base, [path], split={"test": 0.2}, checks=checks), tmp_path / "split")
    sides = [{talk.answer for talk in done.side(side)} for side in SIDES]
    assert sum(map(len, sides)) == 30
    test = write_rows(tmp_path / "t.jsonl", [{"prompt": f"{text} tres", "completion": text} for text in texts[:4]])
    given = prepared(recipe(base, [path], test=[str(test)], checks=checks), tmp_path / "given")
    assert given.found("leak") == [(str(n), "dropped") for n in range(1, 9)]


def test_groups_of_a_column_are_never_parted(base: Path, tmp_path: Path) -> None:
    rows = [{**row, "ticket": f"t{n % 12}"} for n, row in enumerate(shop_rows(72))]
    path = write_rows(tmp_path / "a.jsonl", rows)
    done = prepared(recipe(base, [path], split={"by": "ticket", "test": 0.2}), tmp_path / "runs")
    tickets = [{(talk.source.line - 1) % 12 for talk in done.side(side)} for side in SIDES]
    assert sum(map(len, tickets)) == 12
    assert all(tickets)


def test_the_limit_takes_examples_and_leaves_the_given_sides_alone(base: Path, tmp_path: Path) -> None:
    examples, test = write_rows(tmp_path / "a.jsonl", shop_rows(90)), write_rows(tmp_path / "t.jsonl", shop_rows(20, 200))
    done = prepared(recipe(base, [examples], limit=40), tmp_path / "runs")
    assert done.result.conversations == {"train": 32, "val": 4, "test": 4}
    assert (done.page.flow[-1].stage, done.page.flow[-1].left) == ("limit", 40)
    given = prepared(recipe(base, [examples], limit=40, test=[str(test)]), tmp_path / "given")
    assert given.result.conversations == {"train": 36, "val": 4, "test": 20}
    assert {t.source.line for t in given.side("train") + given.side("val")} == {t.source.line for t in done.kept}


def test_the_limit_and_parted_rows_add_up(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [talk_row(n, 4) for n in range(40)])
    done = prepared(recipe(base, [path], train={"max_tokens": 200}, long="split", limit=60), tmp_path / "runs")
    assert all(step.left >= 0 for step in done.page.flow)


# ── when it stops ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fewer_than_fifty_examples_stop_it_unless_a_person_insists(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", shop_rows(49))
    with pytest.raises(DataError, match="49 examples are left, fewer than 50") as caught:
        prepared(recipe(base, [path], checks={"few-examples": "stop"}), tmp_path / "runs")
    assert "--force" in caught.value.fix
    assert RunFolder(tmp_path / "runs" / "shop").manifest("prepare") is None
    done = prepared(recipe(base, [path], checks={"few-examples": "warn"}), tmp_path / "runs")
    assert sum(done.result.conversations.values()) == 49
    assert done.page.verdict == "49 good examples: too few to learn from"


def test_fifty_examples_are_not_told_to_be_fewer_than_fifty(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", shop_rows(60))
    done = prepared(recipe(base, [path], checks={"few-examples": "stop"}), tmp_path / "runs")
    assert "60 examples; fewer than about 100" in notices(done)
    assert "fewer than 50" not in notices(done)


def test_rows_in_one_line_of_json_are_as_many_as_they_are(base: Path, tmp_path: Path) -> None:
    """All had the same place, and were taken for one row of which one was left."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(shop_rows(90)))
    done = prepared(recipe(base, [path]), tmp_path / "runs")
    assert sum(done.result.conversations.values()) == 90
    assert {talk.source.line for talk in done.kept} == {*range(1, 91)}


def test_rows_of_which_none_is_a_conversation_are_an_error_and_no_bug(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": f"a text, number {number}"} for number in range(30)])
    with pytest.raises(DataError, match="30 of 30 rows cannot be used") as caught:
        prepared(recipe(base, [path]), tmp_path / "runs")
    assert "data.documents" in caught.value.fix
    exported = tmp_path / "slack.json"
    exported.write_text(json.dumps([{"user": "ana", "text": f"hello {number}"} for number in range(30)]))
    with pytest.raises(DataError, match="30 of 30 rows cannot be used"):
        prepared(recipe(base, [exported]), tmp_path / "others")


def test_too_many_broken_rows_stop_it_with_the_first_ones_named(base: Path, tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in shop_rows(90)]
    broken = {5: '{"prompt": "a"', 17: "[1, 2", 23: '{"prompt": "a", "completion": ""}', 40: "null", 41: '{"prompt": "b"}'}
    broken |= dict.fromkeys(range(60, 65), '{"prompt": ')
    for number, line in broken.items():
        lines[number - 1] = line
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"10 of 90 rows cannot be used \(11.1 %; data.max_broken allows 5 %\)") as caught:
        prepared(recipe(base, [path]), tmp_path / "runs")
    _first, *named = caught.value.what.splitlines()
    assert len(named) == 6
    assert all(f"{path}:" in line for line in named[:5])
    assert "… and 5 more; all by check: " in named[5]
    assert "--set data.max_broken=0.12" in caught.value.fix
    done = prepared(recipe(base, [path], max_broken=0.12), tmp_path / "runs")
    assert sorted(int(one["source"].rpartition(":")[2]) for one in done.findings) == sorted(broken)
    assert sum(done.result.conversations.values()) == 80
    assert {talk.source.line for talk in done.kept} == {*range(1, 91)} - set(broken)


def test_rows_none_of_which_is_left_are_an_error_and_not_an_empty_set(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"¿{n}?", "completion": "As an AI language model, I cannot do that."} for n in range(60)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match="60 of 60 rows cannot be used"):
        prepared(recipe(base, [path], checks={"ai-talk": "drop"}), tmp_path / "runs")


def test_an_unknown_check_is_guessed_before_any_work(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        prepare(
            recipe(base, [tmp_path / "none.jsonl"], checks={"near-duplicates": "drop", "refusal": "fix"}),
            RunFolder(tmp_path / "shop"),
            Events(),
        )
    assert caught.value.what.splitlines() == [
        "data.checks: there is no check 'near-duplicates'; did you mean 'near-duplicate'?",
        "data.checks.refusal is 'fix'; it should be warn or drop or off",
    ]
    assert not (tmp_path / "shop" / "prepare").exists()


def test_a_row_that_two_checks_leave_out_is_one_row(base: Path, tmp_path: Path) -> None:
    both = {"prompt": "¿Quién eres?", "completion": "As an AI language model, I can't help with that. I'm sorry, but I cannot."}
    path = write_rows(tmp_path / "a.jsonl", [*shop_rows(60), both])
    done = prepared(recipe(base, [path], checks={"refusal": "drop", "ai-talk": "drop"}), tmp_path / "runs")
    assert sum(done.result.conversations.values()) == 60
    assert done.page.flow[-1].left == 60


def test_a_row_changed_by_three_checks_is_one_row_changed(base: Path, tmp_path: Path) -> None:
    row = {"prompt": "La pÃ¡gina de ana.garcia@gmail.com\x07, ¿dónde está?", "completion": "No lo sé, pregunte en la tienda."}
    path = write_rows(tmp_path / "a.jsonl", [*shop_rows(60), row])
    done = prepared(recipe(base, [path], redact=True), tmp_path / "runs")
    assert Counter(one["check"] for one in done.findings) == {"mojibake": 1, "control-characters": 1, "email": 1}
    assert done.result.changed == 1


# ── personal data ─────────────────────────────────────────────────────────────────────────────────────────────────────

MAIL, CARD, KEY = "ana.garcia@ferro.es", "4539 1488 0343 6467", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
OWNED = (MAIL, CARD, KEY)


def personal_rows() -> list[dict[str, Any]]:
    """Ordinary rows, and some with an e-mail address, a card and a key in every place of a row, cut off or broken too."""
    far = "palabra " * 13  # the sample of a file shows 120 characters: the next word is cut
    odd: list[dict[str, Any]] = [
        {"prompt": f"{far}{MAIL} es mi dirección, ¿la tenéis?", "completion": "Sí, la tenemos apuntada."},
        {"prompt": f"Paso la tarjeta {CARD} para el pago", "completion": f"Cobrado en {CARD}, gracias."},
        {"prompt": "¿Cuál es la clave del robot?", "completion": f"Es {KEY}, no la compartas."},
        {"system": f"Avisa a {MAIL}.", "prompt": "¿A quién aviso de un corte?", "completion": f"A {MAIL}, siempre."},
        {"prompt": f"{MAIL} {CARD} {KEY}", "completion": ""},
    ]
    return [*odd, *shop_rows(80)]


def require_none_of(words: Iterable[str], folder: Path, names: Iterable[str]) -> None:
    for name in names:
        text = (folder / name).read_bytes().decode("utf-8", "replace")
        assert [word for word in words if word in text] == [], name


def test_redact_leaves_nothing_of_a_person_in_any_file(base: Path, tmp_path: Path) -> None:
    done = prepared(recipe(base, [write_rows(tmp_path / "a.jsonl", personal_rows())], redact=True), tmp_path / "runs")
    require_none_of([*OWNED, "ana.garcia", "4539", "0343 6467", KEY[8:20]], done.folder, LEFT_IN_FULL)
    texts = {talk.source.line: [message.content for message in talk.messages] for talk in done.kept}
    system, _question, told = texts[4]
    address = system.removeprefix("Avisa a ").removesuffix(".")
    assert "@" in address
    assert told == f"A {address}, siempre."  # the same address everywhere
    assert address in texts[1][0]
    card = texts[2][0].removeprefix("Paso la tarjeta ").removesuffix(" para el pago")
    assert texts[2][1] == f"Cobrado en {card}, gracias."
    tokenizer, store = Tokenizer.load(base), Store(done.folder)
    trained = "".join(tokenizer.pipeline.decode(list(store.row(row).ids)) for row in range(len(store.lengths())))
    assert not [word for word in OWNED if word in trained]


def test_without_redact_the_page_shows_no_person_and_the_data_is_as_it_was(base: Path, tmp_path: Path) -> None:
    rows = personal_rows()
    done = prepared(recipe(base, [write_rows(tmp_path / "a.jsonl", rows)], system=f"Firma como {MAIL}"), tmp_path / "runs")
    require_none_of([*OWNED, CARD[:-5]], done.folder, LEFT_IN_FULL[1:])
    told = "\n".join(str(event) for event in done.told)
    assert not [word for word in OWNED if word in told]
    kept = {(row["prompt"], row["completion"]) for row in rows if row["completion"]}
    assert set(said(done.kept)) == kept
    assert {"email", "card-number", "secret"} <= {one["check"] for one in done.findings}
    shown = rendered_rows(recipe(base, [tmp_path / "a.jsonl"], system=f"Firma como {MAIL}"), tmp_path / "runs", 90)
    assert not [word for row in shown for text, _trained in row.segments for word in OWNED if word in text]


def test_a_word_that_the_sample_of_a_file_cuts_is_masked_before_it_is_cut(base: Path, tmp_path: Path) -> None:
    done = prepared(recipe(base, [write_rows(tmp_path / "a.jsonl", personal_rows())]), tmp_path / "runs")
    assert "palabra" in done.page.files[0].sample
    assert "ana.garcia" not in done.page.files[0].sample


@pytest.mark.parametrize(
    "line",
    [
        f'{{"prompt": "Escribe a "{MAIL}" hoy", "completion": "Hecho."}}',
        f'{{"prompt": "Cobra de "{CARD}" hoy", "completion": "Hecho."}}',
        f'{{"messages": [{{"role": "{MAIL}", "content": "hola"}}, {{"role": "assistant", "content": "Hecho."}}]}}',
        f'{{"{MAIL}": "hola", "y": 2}}',
    ],
)
def test_a_broken_row_is_told_without_the_person_in_it(line: str, base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", shop_rows(60))
    path.write_text(path.read_text() + line + "\n")
    done = prepared(recipe(base, [path]), tmp_path / "runs")
    assert [one["source"] for one in done.findings] == [f"{path}:61"]
    require_none_of(OWNED, done.folder, LEFT_IN_FULL[1:])
    assert not [word for event in done.told for word in OWNED if word in str(event)]


@pytest.mark.parametrize("columns", [2, 3])
def test_a_table_without_a_header_is_told_without_the_person_in_its_first_row(columns: int, base: Path, tmp_path: Path) -> None:
    rows = [f"Escribe a {MAIL};Cobrado en {CARD}", *(f"{row['prompt']};{row['completion']}" for row in shop_rows(60))]
    path = tmp_path / "a.csv"
    path.write_text("".join(row + ";x" * (columns - 2) + "\n" for row in rows), encoding="utf-8")
    heard: list[Event] = []
    try:
        done = prepare(recipe(base, [path]), RunFolder(tmp_path / "shop"), Events(None, (heard.append,)))
        require_none_of(OWNED, done.folder, LEFT_IN_FULL[1:])
        told = "\n".join(map(str, heard))
    except DataError as error:
        told = f"{error.what}\n{error.fix}"
    assert not [word for word in OWNED if word in told]


def test_redact_hides_the_column_that_rows_are_grouped_by(base: Path, tmp_path: Path) -> None:
    rows = [{**row, "client": f"cliente{n % 12}@ferreteria-garcia.es"} for n, row in enumerate(shop_rows(60))]
    path = write_rows(tmp_path / "a.jsonl", rows)
    done = prepared(recipe(base, [path], redact=True, split={"by": "client", "test": 0.2}), tmp_path / "runs")
    require_none_of(["@ferreteria-garcia.es"], done.folder, LEFT_IN_FULL)


def test_redact_reaches_preference_pairs(base: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": f"Escribe a {MAIL} por el pedido {n}", "chosen": f"Hecho, {MAIL}.", "rejected": KEY} for n in range(5)]
    files = [write_rows(tmp_path / "a.jsonl", shop_rows(60)), write_rows(tmp_path / "pairs.jsonl", pairs)]
    done = prepared(recipe(base, files, redact=True), tmp_path / "runs")
    assert len(records(done.folder / PREFERENCES)) == 5
    require_none_of(OWNED, done.folder, [PREFERENCES])


# ── again ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_done_twice_and_an_added_row_is_one_row_of_work(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", shop_rows(200))
    first = prepared(recipe(base, [path]), tmp_path / "runs")
    before = {side: set(said(first.side(side))) for side in SIDES}
    again = prepared(recipe(base, [path]), tmp_path / "runs")
    assert [type(event) for event in again.told] == [StageSkipped]
    assert again.result == first.result
    path.write_text(json.dumps(shop_rows(1, 900)[0]) + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    added = prepared(recipe(base, [path]), tmp_path / "runs")
    assert (first.result.worked, added.result.worked, added.result.taken_over) == (200, 1, 200)
    alone = prepared(recipe(base, [path]), tmp_path / "alone")
    assert alone.result.worked == 201
    assert all_bytes(added.folder) == all_bytes(alone.folder)
    stayed = sum(len(before[side] & set(said(added.side(side)))) for side in SIDES)
    assert stayed >= 198  # the split goes by hash, not by place


def test_where_nothing_changed_neither_readers_nor_checks_are_loaded(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", shop_rows(60))
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe(base, [path])), encoding="utf-8")
    prepared(recipe(base, [path]), tmp_path / "runs")
    code = "import sys; from afina.cli.main import main; assert main(['prepare', 'recipe.yaml']) == 0\n"
    code += "print([name for name in ('afina.stages.preparation', 'sklearn', 'pandas', 'torch') if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_another_template_or_other_weights_are_a_change(tmp_path: Path) -> None:
    model = write_model(tmp_path / "base", max_position_embeddings=2048)
    template = tmp_path / "own.jinja"
    template.write_text(CHATML, encoding="utf-8")
    path = write_rows(tmp_path / "a.jsonl", shop_rows(60))
    chosen = recipe(model, [path]).model_copy(update={"chat_template": str(template)})
    first = prepared(chosen, tmp_path / "runs")
    template.write_text(CHATML.replace("<|im_end|>", "<|im_end|> "), encoding="utf-8")
    second = prepared(chosen, tmp_path / "runs")
    assert "changed: chat template;" in notices(second, "info")
    assert second.result.tokens["train"] > first.result.tokens["train"]
    write_model(model, seed=1, max_position_embeddings=2048)
    assert "changed: base;" in notices(prepared(chosen, tmp_path / "runs"), "info")


def test_a_template_that_cannot_be_used_leaves_the_earlier_result_where_it_was(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", shop_rows(60))
    first = prepared(recipe(base, [path]), tmp_path / "runs")
    kept = all_bytes(first.folder)
    with pytest.raises(RecipeError, match=r"there is no file none\.jinja"):
        prepared(recipe(base, [path]).model_copy(update={"chat_template": "none.jinja"}), tmp_path / "runs")
    assert all_bytes(first.folder) == kept
    assert [folder.name for folder in first.folder.parent.iterdir() if folder.is_dir()] == ["prepare"]


def test_a_mistaken_recipe_does_not_replace_that_of_the_run(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", shop_rows(60))
    good = recipe(base, [path])
    with working_in(good, tmp_path / "runs") as (run, events):
        prepare(good, run, events)
    bad = good.model_copy(update={"chat_template": "none.jinja"})
    with pytest.raises(RecipeError), working_in(bad, tmp_path / "runs") as (run, events):
        prepare(bad, run, events)
    assert Recipe.load(tmp_path / "runs" / "shop" / "recipe.yaml") == good


def test_an_address_where_nobody_answers_is_not_kept_by_the_run(base: Path, tmp_path: Path) -> None:
    """Pins `afina deploy shop --to http://mistyped`, after which every call for the run went there."""
    good = recipe(base, [write_rows(tmp_path / "a.jsonl", shop_rows(60))])
    with working_in(good, tmp_path / "runs"):
        pass
    elsewhere = good.model_copy(update={"deploy": good.deploy.model_copy(update={"to": "http://127.0.0.1:9"})})
    longer = good.model_copy(update={"train": good.train.model_copy(update={"epochs": 9.0})})
    for changed, left in ((elsewhere, good), (longer, longer)):
        with pytest.raises(ServiceError), working_in(changed, tmp_path / "runs"):
            raise ServiceError("nobody answers", fix="try again")
        assert Recipe.load(tmp_path / "runs" / "shop" / "recipe.yaml") == left


def test_a_row_that_was_taken_over_is_told_of_and_kept_as_before(base: Path, tmp_path: Path) -> None:
    """Findings, replaced persons and mended letters of the earlier run hold for the one after it."""
    rows = [*personal_rows(), {"prompt": "La pÃ¡gina, ¿dónde estÃ¡?", "completion": "En la caja, detrás del todo."}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    first = prepared(recipe(base, [path], redact=True), tmp_path / "runs")
    findings, kept = first.findings, said(first.kept)
    write_rows(path, [*rows, *shop_rows(1, 500)])
    second = prepared(recipe(base, [path], redact=True), tmp_path / "runs")
    assert second.result.worked == 1
    assert len(findings) > 5
    assert second.findings == findings
    assert said(second.kept) - kept == Counter({(question(500), answer(500)): 1})
    assert not kept - said(second.kept)


def test_other_settings_do_the_work_anew(base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", personal_rows())
    prepared(recipe(base, [path]), tmp_path / "runs")
    done = prepared(recipe(base, [path], redact=True), tmp_path / "runs")
    assert done.result.taken_over == 0
    require_none_of(OWNED, done.folder, LEFT_IN_FULL)


KILLED = """
import os, signal, sys
from pathlib import Path
from afina.data import flow
from afina.core.events import Events, Notice, Progress
from afina.core.run import RunFolder
from afina.recipe.recipe import Recipe
from afina.stages.prepare import prepare

flow.BATCH = 64  # several batches are on the disk and some are not when it dies

def listen(event):
    if sys.argv[3] == "reading" and isinstance(event, Progress) and event.done >= 320:
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[3] == "writing" and isinstance(event, Notice) and "good examples" in event.text:
        os.kill(os.getpid(), signal.SIGKILL)

prepare(Recipe.load(sys.argv[1]), RunFolder(Path(sys.argv[2])), Events(None, (listen,)))
"""


@pytest.mark.parametrize(("where", "earlier"), [("reading", False), ("reading", True), ("writing", True)])
def test_a_run_killed_in_the_middle_ends_with_the_same_bytes(where: str, earlier: bool, base: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", shop_rows(360))
    settings = recipe(base, [path], checks={"near-duplicate": "off"})
    (tmp_path / "recipe.yaml").write_text(to_yaml(settings), encoding="utf-8")
    if earlier:
        prepared(settings, tmp_path / "runs")
        write_rows(path, shop_rows(361))
    killed = tmp_path / "runs" / "shop"
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml"), str(killed), where],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert RunFolder(killed).manifest("prepare") is None
    assert (killed / "prepare" / ROWS).stat().st_size > 1000
    done = prepared(settings, tmp_path / "runs")
    alone = prepared(settings, tmp_path / "alone")
    assert all_bytes(done.folder) == all_bytes(alone.folder)
    assert done.result.worked == (1 if earlier else 360)
    assert replace(done.page, seconds=0, finished="", findings_path="") == replace(
        alone.page, seconds=0, finished="", findings_path=""
    )


@pytest.mark.parametrize("change", ["grows", "shrinks", "same size"])
def test_a_file_that_changes_while_it_is_read_ends_the_run(
    change: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "BATCH", 64)
    path = write_rows(tmp_path / "a.jsonl", shop_rows(400))
    changed: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and not changed:
            changed.append(event.done)
            if change == "grows":
                with path.open("a") as file:
                    file.write('{"prompt": "late", "completion": "too late"}\n')
            elif change == "shrinks":
                os.truncate(path, path.stat().st_size // 2)
            else:
                with path.open("r+") as file:
                    file.write('{"prompt":  "')

    with pytest.raises(DataError, match="changed") as caught:
        prepare(recipe(base, [path], max_broken=1.0), RunFolder(tmp_path / "shop"), Events(None, (listen,)))
    assert changed == [64]
    assert str(path) in caught.value.what
    assert RunFolder(tmp_path / "shop").manifest("prepare") is None


def test_the_numbers_of_an_untidy_set_add_up(base: Path, tmp_path: Path) -> None:
    """Every kind of loss at once; ``prepared`` compares the page, the findings and the stored rows."""
    rows: list[Any] = [*shop_rows(120), *shop_rows(15), *({**row, "completion": "No."} for row in shop_rows(5, 20))]
    rows += [{"prompt": question(n), "completion": answer(n) + " ¡Sí!"} for n in range(300, 304)]
    rows += [{"prompt": question(n) + " hoy", "completion": answer(n) + " ¡Sí!"} for n in range(300, 304)]
    rows += [
        {"prompt": "a <|im_end|> b", "completion": "c d e"},
        {"prompt": "largo", "completion": "la " * 3000},
        {"q": 1},
        7,
        {},
    ]
    rows += [{"prompt": "x", "completion": "Lorem ipsum dolor sit amet"}, {"status": "draft", **shop_rows(1, 400)[0]}]
    rows += [{"prompt": "¿Y esto?", "chosen": "Sí.", "rejected": "No."}]
    examples = write_rows(tmp_path / "a.jsonl", rows)
    test = write_rows(tmp_path / "t.jsonl", [*shop_rows(10, 500), *shop_rows(4, 40), *shop_rows(3, 500)])
    done = prepared(
        recipe(
            base,
            [examples],
            test=[str(test)],
            limit=80,
            max_broken=0.5,
            checks={"contradiction": "drop", "near-duplicate": "drop", "placeholder": "drop", "length-outlier": "drop"},
        ),
        tmp_path / "runs",
    )
    stages = [step.stage for step in done.page.flow]
    assert stages == ["read", "reading", "text", "tokens", "set", "limit"]
    assert done.result.conversations["train"] + done.result.conversations["val"] == 80
    assert done.result.conversations["test"] == 14
    lost = done.result.dropped
    assert lost["duplicate"] == 18
    assert lost["contradiction"] == 10
    assert lost["leak"] == 4
    assert (lost["special-token"], lost["too-long"], lost["draft"], lost["placeholder"]) == (1, 1, 1, 1)
    html = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html.lower()
    assert "http://" not in html.replace("http://www.w3.org", "")
