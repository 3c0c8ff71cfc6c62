"""Letters that a wrong encoding garbled (``caf\u00c3\u00a9``), and characters that nobody sees.

Each question has a cheap form, asked of the UTF-8 bytes of a whole row (``utf8``), and the exact one, asked of the text.
Plain ASCII costs next to nothing, and so do ordinary Spanish, French or Chinese.
"""

from __future__ import annotations

import re

import ftfy
from ftfy.badness import is_bad

from afina.core.translation import _

# ── garbled by a wrong encoding ──────────────────────────────────────────────────────────────────────────────────────────

# Only what undoes a wrong decoding: quotes, ligatures, widths, entities and composed letters stay as they are written.
_ONLY_ENCODING = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    fix_surrogates=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)

# Garbled text has two characters beyond ASCII side by side: each becomes one letter, "L" where ftfy knows it as a part of garbled
# text (Latin, Greek, Cyrillic, punctuation, symbols), "a" for all others; "LL" is then a plain search.
_LEADS = frozenset({*range(0xC2, 0xC6), 0xC6, 0xCB, *range(0xCE, 0xD3), 0xE2, 0xEF})
_TO_LEADS = bytes(0x4C if byte in _LEADS else 0x61 for byte in range(256))
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n\r"
# Those that are garbled text beside an ASCII character too: Â Ã Œ œ, and the controls U+0080 to U+009F.
_ALONE = tuple(sign.encode() for sign in "ÂÃŒœ\ufffd")
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
_SUSPECT = re.compile("[^\x00-\x7f]{2,}|[ÂÃŒœ\x80-\x9f\ufffd]")
_SIGN = 6  # characters on each side that may make a suspect a sure sign
LOST = "\ufffd"  # what a reader wrote in the place of bytes that it could not decode: they are gone


def utf8(text: str) -> bytes:
    """The text's bytes; half a surrogate pair is written as three bytes, as Python would refuse to."""
    return text.encode("utf-8", "surrogatepass")


def may_be_garbled(data: bytes) -> bool:
    """False where ``repaired`` would change nothing; True is a reason to call it, no more."""
    if data.isascii():
        return False
    if b"LL" in data.translate(_TO_LEADS, _CONTINUATIONS):
        return True
    beyond = data.translate(None, _PLAIN)
    return _C1.search(beyond) is not None or any(sign in beyond for sign in _ALONE)


def repaired(text: str) -> str:
    """The text with each garbled line decoded as it was meant; line ends stay as they are."""
    if text.isascii():
        return text
    return "".join(_repaired_line(line) if may_be_garbled(utf8(line)) else line for line in re.split("(\r\n|\n|\r)", text))


def _repaired_line(line: str) -> str:
    # ftfy's own look at a line takes half a microsecond a character; each of its signs is five characters at most.
    if not any(is_bad(line[max(0, place.start() - _SIGN) : place.end() + _SIGN]) for place in _SUSPECT.finditer(line)):
        return line
    fixed = ftfy.fix_encoding(line, _ONLY_ENCODING)
    # A line end that comes out of a repair was none before: the text would get another form.
    return line if "\n" in fixed or "\r" in fixed else fixed


# ── controls ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1, but for tab and line ends
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u2060\u206a-\u206f\u3164\uffa0"  # soft hyphen, joiners and fillers
    "\u200b-\u200f\u061c\u202a-\u202e\u2066-\u2069"  # zero-width space and joiners; directions
    "\ufeff\ufff9-\ufffb\ud800-\udfff"  # byte order mark, annotations, half a surrogate pair
    "\U000e0000-\U000e01ef]"  # tags and the variants of ideographs
)
_DIRECTIONS = re.compile("[\u200e\u200f\u061c\u202a-\u202c\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_JOINS = "\u200c\u200d"
# Scripts whose letters change their form beside a joiner: Arabic, Syriac, N'Ko, Mongolian and the scripts of India and beyond.
_JOINING = re.compile(
    "[\u0600-\u07ff\u0840-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1a20-\u1aaf\u1b00-\u1bff\ua840-\uaaff]"
)
# What an emoji of several is joined from: symbols, dingbats, skin tones, signs of sex, and the sign that asks for colour.
_EMOJI = re.compile("[\u2190-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff]")
# Written without blanks between words: a zero-width space says where a line may end.
_NO_BLANKS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u0f00-\u0fff]")
_HANGUL = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")
_IDEOGRAPH = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_FLAG = "\U0001f3f4"  # the black flag, which tags turn into England's, Scotland's or Wales'
_FLAG_LETTERS = 8  # at most, the flag itself and the closing tag included
_TAGS = re.compile("[\U000e0020-\U000e007f]")


def may_hold_controls(data: bytes) -> bool:
    """False where ``controls`` would find nothing."""
    beyond = data.translate(None, _PLAIN)
    return bool(beyond) and _HIDDEN.search(beyond.decode("utf-8", "surrogatepass")) is not None


def controls(text: str) -> list[int]:
    """Positions of the characters that nobody sees and that no script needs where they stand.

    Left alone: tabs and all line ends, joiners inside emoji and inside scripts that join, directions where the text has
    letters that run from right to left (an override never is), zero-width spaces in scripts without blanks.
    """
    places = [found.start() for found in _HIDDEN.finditer(text)]
    if not places:
        return []
    right_to_left = _RIGHT_TO_LEFT.search(text) is not None
    return [place for place in places if not _needed(text, place, right_to_left)]


def without(text: str, positions: list[int]) -> str:
    kept = bytearray(b"\x01" * len(text))
    for position in positions:
        kept[position] = 0
    return "".join(character for character, keep in zip(text, kept) if keep)


def name_of(character: str) -> str:
    """``U+200B zero-width space`` for those that people meet, the number alone for the others."""
    known = {
        "\u200b": _("zero-width space"),
        "\ufeff": _("byte order mark"),
        "\u00ad": _("soft hyphen"),
        "\x00": _("null"),
        "\x1b": _("escape"),
        "\x7f": _("delete"),
        "\u202e": _("right-to-left override"),
    }
    number = f"U+{ord(character):04X}"
    return f"{number} {known[character]}" if character in known else number


def _needed(text: str, at: int, right_to_left: bool) -> bool:
    """Whether the hidden character at ``at`` belongs to how its neighbours are written."""
    character = text[at]
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if character in _JOINS:
        if _JOINING.match(before):
            return True
        return character == "\u200d" and bool(_EMOJI.match(before) and _EMOJI.match(after))
    if character == "\u200b":
        return bool(_NO_BLANKS.match(before) or _NO_BLANKS.match(after))
    if _DIRECTIONS.match(character):
        return right_to_left
    if character in "\u115f\u1160":
        return bool(_HANGUL.match(before) or _HANGUL.match(after))
    if character >= "\U000e0100":
        return _IDEOGRAPH.match(before) is not None
    if _TAGS.match(character):
        flag = text.rfind(_FLAG, max(0, at - _FLAG_LETTERS), at)
        return flag >= 0 and all(_TAGS.match(tag) for tag in text[flag + 1 : at])
    return False
