"""From runs of characters on pages to Markdown: columns, lines, paragraphs, headings and tables, by where the runs stand.

Headings are larger letters. A table is lines of several runs, below each other with wide gaps between. A word that is cut at the
end of a line is joined again. First and last lines that most pages repeat are left out, and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from afina.data.documents.document import table

GAP = 1.1  # in sizes of the letter: a wider gap within a line parts two runs
SAME_LINE = 0.45  # in sizes: baselines nearer than this are one line
LARGER = 1.15  # times the size of the text: from here on a line is a heading
HEADING_CHARACTERS = 150
COLUMN_LINES = 5  # fewer lines beside each other are no columns
COLUMN_CHARACTERS = 18  # of a middling run; columns of shorter ones are a table's
EDGE_LINES = 3  # at the top and at the bottom of a page, where running heads are looked for
REPEATED = 0.6  # share of the pages from which on a line at the edge is a running head
_ITEM = r"(?:[•◦▪‣·–—*-]|\(?\d{1,3}[.)]|(?:\d{1,2})?(?:\.\d{1,2}){1,4}|\(?[a-z][.)])"  # what an item of a list begins with
_STARTS_ITEM = re.compile(_ITEM + r"\s")


@dataclass(frozen=True)
class Run:
    """Characters beside each other: ``left`` to ``right`` on ``baseline``, in points from below. ``cut``: a hyphen ended it."""

    text: str
    left: float
    right: float
    baseline: float
    size: float
    cut: bool = False


@dataclass(frozen=True)
class Line:
    """Runs from left to right; ``edge`` is where the lines of its column end at the right."""

    runs: tuple[Run, ...]
    edge: float

    @property
    def text(self) -> str:
        return "  ".join(run.text for run in self.runs)

    @property
    def size(self) -> float:
        return max(run.size for run in self.runs)

    @property
    def baseline(self) -> float:
        return self.runs[0].baseline


def markdown(pages: Sequence[Sequence[Run]]) -> tuple[list[str], int]:
    """The text of each page, and how many running heads and feet were left out."""
    lines, removed = without_running_heads([[line for column in columns(page) for line in rows(column)] for page in pages])
    body = _body_size(lines)
    sizes = sorted({round(line.size) for page in lines for line in page if line.size >= body * LARGER}, reverse=True)
    words = _words(lines)
    return [_text(page, body, sizes, words) for page in lines], removed


def columns(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """The runs parted into columns in reading order; what reaches across the columns stands between them.

    ┌───────────────┐
    │ 1             │
    ├───────┬───────┤
    │ 2     │ 3     │
    ├───────┴───────┤
    │ 4             │
    └───────────────┘
    """
    gutter = _gutter(runs)
    if gutter is None:
        yield list(runs)
        return
    left: list[Run] = []
    right: list[Run] = []
    across: list[Run] = []

    def beside() -> Iterator[list[Run]]:
        for side in (left, right):
            if side:
                yield from columns(side)
                side.clear()

    for run in sorted(runs, key=lambda run: -run.baseline):
        if run.left < gutter < run.right:
            yield from beside()
            across.append(run)
        else:
            if across:
                yield list(across)
                across.clear()
            (left if run.right <= gutter else right).append(run)
    yield from beside()
    if across:
        yield across


def _gutter(runs: Sequence[Run]) -> float | None:
    """Where two columns of prose part, or None: the place that most runs stand on either side of, and few across."""
    if len(runs) < 2 * COLUMN_LINES:
        return None
    best: tuple[int, float] | None = None
    for place in sorted({round(run.left) - 1.0 for run in runs}):
        left = [run for run in runs if run.right <= place]
        right = [run for run in runs if run.left >= place]
        if not (_is_prose(left) and _is_prose(right)):
            continue
        low, high = (
            max(min(run.baseline for run in side) for side in (left, right)),
            min(max(r.baseline for r in s) for s in (left, right)),
        )
        beside = [sum(low <= run.baseline <= high for run in side) for side in (left, right)]
        across = sum(run.left < place < run.right and low <= run.baseline <= high for run in runs)
        if min(beside) >= COLUMN_LINES and across <= min(beside) / 4:
            best = max(best, (min(beside) - across, place)) if best else (min(beside) - across, place)
    return best[1] if best else None


def _is_prose(runs: Sequence[Run]) -> bool:
    return len(runs) >= COLUMN_LINES and median(len(run.text) for run in runs) >= COLUMN_CHARACTERS


def rows(runs: Sequence[Run]) -> list[Line]:
    """The lines of one column, from top to bottom; runs of one line from left to right."""
    lines: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: -run.baseline):
        if lines and abs(lines[-1][0].baseline - run.baseline) < SAME_LINE * max(run.size, lines[-1][0].size):
            lines[-1].append(run)
        else:
            lines.append([run])
    edge = max((run.right for run in runs), default=0.0)
    return [Line(_joined(sorted(line, key=lambda run: run.left)), edge) for line in lines]


def _joined(line: Sequence[Run]) -> tuple[Run, ...]:
    """Runs that stand close together are one (a word in bold, a raised number), and so are an item's number and its text."""
    runs = [line[0]]
    for run in line[1:]:
        last = runs[-1]
        gap = run.left - last.right
        marks_item = len(runs) == 1 and re.fullmatch(_ITEM, last.text.strip())
        if gap >= GAP * min(last.size, run.size) and not marks_item:
            runs.append(run)
            continue
        space = " " if gap > 0.12 * last.size and not last.text.endswith(" ") else ""
        larger = last if last.size >= run.size else run
        runs[-1] = Run(last.text + space + run.text, last.left, max(last.right, run.right), larger.baseline, larger.size, run.cut)
    return tuple(replace(run, text=run.text.strip()) for run in runs)


