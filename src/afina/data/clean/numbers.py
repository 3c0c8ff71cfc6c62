"""Numbers that belong to somebody: payment cards, bank accounts, identity numbers. Telephones: ``phones.py``.

A run of six digits or more is looked for first; only around such a run the patterns below are tried, and what they find must
pass its library's test (stdnum: check digits, dates, countries). A number whose form says too little also needs a word before
it that says what it is (DNI, cuenta …). Precision goes before recall: a year, a price, an order number or the result of a sum
belongs to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stdnum import iban, luhn
from stdnum.ar import cbu, cuit
from stdnum.br import cnpj, cpf
from stdnum.cl import rut
from stdnum.co import nit
from stdnum.es import ccc, cif, dni, nie
from stdnum.fr import nir
from stdnum.mx import curp, rfc
from stdnum.pe import ruc
from stdnum.pt import nif as pt_nif
from stdnum.us import ssn

Place = tuple[int, int]  # start and end in a text


@dataclass(frozen=True)
class Span:
    """Personal data in a text: ``text[start:end]``. ``check`` is the check's name, ``kind`` what exactly it is (``es.dni``).

    ``key`` is the same for all ways of writing the same thing.
    """

    check: str
    start: int
    end: int
    kind: str
    key: str


@dataclass(frozen=True)
class Kind:
    """A kind of number. ``near``: a word that must stand shortly before it, where the number's form alone says too little.

    ``fake`` is how another one is made that nobody has, as far as its country's rules allow (``replace.py``).
    """

    name: str
    check: str
    pattern: re.Pattern[str]
    valid: Callable[[str], bool]
    fake: str
    near: re.Pattern[str] | None = None


# ── where to look ───────────────────────────────────────────────────────────────────────────────────────────────────────

_DIGITS_LEFT = bytes.maketrans(b"123456789", b"000000000")
_BETWEEN = b" .-()/\xa0\xc2"  # what stands between the digits of one number; the last two are a no-break space in UTF-8
_RUN = re.compile(r"[0-9](?:[ .()/\u00a0-]{0,2}[0-9]){5,}")
_ROUGH_RUN = re.compile(r"[0-9][0-9 .()/\u00a0-]{5,}")  # every run lies in one of these, which are found in a tenth of the time
_LONG_ENOUGH = re.compile(r"[0-9]{6}|(?:[0-9][^0-9]*){8}")  # the shortest are RFC and CURP with six in a row, DNI with eight
_BEFORE, _BEHIND = 32, 34  # characters around a run in which a number with letters (IBAN, CURP) begins and ends
_NOT_BEFORE = ("_", "/", "=", "&", "#", "$", "€", "£")
_NOT_BEHIND = ("_", "%", "€", "$", "£")
_NEAR = 60  # characters before a number in which a word may say what it is


def may_hold_numbers(data: bytes) -> bool:
    """False where no run of six digits stands; ``data`` is the text in UTF-8."""
    return b"000000" in data.translate(_DIGITS_LEFT, _BETWEEN)


def runs(text: str) -> list[Place]:
    """Where six digits or more stand together, whatever is between them."""
    return [run.span() for rough in _ROUGH_RUN.finditer(text) for run in _RUN.finditer(text, *rough.span())]


def numbers(text: str, near: Iterable[Place]) -> Iterator[Span]:
    """Cards, accounts and identity numbers at the runs of digits ``near``; where two overlap, the first one counts."""
    for run_start, run_end in near:
        if not _LONG_ENOUGH.search(text, run_start, run_end):
            continue
        start, end = max(0, run_start - _BEFORE), min(len(text), run_end + _BEHIND)
        # The dotless i, which patterns that look away from case take for an i, is none when case is folded.
        is_named = _NAMES.search(text[max(0, start - _NEAR) : end].casefold().replace("ı", "i")) is not None
        if not (_ANY_NUMBER if is_named else _ANY_ALONE).search(text, start, end):
            continue
        for kind in KINDS if is_named else _ALONE:
            for found in kind.pattern.finditer(text, start, end):
                if alone(text, *found.span()) and (span := _checked(kind, text, *found.span())):
                    yield span


def alone(text: str, start: int, end: int) -> bool:
    """Whether a number begins and ends there: no letter, digit or decimal goes on, and it is no price and no part of a link."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before[-1:].isalnum() or before[-1:] in _NOT_BEFORE or after[:1].isalnum() or after[:1] in _NOT_BEHIND:
        return False
    goes_on_before = before[-1:] in ("-", ".", ",") and before[:1].isalnum()
    return not goes_on_before and not (after[:1] in ("-", ".", ",", "/") and after[1:].isdigit())


