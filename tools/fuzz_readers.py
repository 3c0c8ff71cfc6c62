"""Coverage-guided fuzzing of the readers, for a bounded time, on demand: ``python tools/fuzz_readers.py --seconds 60``.

Each kind of file gets its share of the seconds in a process of its own. What must hold for any bytes in a file:

- reading ends, within ``SLOWEST_S`` and ``MOST_MIB``, with rows and findings or with an ``AfinaError`` that names the file;
- every row and every finding has a place in that file;
- no line of a JSONL file is lost: at least a row or a finding each;
- reading twice gives the same.

A file that breaks this is kept in ``.cache/fuzz/found/`` and can be read again: ``python tools/fuzz_readers.py --again FILE``.
What was learned stays in ``.cache/fuzz/<kind>/`` and the next run goes on from there. Needs atheris: ``pip install atheris``.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import importlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
CACHE = ROOT / ".cache" / "fuzz"
FOUND = CACHE / "found"
ENDINGS = {
    "jsonl": ".jsonl",
    "json": ".json",
    "csv": ".csv",
    "tsv": ".tsv",
    "yaml": ".yaml",
    "markdown": ".md",
    "text": ".txt",
    "excel": ".xlsx",
    "parquet": ".parquet",
    "arrow": ".arrow",
    "gzip": ".jsonl.gz",
    "bzip2": ".jsonl.bz2",
    "zstd": ".jsonl.zst",
    "zip": ".zip",
}
SLOWEST_S = 10
MOST_MIB = 3072
LONGEST = 4096  # bytes of an input; longer ones find no more and are slower
_LARGEST_SEED = 64 * 1024


class BrokenPromiseError(Exception):
    """An input for which one of the promises above does not hold."""


# ── one input ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_all(path: Path) -> tuple[str, list[Any]]:
    """The kind that a file was taken for and all that the reader gives, or the error in words."""
    from afina.core.errors import AfinaError
    from afina.core.events import Events
    from afina.data.read.examples import Reader
    from afina.recipe.recipe import Data

    reader: Reader | None = None
    try:
        reader = Reader((str(path),), Data(examples=(str(path),)), None, Events())
        items: list[Any] = list(reader.items())
    except AfinaError as error:
        if str(path) not in error.what:
            raise BrokenPromiseError(f"the error does not name the file: {error.what}") from error
        return "", [error.what]
    return reader.files[0].kind if reader.files else "", items


def check(path: Path) -> None:
    """Raises where one of the promises does not hold for this file; any exception but AfinaError goes through."""
    kind, items = read_all(path)
    for item in items:
        if isinstance(item, str):
            continue
        source = item.source
        if not source.file.startswith(str(path)) or source.line < 1:
            raise BrokenPromiseError(f"a place outside of the file: {source}")
    lines = _lines(path.read_bytes()) if kind == "jsonl" and path.name.endswith(".jsonl") else 0
    if len(items) < lines and not any(isinstance(item, str) for item in items):
        raise BrokenPromiseError(f"{lines} lines, but only {len(items)} rows and findings")
    if (kind, items) != read_all(path):
        raise BrokenPromiseError("reading twice gives something else")


def _lines(data: bytes) -> int:
    """Lines with more than blanks in a text that is plainly UTF-8; 0 for other bytes, whose lines depend on the encoding."""
    if b"\0" in data:
        return 0
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return 0
    return sum(not line.isspace() and line != "" for line in re.split("\r\n|\r|\n", text))


# ── many inputs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def fuzz(kind: str, seconds: int) -> None:
    """Fuzzes one kind in this process and ends it, as libFuzzer does."""
    atheris = importlib.import_module("atheris")  # without types
    with atheris.instrument_imports(include=["afina.data"]):
        import afina.data.read.examples  # noqa: F401  # every module below is instrumented while it is imported
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="afina-fuzz-", dir=memory))
    path = folder / f"input{ENDINGS[kind]}"

    def one_input(data: bytes) -> None:
        path.write_bytes(data)
        check(path)

    corpus = CACHE / kind
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={SLOWEST_S}",
        f"-rss_limit_mb={MOST_MIB}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={FOUND}/{kind}-",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


def seed(kind: str) -> int:
    """Fills the kind's corpus from the real data beside the project and with small files of our own; returns its size."""
    folder = CACHE / kind
    folder.mkdir(parents=True, exist_ok=True)
    ending = ENDINGS[kind]
    for number, data in enumerate([*made(kind), *_real(ending)]):
        (folder / f"seed-{number:04}").write_bytes(data)
    return sum(1 for _file in folder.iterdir())


def _real(ending: str) -> Iterator[bytes]:
    """Small files of ../shared/data with this ending, and the first rows of the large ones that are text."""
    for path in sorted(SHARED.rglob(f"*{ending}")) if SHARED.is_dir() else ():
        if "tokenizers" in path.parts or not path.is_file():
            continue
        if path.stat().st_size <= _LARGEST_SEED:
            yield path.read_bytes()
        elif ending in (".jsonl", ".csv", ".md", ".txt"):
            with path.open("rb") as file:
                yield b"".join(file.readline() for _line in range(3))[:_LARGEST_SEED]


