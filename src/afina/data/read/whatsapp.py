"""The text that WhatsApp exports: a line a message, in the date format of the telephone.

    31/12/23, 21:15 - Ana: text                 Android
    12/31/23, 9:15 PM - Ana: text               Android in the United States
    31.12.23, 21:15 - Ana: text
    31/12/2023, 9:15 p. m. - Ana: text
    [31/12/23, 21:15:07] Ana: text              iPhone
    [12/31/23, 9:15:07 PM] Ana: text

A line that begins in no such way goes on with the message before it. Lines without a name (somebody joined, the notice about
encryption) are the program's own and no messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

_BLANKS = str.maketrans(dict.fromkeys("\u00a0\u202f\u2009", " "))
_INVISIBLE = str.maketrans(dict.fromkeys("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2068\u2069\ufeff"))
_START = re.compile(
    r"(?P<open>\[)?(?P<a>\d{1,4})(?P<sep>[/.\-])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{2,4}),? "
    r"(?P<hour>\d{1,2})[:.](?P<minute>\d\d)(?:[:.](?P<second>\d\d))?(?: ?(?P<half>[AaPp])\.? ?[Mm]\.?)?"
    r"(?(open)\] | - )(?P<rest>.*)"
)
_MOST_IN_A_NAME = 100  # characters: a longer one is a notice with a colon in it
_MEDIA = re.compile(
    r"<?(?:media|image|video|audio|sticker|gif|document|contact card|photo|voice message)s? omitted>?"
    r"|<?(?:multimedia|archivo|imagen|vídeo|video|audio|sticker|gif|documento|foto|tarjeta de contacto|archivo multimedia)"
    r" (?:omitid[oa])>?"
    r"|<?m[íi]dia oculta>?|<?m[ée]dias? omis(?:e)?s?>?|<?medien ausgeschlossen>?"
    r"|<(?:attached|adjunto): [^>]*>|\S+\.\w{2,5} \((?:file attached|archivo adjunto|arquivo anexado)\)|null",
    re.IGNORECASE,
)
_DELETED = re.compile(
    r"(?:this message was deleted|you deleted this message|se eliminó este mensaje|eliminaste este mensaje"
    r"|este mensaje fue eliminado|mensagem apagada|você apagou esta mensagem"
    r"|missed (?:voice|video) call|(?:video)?llamada(?: de voz)? perdida|llamada perdida)\.?",
    re.IGNORECASE,
)
_EDITED = re.compile(r"<\u200e?(?:this message was edited|se editó este mensaje\.?|mensagem editada)>", re.IGNORECASE)
_NOTICE = re.compile(r"end-to-end encrypted|cifrad[oa]s? de extremo a extremo|protegid[oa]s? con (?:el )?cifrado", re.IGNORECASE)


def is_whatsapp(start: str) -> bool:
    """Whether a text begins as an export of WhatsApp does: with a message, as at least every third of its first lines."""
    lines = [line for line in start.split("\n")[:20] if line.strip()]
    first = [_parsed(line) is not None for line in lines]
    return bool(first) and first[0] and any(": " in line for line in lines) and sum(first) * 3 >= len(first)


def read_whatsapp(text: str) -> Iterator[tuple[int, datetime, str, str]]:
    """Line, time, person and text of each message; the text is empty where it was a picture, a sound, a file, or deleted."""
    lines = text.replace("\r\n", "\n").split("\n")
    starts = [_parsed(line) for line in lines]
    order = _order([start for start in starts if start])
    begun: tuple[int, datetime, str, bool] | None = None  # line, time, person, whether the program itself speaks
    texts: list[str] = []
    for number, (line, start) in enumerate(zip(lines, starts), start=1):
        time = _time(start, order) if start else None
        if start is None or time is None:
            texts.append(line.translate(_INVISIBLE))
            continue
        if begun:
            yield _message(begun, texts)
        rest: str = start["rest"]
        who, colon, first = rest.partition(": ") if ": " in rest else (rest.removesuffix(":"), rest.endswith(":"), "")
        is_message = colon and len(who) <= _MOST_IN_A_NAME and not _NOTICE.search(first)
        begun = (number, time, who.removeprefix("~").strip(), ": \u200e" in line) if is_message else None
        texts = [first]
    if begun:
        yield _message(begun, texts)


def _message(begun: tuple[int, datetime, str, bool], texts: list[str]) -> tuple[int, datetime, str, str]:
    number, time, who, own = begun
    said = "\n".join(texts).strip()
    if said.endswith(">") and _EDITED.fullmatch(said, said.rfind("<")):
        said = said[: said.rfind("<")].rstrip(" \n\u200e")
    nothing = _MEDIA.fullmatch(said) or _DELETED.fullmatch(said) or (own and len(texts) == 1)
    return number, time, who, "" if nothing else said


def _parsed(line: str) -> re.Match[str] | None:
    if not line or line[0] not in "[0123456789\u200e\u200f\u202a\ufeff":
        return None
    return _START.match(_clean(line))


def _clean(line: str) -> str:
    """The line with plain blanks in its date, and without the marks that steer the direction of writing before its text."""
    head, colon, rest = line.partition(": ")
    return head.translate(_BLANKS).translate(_INVISIBLE) + colon + rest.lstrip("\u200e\u200f")


def _order(starts: list[re.Match[str]]) -> str:
    """``dmy``, ``mdy`` or ``ymd``: what all dates allow; else in which time runs forward; else what goes with AM and PM."""
    if any(len(start["a"]) == 4 for start in starts):
        return "ymd"
    if any(int(start["a"]) > 12 for start in starts):
        return "dmy"
    if any(int(start["b"]) > 12 for start in starts):
        return "mdy"

    def backward(order: str) -> int:
        times = [time for start in starts if (time := _time(start, order))]
        return sum(after < before for before, after in pairwise(times))

    american = any(start["half"] and start["sep"] == "/" for start in starts)
    return min(("mdy", "dmy") if american else ("dmy", "mdy"), key=backward)


def _time(parts: re.Match[str], order: str) -> datetime | None:
    """None where it is no date."""
    numbers = dict(zip(order, (int(parts["a"]), int(parts["b"]), int(parts["c"]))))
    hour = int(parts["hour"])
    if parts["half"]:
        hour = hour % 12 + (12 if parts["half"] in "pP" else 0)
    year = numbers["y"] + (2000 if numbers["y"] < 100 else 0)
    try:
        return datetime(year, numbers["m"], numbers["d"], hour, int(parts["minute"]), int(parts["second"] or 0), tzinfo=UTC)
    except ValueError:
        return None
