"""All the dirty and all the odd material beside the project, through the stage: nothing hangs, nothing is lost, all is named."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from afina.core.errors import AfinaError, DataError
from afina.core.events import Event, Events, Notice
from afina.core.run import RunFolder
from afina.data.conversation import Conversation, Finding
from afina.data.documents.find import find_documents
from afina.data.read.examples import Reader
from afina.data.store import SIDES, Store, load_side
from afina.recipe.load import validate
from afina.recipe.recipe import Data, Recipe
from afina.report.prepared import PreparePage, load
from afina.stages.prepare import CHUNKS, PREFERENCES, REPORT, Prepared, prepare
from tests.fakes.vocabularies import write_model_around

OFFICE = "rag-office-misc/packages/markitdown/tests/test_files"
MOJIBAKE = "dirty-mojibake/tests/test-cases"
BITEXT = "ds-bitext/data/{0}/Bitext_Sample_Customer_Service_{1}_Dataset.csv"
RECIPES = {"prompt": "{Nombre}: {Ingredientes}", "answer": "Pasos"}
SETS = {  # rows, and those that become conversations
    "ds-llamafactory/identity.json": (91, 91),
    "ds-llamafactory/reason_tool_use_demo_50.jsonl": (50, 48),  # two call a tool that is not on offer
    "ds-llamafactory/kto_en_demo.json": (300, 150),  # the others are marked as bad ones
    "ds-superbowl-mlx/valid.jsonl": (144, 144),
}
LARGER_SETS = {
    "ds-llamafactory/glaive_toolcall_zh_demo.json": (300, 298),
    BITEXT.format("dev", "Validation"): (810, 810),
    "ds-llamafactory/v1_sft_demo.jsonl": (500, 500),
    "ds-llamafactory/alpaca_en_demo.json": (999, 999),
    "ds-llamafactory/alpaca_zh_demo.json": (1000, 1000),
    "ds-llamafactory/glaive_toolcall_en_demo.json": (300, 300),
    "ds-superbowl-mlx/train.jsonl": (1800, 1800),
    "ds-superbowl-mlx/all.jsonl": (1944, 1944),
    "ds-gsm8k/train.jsonl": (7473, 7473),
    "ds-gsm8k/test.jsonl": (1319, 1319),
    "ds-gsm8k/test_socratic.jsonl": (1319, 1319),
    BITEXT.format("train", "Training"): (6480, 6480),
    BITEXT.format("test", "Testing"): (810, 810),
    "es-recetas/EntrenamientoLLM_RecetasDeLaAbuela/recetasabuela_es.csv": (2256, 2255),  # one has a stray quote
    "rag-xquad/qa-en.jsonl": (1190, 1190),
    "rag-xquad/qa-es.jsonl": (1190, 1190),
}
NO_EXAMPLES = {  # and a word of the reason
    "ds-llamafactory/c4_demo.jsonl": "300 of 300 rows cannot be used",
    "ds-llamafactory/dpo_en_demo.json": "300 of 300 rows cannot be used",
    "ds-llamafactory/v1_dpo_demo.jsonl": "10 of 10 rows cannot be used",
    "ds-llamafactory/mllm_demo.json": "6 of 6 rows cannot be used",
    "ds-llamafactory/wiki_demo.txt": "neither JSONL nor JSON nor CSV",
    "ds-llamafactory/dataset_info.json": "of no known shape",
    "rag-xquad/xquad.es.json": "of no known shape",
    "dirty-strings/blns.json": "neither objects with keys nor lists of messages",
    "dirty-strings/blns.txt": "neither JSONL nor JSON nor CSV",
    f"{OFFICE}/test.docx": "is a document",
    f"{OFFICE}/test.pdf": "is a PDF document, not examples",
    f"{OFFICE}/test.pptx": "is a document",
    f"{OFFICE}/test.epub": "is a document",
    f"{OFFICE}/test.xls": "is an old Excel or Word file",
    f"{OFFICE}/test.xlsx": "of no known shape",
    f"{OFFICE}/test.json": "of no known shape",
    f"{OFFICE}/test_files.zip": "of no known shape",
    f"{OFFICE}/test_notebook.ipynb": "of no known shape",
    f"{OFFICE}/test_rss.xml": "neither JSONL nor JSON nor CSV",
    f"{OFFICE}/test_blog.html": "neither JSONL nor JSON nor CSV",
    f"{OFFICE}/random.bin": "no text in an encoding that is known",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    tokenizer = shared_data / "tokenizers" / "qwen2.5"
    config = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    return write_model_around(tmp_path_factory.mktemp("qwen"), tokenizer, chat_template=config["chat_template"])


def recipe(base: Path, examples: Sequence[str | Path | dict[str, Any]], **data: Any) -> Recipe:
    entries = [entry if isinstance(entry, dict) else str(entry) for entry in examples]
    checks = {"few-examples": "off", **data.pop("checks", {})}
    return validate(
        {"name": "dirty", "base": str(base), "data": {"examples": entries, "checks": checks, "max_broken": 1.0, **data}},
        "recipe.yaml",
    )


def findings_of(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "findings.jsonl").read_text(encoding="utf-8").splitlines()]


def prepared(recipe: Recipe, folder: Path) -> tuple[Prepared, PreparePage, str]:
    """A run in which no row is lost: each stands on a side, is a preference pair, or has a finding that says why not."""
    heard: list[Event] = []
    with Events(folder / "events.jsonl", (heard.append,)) as events:
        result = prepare(recipe, RunFolder(folder / "dirty"), events)
    page, store = load(result.folder / REPORT), Store(result.folder)
    kept = {str(store.source(number)) for side in SIDES for number in load_side(result.folder, side).tolist()}
    lost = [one["source"] for one in findings_of(result.folder) if one["done"] == "dropped"]
    assert len(set(lost)) == len(lost)
    assert not kept & set(lost)
    assert sum(file.rows for file in page.files) == len(kept) + len(lost)
    assert page.flow[-1].left == len(kept)
    kept_apart = result.folder / PREFERENCES
    pairs = kept_apart.read_text(encoding="utf-8").count("\n") if kept_apart.is_file() else 0
    assert sum(file.rows - file.conversations - file.dropped for file in page.files) == pairs
    assert all(one["reason"] for one in findings_of(result.folder))
    return result, page, "\n".join(event.text for event in heard if isinstance(event, Notice))


def write_good_rows(path: Path, count: int = 60) -> Path:
    rows = [{"prompt": f"What costs article {n}?", "completion": f"It is {n * 7919 % 1009} euros."} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ── files that are broken ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_each_broken_json_file_alone_is_read_or_told_by_its_name(ending: str, tmp_path: Path, shared_data: Path) -> None:
    files = sorted(path for path in (shared_data / "dirty-json").glob("test_*/*.json"))
    assert len(files) > 300
    outcomes: Counter[str] = Counter()
    for number, path in enumerate(files):
        copy = tmp_path / f"{number}.{ending}"
        copy.write_bytes(path.read_bytes())
        try:
            reader = Reader((str(copy),), Data(examples=(str(copy),)), None, Events())
            found = list(reader.items())
        except AfinaError as error:
            assert str(copy) in error.what, path.name
            assert error.fix
            outcomes["error"] += 1
            continue
        kinds = Counter(type(item) for item in found if not isinstance(item, Finding) or item.done == "dropped")
        assert kinds[Finding] == sum(file.dropped for file in reader.files), path.name
        assert kinds[Conversation] == sum(file.conversations for file in reader.files), path.name
        assert kinds.total() == sum(file.rows for file in reader.files), path.name
        assert all(str(copy) in item.source.file and item.reason for item in found if isinstance(item, Finding)), path.name
        outcomes["findings"] += 1
    assert outcomes.total() == len(files)


def test_all_broken_json_as_lines_of_a_file_does_not_harm_the_good_rows(base: Path, tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    texts = [path.read_bytes().strip() for path in sorted((shared_data / "dirty-json").glob("test_*/*.json"))]
    lines = [text for text in texts if text and b"\n" not in text and b"\r" not in text]
    assert len(lines) > 250
    good = write_good_rows(folder / "good.jsonl").read_bytes()
    (folder / "bad.jsonl").write_bytes(good + b"\n".join(lines) + b"\n")
    (folder / "notes.bin").write_bytes(b"\0\1")
    result, page, told = prepared(recipe(base, [folder]), tmp_path / "runs")
    assert sum(result.conversations.values()) == 60
    files = {Path(file.name).name: file for file in page.files}
    assert files["good.jsonl"].conversations == files["bad.jsonl"].conversations == 60
    assert files["bad.jsonl"].dropped == len(lines)
    assert result.dropped["duplicate"] == 60
    assert "not read: " in told
    assert "notes.bin" in told


# ── texts that are odd ────────────────────────────────────────────────────────────────────────────────────────────────


def test_whatever_a_person_can_type_stays_as_it_is_or_is_told(base: Path, tmp_path: Path, shared_data: Path) -> None:
    texts = json.loads((shared_data / "dirty-strings" / "blns.json").read_text(encoding="utf-8"))
    assert len(texts) > 500
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": f"{n}: {text}", "completion": f"{text} ({n})"} for n, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result, _page, _told = prepared(recipe(base, [path]), tmp_path / "runs")
    told = {int(one["source"].rpartition(":")[2]): one["done"] for one in findings_of(result.folder) if one["done"] != "kept"}
    store = Store(result.folder)
    kept = {store.source(number).line: store.conversation(number) for number in range(len(store))}
    for line, row in enumerate(rows, 1):
        if line not in told:
            assert (kept[line].messages[0].content, kept[line].answer) == (row["prompt"], row["completion"]), line
    dropped = [line for line, done in told.items() if done == "dropped"]
    assert len(dropped) < 5, [texts[line - 1] for line in dropped]


def test_garbled_letters_are_mended_and_told_and_all_others_stay(base: Path, tmp_path: Path, shared_data: Path) -> None:
    cases = [case for path in sorted((shared_data / MOJIBAKE).glob("*.json")) for case in json.loads(path.read_text("utf-8"))]
    negative = json.loads((shared_data / MOJIBAKE / "negative.json").read_text(encoding="utf-8"))
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": f"Row {n}?", "completion": f"{case['original']} ({n})"} for n, case in enumerate(cases)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result, _page, _told = prepared(recipe(base, [path]), tmp_path / "runs")
    changed = {
        int(one["source"].rpartition(":")[2]) for one in findings_of(result.folder) if one["done"] == "changed" and one["excerpt"]
    }
    store = Store(result.folder)
    kept = {store.source(number).line: store.conversation(number).answer for number in range(len(store))}
    assert len(kept) == len(cases)
    assert {line for line, row in enumerate(rows, 1) if kept[line] != row["completion"]} == changed
    wanted = [case.get("fixed-encoding", case["fixed"]) for case in cases]  # "fixed" has other quotes besides
    stay = {case["original"] for case in negative if case["original"] == case.get("fixed-encoding", case["fixed"])}
    assert len(stay) >= 30
    assert not [cases[line - 1]["label"] for line in changed if cases[line - 1]["original"] in stay]
    garbled = [n for n, case in enumerate(cases) if case["expect"] == "pass" and case["original"] not in stay]
    right = [n for n in garbled if kept[n + 1] == f"{wanted[n]} ({n})"]
    assert len(right) >= 0.95 * len(garbled)


# ── other people's files ──────────────────────────────────────────────────────────────────────────────────────────────


def test_office_files_given_as_documents_are_read_or_told(base: Path, tmp_path: Path, shared_data: Path) -> None:
    good = write_good_rows(tmp_path / "good.jsonl")
    result, page, _told = prepared(recipe(base, [good], documents=[str(shared_data / OFFICE)]), tmp_path / "runs")
    chunks = [json.loads(line) for line in (result.folder / CHUNKS).read_text(encoding="utf-8").splitlines()]
    assert len(chunks) == result.chunks == sum(document.chunks for document in page.documents)
    told = {document.name: document for document in page.documents}
    for path in find_documents([str(shared_data / OFFICE)]):
        assert bool(told[str(path)].chunks) != bool(told[str(path)].problem), path.name
    everything = {path.name for path in (shared_data / OFFICE).iterdir() if path.is_file()}
    assert everything <= {Path(name).name for name in told}
    assert told[str(shared_data / OFFICE / "MEDRPT-2024-PAT-3847_medical_report_scan.pdf")].problem


@pytest.mark.parametrize("name", NO_EXAMPLES)
def test_what_is_no_set_of_examples_is_told_by_its_name(name: str, base: Path, tmp_path: Path, shared_data: Path) -> None:
    with pytest.raises(DataError, match=NO_EXAMPLES[name]) as caught:
        prepared(recipe(base, [shared_data / name]), tmp_path / "runs")
    assert str(shared_data / name) in caught.value.what
    assert caught.value.fix


def test_a_table_in_a_japanese_encoding_is_read_to_the_letter(base: Path, tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / OFFICE / "test_mskanji.csv"
    result, page, _told = prepared(recipe(base, [write_good_rows(tmp_path / "good.jsonl"), path]), tmp_path / "runs")
    assert page.files[1].encoding == "cp932"
    store = Store(result.folder)
    kept = {text for number in range(len(store)) for message in store.conversation(number).messages for text in [message.content]}
    cells = [line.split(",") for line in path.read_text(encoding="cp932").splitlines()[1:]]
    assert {row[0] for row in cells} <= kept


@pytest.mark.parametrize("name", [*SETS, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER_SETS)])
def test_each_real_set_goes_through_and_every_row_is_kept_or_told(
    name: str, base: Path, tmp_path: Path, shared_data: Path
) -> None:
    entry = {"files": str(shared_data / name), **({"map": RECIPES} if name.startswith("es-recetas") else {})}
    _result, page, told = prepared(recipe(base, [entry]), tmp_path / "runs")
    (file,) = page.files
    assert (file.rows, file.conversations) == {**SETS, **LARGER_SETS}[name]
    assert file.reason
    assert f"{file.conversations} of {file.rows} rows are conversations" in told
