"""Documents cut into chunks that are read by themselves: at headings, paragraphs and sentences, evenly long, and no word lost.

A document becomes a row of units (a sentence, a row of a table, a line of a list or of code, a heading), and the cheapest way to
cut between them is found by dynamic programming. A cut costs little before a heading and much within a paragraph; a chunk costs
by its distance from the wanted size, and far more outside 0.5 to 1.25 of it. After a heading it is never cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from afina.data.documents.document import Chunk, Document

SHORTEST, LONGEST = 0.5, 1.25  # of the wanted characters
OUTSIDE = 6.0  # what a chunk costs that is shorter or longer than that, and twice that for each size beyond

_HEADING_CUT, _PASSAGE_CUT, _BLOCK_CUT, _LINE_CUT, _SENTENCE_CUT, _WORD_CUT, _NEVER = 0.0, 0.1, 0.2, 0.5, 0.8, 3.0, 1e6
_FENCE = re.compile(r"(```|~~~)")
_HEADING = re.compile(r"#{1,6}\s")
_LINE_WISE = re.compile(r"\s*(?:[-*+•]|\d{1,4}[.)]|\|)\s?")
_RULE = re.compile(r"\|(?:\s*:?-+:?\s*\|)+\s*$")
# Abbreviations after which a capital letter begins no sentence.
_SHORT = (
    r"(?<!\b[A-Z])(?<!\bSr)(?<!\bSra)(?<!\bDr)(?<!\bDra)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bSt)(?<!\bNo)(?<!\bNº)(?<!\bnúm)(?<!\bart)"
    r"(?<!\bArt)(?<!\bfig)(?<!\bFig)(?<!\bpág)(?<!\bp)(?<!\bvs)(?<!\betc)(?<!\bUd)(?<!\bUds)(?<!\bAv)(?<!\bcap)(?<!\bej)"
)
_SENTENCE = re.compile(rf"(?:{_SHORT}\.|[!?…])[\"'»”’)\]]*(\s+)(?=[\"'«“‘¿¡(\[]*[A-ZÁÉÍÓÚÜÑÀÈÇÖÄ0-9])|[。！？](\s*)(?=\S)")
_CLAUSE = re.compile(r"[;:,](\s+)")
_BLANK = re.compile(r"(\s+)")


@dataclass(frozen=True)
class _Unit:
    """What is never cut. ``before`` stands between it and the last one, ``cut`` is what it costs to part them there.

    ``head`` is the head of the table that it is a row of: a chunk that begins with the row begins with the head.
    """

    text: str
    before: str
    cut: float
    place: str
    head: str = ""


def chunk(document: Document, characters: int) -> Iterator[Chunk]:
    """Chunks of about ``characters``, 0.5 to 1.25 times that where the text allows it, with every word in its order."""
    limit = int(characters * LONGEST)
    units = _without_crumbs(
        (unit for passage in document.passages for unit in _units(passage.text, passage.place, limit)), characters // 20
    )
    cuts = _cheapest_cuts(units, characters)
    for number, (start, end) in enumerate(pairwise(cuts), 1):
        own = units[start:end]
        head = own[0].head + "\n" if own[0].head else ""
        text = head + own[0].text + "".join(unit.before + unit.text for unit in own[1:])
        place = own[0].place if own[0].place == own[-1].place else f"{own[0].place} – {own[-1].place}"
        yield Chunk(text, document.name, document.title, place, number)


def _without_crumbs(units: Iterable[_Unit], least: int) -> list[_Unit]:
    """Units of a few letters joined to the next, so that a list of a million numbers does not take a million decisions."""
    joined: list[_Unit] = []
    for unit in units:
        last = len(joined[-1].text) if joined else least
        if last < least // 4 or (last < least and unit.cut not in (_HEADING_CUT, _PASSAGE_CUT)):
            joined[-1] = replace(joined[-1], text=joined[-1].text + unit.before + unit.text)
        else:
            joined.append(unit)
    return joined


def _cheapest_cuts(units: list[_Unit], characters: int) -> list[int]:
    """Where the chunks begin, and the end of the last: the cheapest of all ways (units before ``end`` → cost, last start)."""
    costs, starts = [0.0], [0]
    for end in range(1, len(units) + 1):
        size, best, best_start = 0, float("inf"), end - 1
        for start in range(end - 1, -1, -1):
            size += len(units[start].text) + (len(units[start + 1].before) if start + 1 < end else 0)
            if size > 2 * LONGEST * characters and best < float("inf"):
                break
            cost = costs[start] + _size_cost((size + len(units[start].head)) / characters) + (units[start].cut if start else 0.0)
            if cost < best:
                best, best_start = cost, start
        costs.append(best)
        starts.append(best_start)
    cuts = [len(units)]
    while cuts[-1] > 0:
        cuts.append(starts[cuts[-1]])
    return cuts[::-1]


def _size_cost(share: float) -> float:
    """What a chunk costs whose size is ``share`` of the wanted one."""
    beyond = max(SHORTEST - share, share - LONGEST, 0.0)
    return (share - 1) ** 2 + (OUTSIDE * (1 + 2 * beyond) if beyond else 0.0)


def _units(text: str, place: str, limit: int) -> Iterator[_Unit]:
    """The units of a passage."""
    first, after_heading = True, False
    for block, before in _blocks(text):
        heading = bool(_HEADING.match(block)) and "\n" not in block
        cut = _NEVER if after_heading else _HEADING_CUT if heading else _PASSAGE_CUT if first else _BLOCK_CUT
        for piece, glue, inner, head in _pieces(block, limit):
            yield _Unit(piece, glue or before, inner if glue else cut, place, head)
        first, after_heading = False, heading


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Blocks apart by empty lines, each with what stands before it; headings by themselves, code with its empty lines."""
    lines: list[str] = []
    fence, before = "", "\n\n"
    for line in text.split("\n"):
        mark = _FENCE.match(line.lstrip())
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1] == fence:
            fence = ""
        heading = not fence and not mark and _HEADING.match(line)
        if heading or (not fence and not line.strip()):
            if lines:
                yield "\n".join(lines), before
                lines, before = [], "\n\n" if not heading else "\n"
            if heading:
                yield line.rstrip(), before
                before = "\n"
            else:
                before = "\n\n"
        else:
            lines.append(line.rstrip())
    if lines:
        yield "\n".join(lines), before