def without_running_heads(pages: Sequence[Sequence[Line]]) -> tuple[list[list[Line]], int]:
    """The pages without the lines at their edges that most of them repeat (but for numbers), and how many these are."""
    if len(pages) < 3:
        return [list(page) for page in pages], 0
    seen = Counter(key for page in pages for key in {_key(page[place]) for place in _edges(page)})
    running = {key for key, count in seen.items() if count >= max(3, REPEATED * len(pages))}
    kept = [[line for place, line in enumerate(page) if place not in _edges(page) or _key(line) not in running] for page in pages]
    return kept, sum(map(len, pages)) - sum(map(len, kept))


def _edges(page: Sequence[Line]) -> set[int]:
    return {*range(min(EDGE_LINES, len(page))), *range(max(0, len(page) - EDGE_LINES), len(page))}


def _key(line: Line) -> str:
    return re.sub(r"\d+", "#", line.text)


def _body_size(pages: Sequence[Sequence[Line]]) -> float:
    """The size in which most of the text is set."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page:
            for run in line.runs:
                sizes[round(run.size, 1)] += len(run.text)
    return sizes.most_common(1)[0][0] if sizes else 1.0


def _words(pages: Sequence[Sequence[Line]]) -> set[str]:
    """All whole words of the document, with their hyphens: they tell how a word that is cut at a line's end is written."""
    found: set[str] = set()
    for page in pages:
        cut = False
        for line in page:
            words = re.findall(r"\w+(?:-\w+)*", line.text.lower())
            found.update(words[1 if cut else 0 : -1 if line.runs[-1].cut else None])
            cut = line.runs[-1].cut
    return found


def _text(lines: Sequence[Line], body: float, sizes: Sequence[int], words: set[str]) -> str:
    """The Markdown of one page."""
    blocks: list[str] = []
    at = 0
    while at < len(lines):
        end = _table_end(lines, at)
        if end > at:
            blocks.append(_table(lines[at:end]))
            at = end
            continue
        end = _paragraph_end(lines, at)
        text = _paragraph(lines[at:end], words)
        if _is_heading(lines[at:end], body):
            text = "#" * min(3, sizes.index(round(lines[at].size)) + 1) + " " + " ".join(text.split())
        blocks.append(text)
        at = end
    return "\n\n".join(block for block in blocks if block)