ROWS = (
    b'{"messages": [{"role": "user", "content": "Hola"}, {"role": "assistant", "content": "Buenas", "weight": 0}]}',
    b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "tools": "[]"}',
    b'{"instruction": "a", "input": "", "output": "b"}',
    b'{"prompt": "a", "chosen": "b", "rejected": "c"}',
    b'{"text": "<|im_start|>user\\na<|im_end|>\\n<|im_start|>assistant\\nb<|im_end|>"}',
    b'{"question": "a\\u00e9\\ud83d\\ude00", "answer": 1.50}',
)
CHATS = (
    "12/03/2024, 21:05 - Ana: ¿Vienes?\n12/03/2024, 21:06 - Luis: Sí\ny pan\n12/03/2024, 21:07 - Ana: <Multimedia omitido>\n",
    "[3/12/24, 9:05:10 PM] Ana: Coming?\n[3/12/24, 9:06:00 PM] Luis: Yes\n",
)
TELEGRAM = (
    b'{"name": "Ana", "type": "personal_chat", "id": 1, "messages": [{"id": 1, "type": "message", "from": "Ana", "text": "a"}]}'
)


def made(kind: str) -> list[bytes]:
    """Small files of a kind: whole ones, and those that broke a promise once."""
    lines = b"\n".join(ROWS) + b"\n"
    table = b'prompt,answer\n"a\nb",c\nd,"e ""f"""\n'
    simple: dict[str, list[bytes]] = {
        "jsonl": [lines, *ROWS, lines.decode().encode("utf-16"), b'{"prompt": "a"\n{"prompt": "a", "completion": "b"}\n'],
        "json": [b"[" + b",".join(ROWS[:1]) + b"]", b'{"data": [' + ROWS[2] + b"]}", TELEGRAM, b"[" * 2000],
        "csv": [table, table.replace(b",", b";"), "pregunta;respuesta\n¿Qué?;Así\n".encode("cp1252")],
        "tsv": [table.replace(b",", b"\t")],
        "yaml": [b"- prompt: a\n  answer: |\n    b\n    c\n", b"rows:\n- {prompt: a, answer: b}\n", b"a: &a [x]\nb: [*a, *a]\n"],
        "markdown": [b"# What?\n\nThat.\n\n## Why?\n\nSo.\n", b"**Q:** a\n\n**A:** b\n", b"P: a\nR: b\n"],
        "text": [*(text.encode() for text in CHATS), CHATS[0].encode().replace(b" - Ana: <", b"\xe0\xd2<")],
        "gzip": [gzip.compress(lines, mtime=0)],
        "bzip2": [bz2.compress(lines)],
    }
    return simple[kind] if kind in simple else list(_packed(kind, lines))


def _packed(kind: str, lines: bytes) -> Iterator[bytes]:
    """Files that a library writes."""
    import openpyxl
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = pa.table({"prompt": ["a", "b"], "answer": ["c", "d"]})
    data = io.BytesIO()
    match kind:
        case "zstd":
            data.write(pa.compress(lines, codec="zstd", asbytes=True))
        case "zip":
            with zipfile.ZipFile(data, "w") as archive:
                archive.writestr("a.jsonl", lines)
                archive.writestr("b/c.csv", "prompt,answer\na,b\n")
            yield data.getvalue().replace(b"a.jsonl", b"\0.jsonl")  # a member without a name
        case "parquet":
            parquet.write_table(rows, data)
            yield data.getvalue().replace(b"answer", b"answe\xf0")  # a column whose name is no text
        case "arrow":
            with pa.ipc.new_stream(data, rows.schema) as stream:
                stream.write_table(rows)
        case _:
            book = openpyxl.Workbook()
            sheet: Any = book.active
            for row in (("prompt", "answer"), ("a", 1.5), ("b", "c")):
                sheet.append(row)
            sheet.merge_cells("A2:A3")
            book.save(data)
    yield data.getvalue()


# ── all kinds ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_kind(kind: str, seconds: int, tell: Callable[[str], None]) -> bool:
    """Fuzzes one kind in a process of its own; True where every promise held."""
    before = set(FOUND.iterdir())
    size = seed(kind)
    command = [sys.executable, __file__, "--child", kind, "--seconds", str(seconds)]
    log = CACHE / f"{kind}.log"
    with log.open("wb") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, check=False).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    runs = re.findall(r"stat::number_of_executed_units: (\d+)", text)
    covered = re.findall(r"cov: (\d+)", text)
    found = sorted(set(FOUND.iterdir()) - before)
    tell(
        f"{kind:>9}: {int(runs[-1]) if runs else 0:>9,} inputs, {int(covered[-1]) if covered else 0:>5,} places reached, "
        f"corpus {size} → {sum(1 for _file in (CACHE / kind).iterdir())}"
        + "".join(f"\n           broken by {path.relative_to(ROOT)}" for path in found)
        + ("" if code == 0 or found else f"\n           ended with {code}, see {log.relative_to(ROOT)}")
    )
    return code == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for all kinds together")
    parser.add_argument("--kind", choices=sorted(ENDINGS), action="append", help="only this one; may be repeated")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs learned")
    parser.add_argument("--again", type=Path, metavar="FILE", help="read a file that was found, with its whole traceback")
    parser.add_argument("--child", choices=sorted(ENDINGS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["AFINA_LANG"] = "en"
    if options.child:
        fuzz(options.child, options.seconds)
        return 0
    if options.again:
        kind = options.again.name.partition("-")[0]
        with tempfile.TemporaryDirectory() as name:
            check(Path(shutil.copy(options.again, Path(name) / f"input{ENDINGS.get(kind, options.again.suffix)}")))
        print("every promise holds")
        return 0
    if options.fresh:
        shutil.rmtree(CACHE, ignore_errors=True)
    FOUND.mkdir(parents=True, exist_ok=True)
    kinds = options.kind or list(ENDINGS)
    held = [run_kind(kind, max(1, options.seconds // len(kinds)), print) for kind in kinds]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
