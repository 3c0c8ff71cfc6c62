"""Personal data: hints in reports, and others in its place that are right by their own rules and nobody's."""

from __future__ import annotations

import itertools
import re

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn

from afina.data.clean.numbers import KINDS, compact
from afina.data.clean.personal import again, mask, personal
from afina.data.clean.replace import redacted

KEY = b"3"
NUMBERS = {
    "ar.cbu": "2850590940090418135201",
    "ar.cuit": "20-26756539-3",
    "br.cnpj": "11.444.777/0001-61",
    "br.cpf": "529.982.247-25",
    "card": "4111 1111 1111 1111",
    "cl.rut": "12.345.678-5",
    "co.nit": "NIT 900.123.456-8",
    "document": "DNI 30.123.456",
    "es.ccc": "cuenta 2100 0418 45 0200051332",
    "es.cif": "CIF B58818501",
    "es.dni": "12345678Z",
    "es.nie": "X1234567L",
    "fr.nir": "2 95 10 99 126 111 93",
    "iban": "ES91 2100 0418 4502 0005 1332",
    "mx.clabe": "CLABE 032180000118359719",
    "mx.curp": "HEGG560427MVZRRL04",
    "mx.rfc": "GODE561231GR8",
    "passport": "passport AAB123456",
    "pe.ruc": "RUC 20512333797",
    "pt.nif": "NIF 501 964 843",
    "us.ssn": "536-90-4399",
}


def other(text: str, key: bytes = KEY) -> str:
    return redacted(text, personal(text), key)


def test_every_kind_of_number_has_an_example() -> None:
    assert sorted({kind.name for kind in KINDS}) == sorted(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_becomes_another_of_its_kind_in_the_same_form(name: str) -> None:
    text = NUMBERS[name]
    (span,) = personal(text)
    assert span.kind == name
    made = other(text)
    assert made != text
    assert re.sub(r"\w", "x", made) == re.sub(r"\w", "x", text)
    kind = next(kind for kind in KINDS if kind.name == name)
    if name != "us.ssn":  # there, no number of another's can be right: all right ones may be given out
        assert kind.valid(compact(made[span.start : span.end]))


@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "378282246310005", "6011 1111 1111 1117"])
def test_a_card_becomes_one_of_the_range_for_tests(number: str) -> None:
    made = compact(other(number))
    assert made.startswith("400000")
    assert luhn.is_valid(made)


def test_an_account_becomes_one_of_no_bank() -> None:
    made = compact(other("ES91 2100 0418 4502 0005 1332"))
    assert made[:2] == "ES"
    assert made[4:8] == "0000"
    assert iban.is_valid(made)


@pytest.mark.parametrize(
    "text",
    ["+34 612 345 678", "Tel. 91 123 45 67", "+52 55 1234 5678", "+54 9 11 2345 6789", "+44 20 7946 0123", "+55 11 91234-5678"],
)
def test_a_telephone_becomes_one_that_nobody_has(text: str) -> None:
    made = other(text)
    assert made != text
    assert re.sub("[0-9]", "0", made) == re.sub("[0-9]", "0", text)
    if made.startswith("+"):
        assert not phonenumbers.is_valid_number(phonenumbers.parse(made, "ZZ"))


def test_a_north_american_telephone_becomes_one_for_films() -> None:
    assert re.fullmatch(r"Call \(\d{3}\) 555-01\d\d", other("Call (415) 555-2671"))


def test_the_same_is_replaced_by_the_same_however_it_is_written() -> None:
    first, second = other("Ana.Garcia@correo.es y ana.garcia@correo.es").split(" y ")
    assert first == second
    assert first.endswith("@example.com")
    a, b, c = (
        re.sub("[^0-9]", "", part)[-9:] for part in other("tel 612 345 678, móvil: 612345678, +34 612 34 56 78").split(",")
    )
    assert a == b == c
    assert other("ana@correo.es") != other("eva@correo.es")
    assert other("ana@correo.es", b"4") != other("ana@correo.es", b"3")


def test_a_key_keeps_its_beginning_and_a_key_file_its_frame() -> None:
    assert re.fullmatch(r"ghp_[a-z0-9]{36}", other("ghp_abcdefghijklmnopqrstuvwxyz0123456789"))
    made = other("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----\nthe end")
    assert re.fullmatch(r"-----BEGIN RSA PRIVATE KEY-----\n[A-Z][a-zA-Z0-9]{16}\n-----END RSA PRIVATE KEY-----\nthe end", made)
    assert "MIIEpAIBAAKCAQEA7" not in made


def test_a_report_shows_hints_only() -> None:
    assert mask("jose@correo.com, tel. 612 345 678") == "j•••@•••.com, tel. ••• ••• •78"
    assert mask("DNI 12345678Z; password: hunter2x") == "DNI •••••••8Z; password: ••••••"
    assert mask("nothing to hide in 2024") == "nothing to hide in 2024"


def test_what_is_known_from_one_text_is_found_in_another() -> None:
    asked = "Mi teléfono es 612345678"
    known = {asked[span.start : span.end]: span for span in personal(asked)}
    answer = "El 612345678 ya está; el 6123456789 no."
    assert personal(answer) == []
    assert [answer[span.start : span.end] for span in again(answer, [], known)] == ["612345678"]


@given(st.text(alphabet="0123456789 .-/()+AZaz@:#€=\n", max_size=60))
def test_spans_never_overlap_and_replacing_keeps_all_around_them(text: str) -> None:
    spans = personal(text)
    assert all(one.end <= two.start for one, two in itertools.pairwise(spans))
    made = redacted(text, spans, KEY)
    if not spans:
        assert made == text
    else:
        assert made.startswith(text[: spans[0].start])
        assert made.endswith(text[spans[-1].end :])