def _is_heading(lines: Sequence[Line], body: float) -> bool:
    text = " ".join(line.text for line in lines)
    larger = all(line.size >= body * LARGER and len(line.runs) == 1 for line in lines)
    return larger and len(text) <= HEADING_CHARACTERS and any(map(str.isalpha, text))


def _table_end(lines: Sequence[Line], start: int) -> int:
    """Where the table that begins at ``start`` ends; ``start`` itself where none does."""
    end = start
    while end < len(lines) and (len(lines[end].runs) > 1 or (end > start and _in_a_column(lines[start:end], lines[end]))):
        if end > start and lines[end - 1].baseline - lines[end].baseline > 4 * lines[end].size:
            break
        end += 1
    while end > start and len(lines[end - 1].runs) == 1:
        end -= 1
    return end if end - start >= 2 and len(_column_edges(lines[start:end])) > 1 else start


def _in_a_column(above: Sequence[Line], line: Line) -> bool:
    """Whether a lone run stands below one column of the table ``above`` and not across several."""
    (run,) = line.runs
    edges = _column_edges(above)
    return len(edges) > 1 and sum(left < run.right and run.left < right for left, right in edges) == 1


def _column_edges(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Left and right of the columns into which all runs of the lines fall."""
    edges: list[tuple[float, float]] = []
    for left, right in sorted((run.left, run.right) for line in lines for run in line.runs):
        if edges and left < edges[-1][1]:
            edges[-1] = (edges[-1][0], max(edges[-1][1], right))
        else:
            edges.append((left, right))
    return edges


def _table(lines: Sequence[Line]) -> str:
    edges = _column_edges(lines)
    return table(
        [" ".join(run.text for run in line.runs if left <= run.left and run.right <= right) for left, right in edges]
        for line in lines
    )


def _paragraph_end(lines: Sequence[Line], start: int) -> int:
    """A paragraph ends before a wider space, another size of letter, an item of a list, and a table."""
    end = start + 1
    leading = 0.0
    while end < len(lines) and _table_end(lines, end) == end:
        last, line = lines[end - 1], lines[end]
        step = last.baseline - line.baseline
        leading = leading or min(step, 1.6 * line.size)
        if step < 0 or step > 1.3 * leading or not 0.9 < line.size / last.size < 1.1 or _STARTS_ITEM.match(line.text):
            break
        end += 1
    return end


def _paragraph(lines: Sequence[Line], words: set[str]) -> str:
    """Lines joined to flowing text; a line that ends before it had to is kept as a line."""
    text = lines[0].text
    for last, line in pairwise(lines):
        end = last.runs[-1]
        if end.cut or (re.search(r"\w-$", text) and line.text[:1].islower()):
            text = _joined_word(text.removesuffix("-"), line.text, words)
            continue
        first = line.runs[0]
        width = len(first.text.split(" ", 1)[0]) * (first.right - first.left) / len(first.text)
        fits = end.right + width + 0.5 * end.size < last.edge
        text += ("\n" if fits or len(last.runs) + len(line.runs) > 2 else " ") + line.text
    return text


def _joined_word(text: str, following: str, words: set[str]) -> str:
    """``pro-`` + ``gram`` is program, ``well-`` + ``known`` well-known where the document writes it so elsewhere."""
    first = re.search(r"[\w-]*$", text)
    second = re.match(r"\w*", following)
    first_part, second_part = (first[0] if first else ""), (second[0] if second else "")
    plain, hyphened = f"{first_part}{second_part}".lower(), f"{first_part}-{second_part}".lower()
    two_words = hyphened in words or {first_part.lower(), second_part.lower()} <= words
    keeps = plain not in words and (two_words or not second_part[:1].islower() or first_part[-1:].isdigit())
    return f"{text}-{following}" if keeps else text + following
