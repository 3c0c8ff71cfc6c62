"""Telephone numbers, by the numbering plans of phonenumbers.

With a country's prefix (+34, 0052) a number speaks for itself. Without one, either a word beside it says that it is a telephone,
or its digits are grouped exactly as its country groups them. Dates, years, thousands, decimals and sums are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import phonenumbers

from afina.data.clean.language import language_of
from afina.data.clean.numbers import Place, Span, alone

# Where a number without a country's prefix may be from, by the language of the text.
_REGIONS = {
    "es": ("ES", "MX", "AR", "CO", "CL", "PE", "UY", "EC", "US"),
    "ca": ("ES",),
    "gl": ("ES",),
    "eu": ("ES",),
    "en": ("US", "GB", "AU", "IE"),
    "pt": ("BR", "PT"),
    "fr": ("FR", "BE", "CH", "CA"),
    "de": ("DE", "AT", "CH"),
    "it": ("IT", "CH"),
    "nl": ("NL", "BE"),
}
_UNKNOWN = ("ES", "US", "MX", "AR", "CO", "BR", "GB")
_SHORTEST, _LONGEST = 7, 15
_PREFIX = re.compile(r"(?:\+|\b00 ?)(?:\([0-9]{1,3}\) ?|[0-9][0-9 ().-]{0,5})?\(?\Z|\(\Z")
# Words beside a number that say what it is: whole ones, and beginnings of ones.
_WORDS = frozenset(
    "tel tels telf telfs tlf tlfn tlfno tfno móvil movil móviles celular celulares cel fijo fax whatsapp marca marcar marcando "
    "phone phones cellphone mobile call called calling dial sms telemóvel ligue téléphone appelez appeler portable handy anrufen "
    "cellulare wasap".split()
)
_BEGINNINGS = ("teléf", "telef", "telep", "llam", "llám")
_OTHER_WORDS = frozenset(
    "pedido orden order ref referencia reference factura invoice isbn issn doi sku id código codigo code seguimiento tracking "
    "ticket "
    "cuenta account artículo articulo serial serie expediente lote póliza poliza caso case compra purchase".split()
)
_WORD = re.compile(r"[^\W\d_]+")
_DATE = re.compile(
    r"(?:19|20)\d\d[-/. ](?:0?[1-9]|1[0-2])[-/. ]|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|1[0-2])[-/.](?:19|20)?\d\d\b"
)
_YEARS = re.compile(r"(?:1\d|20)\d\d[ ]?[-/– ][ ]?(?:1\d|20)\d\d\Z")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:([ .\u00a0])[0-9]{3})(?:\1[0-9]{3})*\Z")
_PLAIN = re.compile(r"[0-9]+(?:[./][0-9]+)?\Z")  # without a sign between its digits, a decimal, a fraction
_SUM_BEFORE = re.compile(r"[=<×÷+−#] ?\Z")  # a result, or the next number of a sum
_SUM_BEHIND = re.compile(r" ?[=>*×÷+−]")
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z")  # of a computer
_AROUND = 60  # characters before a number in which a word may say that it is a telephone
_BESIDE = 25  # characters behind it, and those before it in which a word may say that it is something else


def phones(text: str, near: Iterable[Place]) -> Iterator[Span]:
    """Telephone numbers among the runs of digits ``near``."""
    for start, end in near:
        if found := _phone(text, start, end):
            yield found


def _phone(text: str, start: int, end: int) -> Span | None:
    if prefix := _PREFIX.search(text, max(0, start - 8), start):
        start = prefix.start()
    written = text[start:end]
    if written.startswith("(") and ")" not in written:
        start += 1
        written = text[start:end]
    if not alone(text, start, end) or not _SHORTEST <= sum(map(str.isdigit, written)) <= _LONGEST:
        return None
    if "/" in written or _SUM_BEFORE.search(text, max(0, start - 3), start) or _SUM_BEHIND.match(text, end):
        return None
    if _DATE.match(written) or _YEARS.match(written) or _ADDRESS.match(written):
        return None
    abroad = written[0] == "+" or written.startswith("00")
    if not abroad and not _OTHER_WORDS.isdisjoint(_WORD.findall(text[max(0, start - _BESIDE) : start].lower())[-2:]):
        return None
    said = abroad or _says_telephone(text[max(0, start - _AROUND) : start] + " " + text[end : end + _BESIDE])
    if not said and (_PLAIN.match(written) or _THOUSANDS.match(written)):
        return None
    regions = ("ZZ",) if abroad else _REGIONS.get(language_of(text), _UNKNOWN)
    international = _international(written, regions, not said)
    return Span("phone", start, end, "phone", international) if international else None


def _says_telephone(around: str) -> bool:
    words = _WORD.findall(around.lower())
    return not _WORDS.isdisjoint(words) or any(word.startswith(_BEGINNINGS) for word in words)


@lru_cache(maxsize=4096)
def _international(written: str, regions: tuple[str, ...], as_grouped: bool) -> str:
    """The number as +34612345678; "" where it is none of these regions. ``as_grouped``: its digits must stand in their groups."""
    valid = []
    for region in regions:
        try:
            number = phonenumbers.parse("+" + written[2:] if written.startswith("00") else written, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            valid.append(number)
    grouped = [number for number in valid if _grouped(written, number)]
    chosen = grouped or ([] if as_grouped else valid)
    return phonenumbers.format_number(chosen[0], phonenumbers.PhoneNumberFormat.E164) if chosen else ""


def _grouped(written: str, number: phonenumbers.PhoneNumber) -> bool:
    """Whether the digits stand in the groups in which the country writes them: ``(555) 123-4567`` and not ``55512-34567``."""
    theirs = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    return re.findall("[0-9]+", written) == re.findall("[0-9]+", theirs)
