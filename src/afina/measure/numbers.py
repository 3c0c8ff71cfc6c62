"""The number that an answer comes to: behind ``####``, as GSM8K writes it, else the last one in it."""

from __future__ import annotations

import re
from decimal import Decimal

MARK = "####"

_NUMBER = re.compile(r"(?<![\w.,])[-+−]?\d+(?:[.,]\d+)*")


def number_match(answer: str, reference: str) -> float:
    """1.0 where both come to the same number, however it is written: ``5,000`` is ``5000``, and ``3,5`` is ``3.5``.

    ``1.234`` may be a little more than one or a thousand and more, by who wrote it: it equals both.
    """
    ours, theirs = final_number(answer), final_number(reference)
    return float(bool(ours and theirs and readings(ours) & readings(theirs)))


def final_number(text: str) -> str:
    """The number behind the last ``####``, else the last one of the text, as it is written; ``""`` where there is none."""
    behind = text.rpartition(MARK)[2] if MARK in text else ""
    if found := _NUMBER.search(behind):
        return found[0]
    everywhere = _NUMBER.findall(text)
    return str(everywhere[-1]) if everywhere else ""


def readings(number: str) -> frozenset[Decimal]:
    """What a number may mean whose thousands and decimals are parted by dots and commas; nothing where it is none (1.2.3)."""
    sign, digits = ("-", number[1:]) if number[:1] in ("-", "−") else ("", number.removeprefix("+"))
    marks = [letter for letter in digits if letter in ".,"]
    whole, _mark, last = digits.rpartition(marks[-1]) if marks else (digits, "", "")
    read = []
    if not marks or ((len(marks) == 1 or set(marks[:-1]) == {*".,"} - {marks[-1]}) and _is_grouped(whole)):
        read.append(f"{_bare(whole)}.{last or 0}")  # the last mark parts the decimals
    if marks and len(set(marks)) == 1 and _is_grouped(digits):
        read.append(_bare(digits))  # all marks part thousands
    return frozenset(Decimal(sign + text) for text in read)


def _is_grouped(digits: str) -> bool:
    """Whether all groups but the first have three digits, and the first no more; a number without marks has one group."""
    first, *groups = re.split(r"[.,]", digits)
    return not groups or (len(first) <= 3 and first != "0" and all(len(group) == 3 for group in groups))


def _bare(digits: str) -> str:
    return digits.replace(".", "").replace(",", "")