def _pieces(block: str, limit: int) -> Iterator[tuple[str, str, float, str]]:
    """Pieces of a block that are not cut, each with what stands before it, what a cut there costs, and its table's head."""
    lines = block.split("\n")
    if lines[0].lstrip().startswith("|") and len(lines) > 2 and _RULE.match(lines[1].strip()):
        head = "\n".join(lines[:2])
        yield "\n".join(lines[:3]), "", 0.0, ""
        for row in lines[3:]:
            yield row, "\n", _LINE_CUT, head if len(head) <= limit // 4 else ""
        return
    if _FENCE.match(lines[0].lstrip()) or sum(bool(_LINE_WISE.match(line)) for line in lines) > len(lines) / 2:
        glue = ""
        for line in lines:
            if len(line) <= limit:
                yield line, glue, _LINE_CUT, ""
                glue = "\n"
                continue
            for piece, before, cut in _split(
                line, limit, ((_SENTENCE, _SENTENCE_CUT), (_CLAUSE, _WORD_CUT), (_BLANK, _WORD_CUT))
            ):
                yield piece, before or glue, cut if before else _LINE_CUT, ""
            glue = "\n"
        return
    for sentence, glue, cut in _cut_at(block, _SENTENCE, _SENTENCE_CUT):
        for piece, before, inner in (
            _split(sentence, limit, ((_BLANK, _WORD_CUT),)) if len(sentence) > limit else [(sentence, "", 0.0)]
        ):
            yield piece, before or glue, inner if before else cut, ""


def _split(text: str, limit: int, ways: tuple[tuple[re.Pattern[str], float], ...]) -> Iterator[tuple[str, str, float]]:
    """``text`` itself where it is short enough, else its pieces by the first way that helps."""
    if len(text) <= limit or not ways:
        yield text, "", 0.0
        return
    (pattern, cost), *others = ways
    for piece, glue, cut in _cut_at(text, pattern, cost):
        for inner, before, inner_cut in _split(piece, limit, tuple(others)):
            yield inner, before or glue, inner_cut if before else cut


def _cut_at(text: str, pattern: re.Pattern[str], cost: float) -> Iterator[tuple[str, str, float]]:
    """The pieces between the blanks that ``pattern`` finds (its group), each with the blanks before it."""
    at, glue, cut = 0, "", 0.0
    for match in pattern.finditer(text):
        group = match.lastindex or 0
        if match.start(group) > at:
            yield text[at : match.start(group)], glue, cut
            at, glue, cut = match.end(group), match[group], cost
    if at < len(text):
        yield text[at:], glue, cut