def _checked(kind: Kind, text: str, start: int, end: int) -> Span | None:
    key = compact(text[start:end])
    if not kind.valid(key):
        # The words behind an account number that is written in blocks may look like more of its blocks.
        shorter = text.rfind(" ", start, end) if kind.name == "iban" else -1
        return _checked(kind, text, start, shorter) if shorter > 0 else None
    if kind.near and not kind.near.search(text, max(0, start - _NEAR), start):
        return None
    return Span(kind.check, start, end, kind.name, key)


def compact(number: str) -> str:
    return re.sub(r"[^0-9A-ZÑ&]", "", number.upper())


# ── cards, accounts, identity numbers ───────────────────────────────────────────────────────────────────────────────────

# What the numbers of each network begin with and how long they are; last the range for tests, of any length. https://en.wikipedia.org/wiki/Payment_card_number
_NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|"
    r"[68]\d)\d{11}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|50\d{14}|6\d{15}|400000\d{7,13}"
)


def _is_card(number: str) -> bool:
    return _NETWORKS.fullmatch(number) is not None and luhn.is_valid(number) and len(set(number)) > 1


def _is_clabe(number: str) -> bool:
    """Mexico's account number: 18 digits, the last from the others by the weights 3, 7, 1."""
    products = (int(digit) * weight % 10 for digit, weight in zip(number[:17], (3, 7, 1) * 6))
    return len(number) == 18 and (10 - sum(products) % 10) % 10 == int(number[17])


def _is_rfc(number: str) -> bool:
    return rfc.is_valid(number, validate_check_digits=True)


def _any(_number: str) -> bool:
    return True


def _word(*words: str) -> re.Pattern[str]:
    """A word that says what the number behind it is; a few letters more may stand between, but no digit."""
    return re.compile(rf"(?i)(?<!\w)(?:{'|'.join(words)})(?!\w)[^\n\d]{{0,25}}\Z")


def _any_of(kinds: Iterable[Kind]) -> re.Pattern[str]:
    """Matches where one of the kinds may: most runs of digits are of none, and are passed over with one search."""
    ordered = sorted(kinds, key=lambda kind: -kind.pattern.groups)  # references to groups count from the start
    return re.compile("|".join(kind.pattern.pattern for kind in ordered))


def _number(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z0-9])")


_ACCOUNT = ("cuenta", "clabe", "ccc", "cbu", "cvu", "account", "acct", "conta", "iban", "transferencia", "interbancaria")
_TAX = (
    "nif",
    "cif",
    r"n\.i\.f\.?",
    r"c\.i\.f\.?",
    "cuit",
    "cuil",
    "rut",
    "run",
    "nit",
    "ruc",
    "rfc",
    "cpf",
    "cnpj",
    "contribuinte",
    "fiscal",
    "tax",
)

_ID, _BANK = "identity-number", "bank-account"
_CONTROL_LETTER = "[A-HJ-NP-TV-Za-hj-np-tv-z]"
_CUENTA, _CUIT, _RUT = _word(*_ACCOUNT), _word("cuit", "cuil"), _word("rut", "run")
_DOCUMENT = _word("dni", r"d\.n\.i\.?", "c[ée]dula(?: de ciudadanía)?", "documento de identidad")

