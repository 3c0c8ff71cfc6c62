"""Retrieval by itself: how often our search finds the passage that answers, beside the library used as it comes.

    python bench/retrieval.py                    writes bench/results/retrieval.json

Both are BM25 by bm25s. Ours gives it word stems in the language of each text; ``bm25s as it comes`` is its own tokenizer with its
own defaults (English stop words, no stems).

- ``xquad es`` and ``xquad en``: 1,190 questions over 240 paragraphs, one of which holds the answer.
- ``licitacion``: a Spanish call for tenders with typing errors from reading scans, as Markdown, tables and definitions; questions
  in keywords (v0, v1) and in sentences that often need several passages (v2). A row of a table or a definition is expected by its
  number. For Markdown only the document is: the data name pieces of it by numbers that their own way of cutting gave. Ours are
  the chunks that ``afina prepare`` makes.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import bm25s
import numpy as np

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

from afina.compare.retrieval import Index  # noqa: E402
from afina.core.files import write_json  # noqa: E402
from afina.data.documents.chunks import chunk  # noqa: E402
from afina.data.documents.read import read_document  # noqa: E402
from afina.measure.intervals import mean_interval  # noqa: E402
from afina.measure.retrieval import recall_at, reciprocal_rank  # noqa: E402

DATA = BENCH.parents[1] / "shared" / "data"
DEPTH = 100  # results that are looked at for the rank of the first right one
CHUNK_CHARACTERS = 1200  # the recipe's default

Search = Callable[[str], list[int]]


@dataclass(frozen=True)
class Question:
    text: str
    expected: frozenset[str]


@dataclass(frozen=True)
class Collection:
    """``names``: of each passage, by which a question expects it; several passages may have one name."""

    name: str
    passages: tuple[str, ...]
    names: tuple[str, ...]
    questions: tuple[Question, ...]


def xquad(language: str) -> Collection:
    tree = json.loads((DATA / "rag-xquad" / f"xquad.{language}.json").read_text(encoding="utf-8"))
    paragraphs = [paragraph for article in tree["data"] for paragraph in article["paragraphs"]]
    questions = tuple(
        Question(asked["question"], frozenset({str(number)}))
        for number, paragraph in enumerate(paragraphs)
        for asked in paragraph["qas"]
    )
    passages = tuple(paragraph["context"] for paragraph in paragraphs)
    return Collection(f"xquad {language}", passages, tuple(map(str, range(len(passages)))), questions)


def licitacion() -> list[Collection]:
    folder = DATA / "rag-es-licitacion"
    passages: list[tuple[str, str]] = []
    for path in sorted((folder / "data/raw/web").glob("*.md")):
        passages += [(path.stem, piece.text) for piece in chunk(read_document(path), CHUNK_CHARACTERS)]
    for path in sorted((folder / "data/raw/csv").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines)):
                passages.append((f"{path.stem}:row:{number}", " | ".join(f"{key}: {text}" for key, text in row.items() if text)))
    for entry in json.loads((folder / "data/raw/json/definiciones.json").read_text(encoding="utf-8")):
        passages.append((f"def:{entry['id']}", f"{entry['termino']}: {entry['definicion']}"))
    names, texts = zip(*passages, strict=True)
    return [
        Collection(f"licitacion {part}", texts, names, tuple(_gold(folder / "eval" / f"gold_retrieval_{part}.csv")))
        for part in ("v0", "v1", "v2")
    ]


def _gold(path: Path) -> list[Question]:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [Question(row["question"], frozenset(map(_expected, row["expected_ids"].split(";")))) for row in rows]


def _expected(name: str) -> str:
    """``def:2.24`` and ``…:row:3`` as they are; the document of ``05_Evaluacion_adjudicacion:5:20``."""
    return name if name.startswith("def:") or ":row:" in name else name.partition(":")[0]


def ours(passages: Sequence[str]) -> Search:
    index = Index(passages, "bench")
    return lambda question: index.search(question, DEPTH)


def as_it_comes(passages: Sequence[str]) -> Search:
    scorer = bm25s.BM25()
    scorer.index(bm25s.tokenize(list(passages), show_progress=False), show_progress=False)

    def search(question: str) -> list[int]:
        tokens = bm25s.tokenize([question], show_progress=False)
        most = min(DEPTH, len(passages))
        found, scores = scorer.retrieve(tokens, k=most, show_progress=False)
        return [int(place) for place, score in zip(found[0], scores[0], strict=True) if score > 0]

    return search


def measured(collection: Collection, make: Callable[[Sequence[str]], Search]) -> dict[str, Any]:
    start = time.perf_counter()
    search = make(collection.passages)
    indexed = time.perf_counter()
    found = [[collection.names[place] for place in search(question.text)] for question in collection.questions]
    searched = time.perf_counter()
    pairs = [(names, question.expected) for names, question in zip(found, collection.questions, strict=True)]
    return {
        "recall@1": [recall_at(names, expected, 1) for names, expected in pairs],
        "recall@5": [recall_at(names, expected, 5) for names, expected in pairs],
        "mrr": [reciprocal_rank(names, expected) for names, expected in pairs],
        "index_ms": 1000 * (indexed - start),
        "search_ms": 1000 * (searched - indexed) / len(found),
    }


def compared(collection: Collection) -> dict[str, Any]:
    """The means of both, and what ours is ahead by, question by question, with its 95 % interval."""
    results = {"afina": measured(collection, ours), "bm25s as it comes": measured(collection, as_it_comes)}
    record: dict[str, Any] = {"passages": len(collection.passages), "questions": len(collection.questions)}
    for name, found in results.items():
        record[name] = {
            key: round(fmean(value), 4) if isinstance(value, list) else round(value, 2) for key, value in found.items()
        }
    for metric in ("recall@5", "mrr"):
        gaps = np.subtract(results["afina"][metric], results["bm25s as it comes"][metric])
        ahead = mean_interval(gaps, resamples=5000, seed=7)
        record[f"{metric}, ahead by"] = [round(end, 4) for end in (ahead.value, ahead.low, ahead.high)]
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the results instead of writing them")
    options = parser.parse_args()
    if not (DATA / "rag-xquad").is_dir():
        sys.exit(f"error: there is no data in {DATA}\nwhat to do: put rag-xquad and rag-es-licitacion there")
    collections = [xquad("es"), xquad("en"), *licitacion()]
    packages = {package: version(package) for package in ("bm25s", "PyStemmer")}
    result: dict[str, Any] = {"versions": packages, "collections": {one.name: compared(one) for one in collections}}
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
        return
    write_json(BENCH / "results" / "retrieval.json", result)
    for name, record in result["collections"].items():
        for contender in ("afina", "bm25s as it comes"):
            print(f"{name:>14}  {contender:<18} {record[contender]}")


if __name__ == "__main__":
    main()
