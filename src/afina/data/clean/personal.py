"""Personal data and secrets in a text: where they stand, and what a report may show of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from afina.data.clean.characters import utf8
from afina.data.clean.numbers import Span, may_hold_numbers, numbers, runs
from afina.data.clean.phones import phones
from afina.data.clean.secrets import may_hold_secrets, secrets

# Latin letters only: Chinese has no blank before an address.
_EMAIL = re.compile(
    r"(?<![A-Za-zÀ-ÿ0-9._%+-])[A-Za-zÀ-ÿ0-9_](?:[A-Za-zÀ-ÿ0-9._%+'-]{0,62}[A-Za-zÀ-ÿ0-9_+-])?"
    r"@(?:[A-Za-zÀ-ÿ0-9](?:[A-Za-zÀ-ÿ0-9-]{0,61}[A-Za-zÀ-ÿ0-9])?\.){1,4}[A-Za-z]{2,24}(?![A-Za-z0-9@_-])"
)
_LETTER = re.compile("[A-Za-zÀ-ÿ0-9]")
_HIDDEN = "•"


def may_hold_personal(text: str, data: bytes) -> bool:
    """False where ``personal`` would find nothing: plain searches. ``data`` is the text in UTF-8."""
    return "@" in text or may_hold_numbers(data) or may_hold_secrets(text, data)


def personal(text: str) -> list[Span]:
    """What belongs to somebody, in the order of the text, without overlaps.

    Where two overlap, the first of these wins: a secret, an address, an account, a card, an identity number, a telephone.
    """
    candidates = list(_candidates(text))
    if not candidates:
        return []
    taken = bytearray(len(text))
    return sorted((span for span in candidates if _take(taken, span)), key=lambda span: span.start)


def _take(taken: bytearray, span: Span) -> bool:
    """Marks the span's place as taken; False where a part of it was already, or where it is empty."""
    if span.start >= span.end or any(taken[span.start : span.end]):
        return False
    taken[span.start : span.end] = b"\x01" * (span.end - span.start)
    return True


def _candidates(text: str) -> Iterator[Span]:
    data = utf8(text)
    if may_hold_secrets(text, data):
        yield from secrets(text)
    if "@" in text:
        yield from (Span("email", *found.span(), "email", found.group().casefold()) for found in _EMAIL.finditer(text))
    if may_hold_numbers(data):
        places = runs(text)
        yield from numbers(text, places)
        yield from phones(text, places)


def again(text: str, found: list[Span], known: Mapping[str, Span]) -> list[Span]:
    """``found`` and each place where something ``known``, by how it is written, stands once more.

    A telephone that a question calls so stands in the answer as a bare number: alone, it would not be known there.
    """
    taken = bytearray(len(text))
    spans = [span for span in found if _take(taken, span)]
    for written, span in known.items():
        at = text.find(written)
        while at >= 0:
            end = at + len(written)
            other = Span(span.check, at, end, span.kind, span.key)
            if not _LETTER.match(text[at - 1 : at] or " ") and not _LETTER.match(text[end : end + 1]) and _take(taken, other):
                spans.append(other)
            at = text.find(written, end)
    return sorted(spans, key=lambda span: span.start)


# ── what a report may show ──────────────────────────────────────────────────────────────────────────────────────────────


def mask(text: str) -> str:
    """The text as a report may show it: of personal data and secrets, no more than a hint stays (``j•••@•••.com``)."""
    return masked(text, personal(text)) if may_hold_personal(text, utf8(text)) else text


def masked(text: str, spans: Iterable[Span]) -> str:
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], hint(text[span.start : span.end], span.check)]
        end = span.end
    return "".join([*parts, text[end:]])


def hint(written: str, check: str) -> str:
    """A few letters by which the owner of the file knows it again, and nobody else."""
    if check == "email":
        name, _at, domain = written.partition("@")
        return f"{name[0]}{_HIDDEN * 3}@{_HIDDEN * 3}.{domain.rpartition('.')[2]}"
    if check == "secret":
        return f"{written[:2] if len(written) > 12 else ''}{_HIDDEN * 6}"
    return re.sub(r"\w", _HIDDEN, written[:-2]) + written[-2:]
