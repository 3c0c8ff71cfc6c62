"""Numbers, dates and times as a cell of a spreadsheet shows them, by its number format."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal

_QUOTED = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[\$([^\]-]*)(?:-[^\]]*)?\]|\[[^\]]*\]')
_DIGITS = re.compile(r"(?P<whole>[#0?][#0?,]*)(?:\.(?P<decimals>[#0?]+))?(?P<scale>,*)")
_TIME_TOKENS = re.compile(r"yyyy|yy|mmmmm|mmmm|mmm|mm|m|dddd|ddd|dd|d|hh|h|ss|s|AM/PM|A/P|\.0+|[^a-zA-Z]", re.IGNORECASE)
_FIRST_MARK = 0xE000  # of Unicode's private characters
_LOCAL = ("mm-dd-yy", "m/d/yy h:mm", "m/d/yy", "d-mmm-yy")  # standard formats, shown as the reader's country writes them


def shown_number(number: float, form: str) -> str:
    """A number by its format; by its shortest digits where the format is General or is not one of the usual ones."""
    sections = _sections(form)
    section = (
        sections[1] if number < 0 and len(sections) > 1 else sections[2] if number == 0 and len(sections) > 2 else sections[0]
    )
    magnitude = abs(number) if number < 0 and len(sections) > 1 else number
    literals: list[str] = []
    bare = _QUOTED.sub(lambda match: _put_aside(match, literals), section)
    digits = _DIGITS.search(bare)
    if digits is None and literals:
        return _with_literals(bare, literals)
    if "general" in bare.casefold() or digits is None or re.search(r"[eE/]", bare) or re.search(r"[#0?]", bare[digits.end() :]):
        return _shortest(number)
    pattern, decimals_of = digits["whole"].rstrip(","), digits["decimals"] or ""
    scale = len(digits["whole"]) - len(pattern) + len(digits["scale"])  # each comma at the end: a thousandth
    value = Decimal(repr(magnitude)) * (100 if "%" in bare else 1) / 1000**scale
    try:
        rounded = value.quantize(Decimal(1).scaleb(-len(decimals_of)), ROUND_HALF_UP)
    except ArithmeticError:  # more digits than a Decimal holds
        return _shortest(number)
    whole, _point, decimals = f"{abs(rounded):f}".partition(".")
    while len(decimals) > decimals_of.count("0") and decimals.endswith("0"):
        decimals = decimals[:-1]
    whole = f"{int(whole):,}" if "," in pattern else whole.rjust(pattern.count("0"), "0")
    text = ("-" if rounded < 0 else "") + whole + (f".{decimals}" if decimals else "")
    return _with_literals(bare[: digits.start()] + text + bare[digits.end() :], literals)


def shown_time(moment: datetime | date | time | timedelta, form: str) -> str:
    """A date, a time or a span by its format where that has numbers only, else as ISO."""
    if isinstance(moment, timedelta):
        seconds = round(moment.total_seconds())
        return f"{'-' if seconds < 0 else ''}{abs(seconds) // 3600}:{abs(seconds) // 60 % 60:02d}:{abs(seconds) % 60:02d}"
    literals: list[str] = []
    bare = _QUOTED.sub(lambda match: _put_aside(match, literals), _sections(form)[0])
    tokens = _TIME_TOKENS.findall(bare)
    named = any(token.lower() in ("mmm", "mmmm", "mmmmm", "ddd", "dddd") for token in tokens)
    if form in _LOCAL or named or "".join(tokens) != bare or not any(token.isalpha() for token in tokens):
        return _iso(moment)
    text = "".join(_time_part(moment, place, tokens) for place in range(len(tokens)))
    return _with_literals(text, literals)


def _time_part(moment: datetime | date | time, place: int, tokens: list[str]) -> str:
    token = tokens[place].lower()
    letters = [other.lower() for other in tokens if other.isalpha() or "/" in other.strip("/")]
    has_half = any(other in ("am/pm", "a/p") for other in letters)
    year, month, day = (moment.year, moment.month, moment.day) if isinstance(moment, date) else (1900, 1, 0)
    hour, minute, second = (moment.hour, moment.minute, moment.second) if isinstance(moment, datetime | time) else (0, 0, 0)
    if token in ("m", "mm") and _is_minute(place, tokens):
        number = minute
    else:
        numbers = {"yyyy": year, "yy": year % 100, "m": month, "d": day, "h": hour, "s": second}
        numbers |= {"mm": month, "dd": day, "hh": hour, "ss": second}
        if token not in numbers:
            return ("AM" if hour < 12 else "PM") if token in ("am/pm", "a/p") else tokens[place]
        number = numbers[token]
    if token in ("h", "hh") and has_half:
        number = hour % 12 or 12
    return f"{number:0{4 if token == 'yyyy' else len(token)}d}"


def _is_minute(place: int, tokens: list[str]) -> bool:
    """``m`` means minutes behind hours and before seconds, else months."""
    before = next((token.lower() for token in reversed(tokens[:place]) if token.isalpha()), "")
    behind = next((token.lower() for token in tokens[place + 1 :] if token.isalpha()), "")
    return before in ("h", "hh") or behind in ("s", "ss")


def _iso(moment: datetime | date | time) -> str:
    if isinstance(moment, datetime):
        midnight = moment.time() == time()
        return moment.date().isoformat() if midnight else moment.isoformat(" ", "seconds" if moment.second else "minutes")
    if isinstance(moment, time):
        return moment.isoformat("seconds" if moment.second else "minutes")
    return moment.isoformat()


def _shortest(number: float) -> str:
    """``3``, ``0.1``, ``1000000``: as a cell without a format shows it."""
    if isinstance(number, int):
        return str(number)
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return repr(float(f"{number:.15g}"))


def _sections(form: str) -> list[str]:
    """The parts of a format for positive numbers, negative ones, and zero; ``;`` inside of quotes is text."""
    found = [""]
    quoted = False
    for letter in form or "General":
        quoted ^= letter == '"'
        if letter == ";" and not quoted:
            found.append("")
        else:
            found[-1] += letter
    return found


def _put_aside(match: re.Match[str], literals: list[str]) -> str:
    """A mark, one character that no format has, in the place of a literal."""
    text = next((group for group in match.groups() if group is not None), "")
    if not text:
        return ""
    literals.append(text)
    return chr(_FIRST_MARK + len(literals) - 1)


def _with_literals(text: str, literals: list[str]) -> str:
    return text.translate({_FIRST_MARK + place: literal for place, literal in enumerate(literals)}).strip()
