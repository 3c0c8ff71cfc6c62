"""`advise` on files: what it reads, what it leaves out, and what a finished preparation spares it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from afina.compare.figure import Figure
from afina.core.errors import DataError
from afina.core.events import Event, Events, Notice
from afina.core.run import RunFolder
from afina.recipe.load import validate
from afina.recipe.recipe import Recipe
from afina.stages import advise
from afina.stages.advise import Seen, look
from afina.stages.prepare import prepare
from afina.stages.workspace import working_in
from tests.fakes.models import write_model

ROWS = [
    {"prompt": f"Pregunta {n}: ¿qué vale la pieza {n * 7} de la caja {n % 9}?", "completion": f"Vale {n},50 €.\n— Lola"}
    for n in range(1, 121)
]


def write(path: Path, rows: Sequence[Any]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def recipe(folder: Path, **data: Any) -> Recipe:
    return validate({"name": "tienda", "data": {"examples": [str(folder / "faq.jsonl")], **data}}, "recipe.yaml")


def seen(folder: Path, told: list[Event] | None = None, **data: Any) -> Seen:
    listeners = (told.append,) if told is not None else ()
    return look(recipe(folder, **data), RunFolder(folder / "runs" / "tienda"), Events(listeners=listeners))


def counted(found: Seen) -> dict[str, Figure]:
    return {figure.name: figure for figure in found.figures}


def test_good_examples_are_those_that_prepare_would_keep(tmp_path: Path) -> None:
    refused = {"prompt": "¿Y la última?", "completion": ""}
    write(tmp_path / "faq.jsonl", [*ROWS, ROWS[0], refused, "{broken"])
    told: list[Event] = []
    found = seen(tmp_path, told, max_broken=1)
    figure = counted(found)["examples"]
    assert (found.good, figure.of) == (120, 123)
    assert figure.values["dropped"] == "duplicate 1, empty 1, broken-row 1"
    assert [Path(row.place).name for row in figure.others] == ["faq.jsonl:121", "faq.jsonl:122", "faq.jsonl:123"]
    assert {event.stage for event in told if isinstance(event, Notice)} == {"advise"}
    run = RunFolder(tmp_path / "runs" / "tienda")
    with working_in(with_base(tmp_path, max_broken=1), tmp_path / "runs") as (_run, events):
        kept = prepare(with_base(tmp_path, max_broken=1), run, events)
    assert sum(kept.conversations.values()) == found.good


def with_base(folder: Path, **data: Any) -> Recipe:
    base = folder / "base"
    if not base.exists():
        write_model(base, max_position_embeddings=2048)
    return recipe(folder, **data).model_copy(update={"base": str(base)})


def test_a_finished_preparation_is_read_and_says_the_same(tmp_path: Path) -> None:
    write(tmp_path / "faq.jsonl", [*ROWS, ROWS[5]])
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "precios.md").write_text("# Precios\n\nLa pieza 7 vale 1,50 €.\n", encoding="utf-8")
    data: dict[str, Any] = {"documents": [str(tmp_path / "docs")]}
    fresh = seen(tmp_path, **data)
    settings = with_base(tmp_path, **data)
    with working_in(settings, tmp_path / "runs") as (run, events):
        prepare(settings, run, events)
    again = seen(tmp_path, **data)
    assert (fresh.prepared, again.prepared) == (False, True)
    assert again.good == fresh.good == 120
    assert {name: (figure.count, figure.of) for name, figure in counted(again).items()} == {
        name: (figure.count, figure.of) for name, figure in counted(fresh).items()
    }
    assert counted(again)["examples"].others[0].text.startswith("duplicate: ")
    assert seen(tmp_path, **data, turns="last").prepared is False  # other settings of the data
    write(tmp_path / "faq.jsonl", ROWS)
    assert seen(tmp_path, **data).prepared is False  # other rows


def test_validation_and_test_files_count_and_the_limit_holds(tmp_path: Path) -> None:
    write(tmp_path / "faq.jsonl", ROWS[:100])
    write(tmp_path / "test.jsonl", ROWS[100:])
    assert seen(tmp_path, test=[str(tmp_path / "test.jsonl")]).good == 120
    assert seen(tmp_path, limit=60).good == 60


def test_of_many_rows_whole_questions_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = [row | {"completion": row["completion"] + " ¡Otra cosa!"} for row in ROWS]
    write(tmp_path / "faq.jsonl", [*ROWS, *twice])
    monkeypatch.setattr(advise, "MOST", 50)
    found = seen(tmp_path)
    figures = counted(found)
    assert found.good == 240
    assert figures["examples"].values["looked_at"] == 50
    assert figures["contradictions"].share == 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [("\n", "is empty"), ('{"prompt": "¿Y eso?", "completion": ""}\n', "no example is left of 1 rows"), (None, "faq.jsonl")],
    ids=["empty", "unusable", "absent"],
)
def test_files_without_examples_are_an_error(text: str | None, told: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "faq.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        seen(tmp_path)
    assert told in caught.value.what


def test_documents_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    write(tmp_path / "faq.jsonl", ROWS)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nLa pieza 7 vale 1,50 €.\n", encoding="utf-8")
    (tmp_path / "docs" / "b.pdf").write_bytes(b"no pdf")
    told: list[Event] = []
    assert counted(seen(tmp_path, told, documents=[str(tmp_path / "docs")]))["documents"].values["chunks"] == 1
    assert any("b.pdf" in event.text for event in told if isinstance(event, Notice) and event.level == "warning")


def test_no_torch_is_loaded() -> None:
    code = "import sys, afina.stages.advise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