KINDS = (
    Kind("iban", _BANK, _number(r"[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?"), iban.is_valid, "==??0000*"),
    Kind("es.ccc", _BANK, _number(r"\d{4}[ -]?\d{4}[ -]?\d{2}[ -]?\d{10}"), ccc.is_valid, "9999####??##########", _CUENTA),
    Kind("ar.cbu", _BANK, _number(r"\d{8}[ -]?\d{14}"), cbu.is_valid, "9990###?#############?"),
    Kind("mx.clabe", _BANK, _number(r"\d{3}[ -]?\d{3}[ -]?\d{11}[ -]?\d"), _is_clabe, "999*?", _CUENTA),
    Kind("card", "card-number", _number(r"\d{4}(?:([ -]?)\d{4}\1\d{4}\1\d{1,7}|([ -]?)\d{6}\2\d{4,5})"), _is_card, "400000*?"),
    Kind("es.dni", _ID, _number(rf"(?:\d{{8}}|\d{{2}}\.\d{{3}}\.\d{{3}})[ -]?{_CONTROL_LETTER}"), dni.is_valid, "99######?"),
    Kind("es.nie", _ID, _number(rf"[XYZxyz][ -]?\d{{7}}[ -]?{_CONTROL_LETTER}"), nie.is_valid, "Z99#####?"),
    Kind(
        "es.cif", _ID, _number(r"[A-HJNPQRSUVW][ -]?\d{2}\.?\d{3}\.?\d{2}[ -]?[0-9A-J]"), cif.is_valid, "B00#####?", _word(*_TAX)
    ),
    Kind("mx.curp", _ID, _number(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d"), curp.is_valid, "XXXX800101HNE@@@#?"),
    Kind("mx.rfc", _ID, _number(r"[A-ZÑ&]{3,4}[ -]?\d{6}[ -]?[A-V1-9][A-Z1-9][0-9A]"), _is_rfc, "*800101@#?"),
    Kind(
        "mx.rfc",
        _ID,
        _number(r"[A-ZÑ&]{3,4}[ -]?\d{6}[ -]?[A-Z0-9]{3}"),
        rfc.is_valid,
        "*800101@#?",
        _word("rfc", r"r\.f\.c\.?"),
    ),
    Kind("br.cpf", _ID, _number(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), cpf.is_valid, "999######??"),
    Kind("br.cpf", _ID, _number(r"\d{11}|\d{9}-\d{2}"), cpf.is_valid, "999######??", _word("cpf")),
    Kind("br.cnpj", _ID, _number(r"\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}|\d{14}"), cnpj.is_valid, "99######0001??"),
    Kind("ar.cuit", _ID, _number(r"(?:2[03-7]|30|3[34])-\d{8}-\d"), cuit.is_valid, "2099######?"),
    Kind("ar.cuit", _ID, _number(r"\d{11}"), cuit.is_valid, "2099######?", _CUIT),
    Kind("cl.rut", _ID, _number(r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]"), rut.is_valid, "4*?"),
    Kind("cl.rut", _ID, _number(r"\d{7,8}-?[\dkK]"), rut.is_valid, "4*?", _RUT),
    Kind("co.nit", _ID, _number(r"\d{3}\.?\d{3}\.?\d{3}-?\d"), nit.is_valid, "999*?", _word("nit")),
    Kind("pe.ruc", _ID, _number(r"\d{11}"), ruc.is_valid, "1099######?", _word("ruc")),
    Kind("pt.nif", _ID, _number(r"\d{3} ?\d{3} ?\d{3}"), pt_nif.is_valid, "299#####?", _word("nif", "contribuinte")),
    Kind("fr.nir", _ID, _number(r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}"), nir.is_valid, "1990199######??"),
    Kind("us.ssn", _ID, _number(r"\d{3}-\d{2}-\d{4}"), ssn.is_valid, "9##0#####"),
    Kind(
        "us.ssn", _ID, _number(r"\d{9}|\d{3} \d{2} \d{4}"), ssn.is_valid, "9##0#####", _word("ssn", "social security(?: number)?")
    ),
    Kind("document", _ID, _number(r"\d{1,3}(?:\.?\d{3}){2,3}"), _any, "99*", _DOCUMENT),
    Kind(
        "passport",
        _ID,
        _number(r"[A-Z]{1,3}\d{6,8}|\d{9}"),
        _any,
        "*",
        _word("pasaporte", "passport", "passaporte", "passeport"),
    ),
)

_ALONE = tuple(kind for kind in KINDS if kind.near is None)
_ANY_ALONE, _ANY_NUMBER = _any_of(_ALONE), _any_of(KINDS)
# The words alone, in small letters, wherever they stand: a reason to look, no more.
_NAMES = re.compile(
    "|".join(sorted({kind.near.pattern.partition("(?!\\w)")[0].removeprefix("(?i)(?<!\\w)") for kind in KINDS if kind.near}))
)
