from __future__ import annotations

import codecs
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data.read.encoding import as_utf8, decode, find_encoding, telling_sample
from tests.data.read.written import problem_of, records_of, rows_of

SPANISH = "¿Cuál es el horario? Abrimos a las 9 de la mañana; los sábados también, según el año.\n"
TEXTS = {
    "ru": "Привет, как дела? Магазин открыт с девяти утра до шести вечера каждый день недели.\n",
    "ja": "こんにちは。お店は午前九時から午後六時まで開いています。日本語のテキストです。\n",
    "zh": "你好，我们的商店每天早上九点到下午六点营业。这是一个中文文本。\n",
    "pl": "Cześć, sklep jest otwarty od dziewiątej do osiemnastej każdego dnia. Zażółć gęślą jaźń.\n",
    "el": "Καλημέρα, το κατάστημα είναι ανοιχτό από τις εννέα έως τις έξι.\n",
    "ko": "안녕하세요. 가게는 아침 아홉 시부터 저녁 여섯 시까지 엽니다.\n",
}


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_every_way_to_write_unicode_is_found_with_and_without_a_mark(name: str) -> None:
    assert decode(SPANISH.encode(name))[0] == SPANISH


@pytest.mark.parametrize("name", ["cp1252", "iso8859-1", "iso8859-15", "cp850", "mac_roman"])
def test_spanish_is_read_in_the_encodings_in_which_it_is_written(name: str) -> None:
    assert decode(SPANISH.encode(name))[0] == SPANISH


@pytest.mark.parametrize(
    ("language", "name"),
    [
        *(("ru", name) for name in ("cp1251", "koi8-r", "utf-16-le")),
        *(("ja", name) for name in ("cp932", "euc_jp", "iso2022_jp", "utf-16-be")),
        *(("zh", name) for name in ("gb18030", "big5hkscs", "utf-16-le")),
        ("pl", "cp1250"),
        *(("el", name) for name in ("cp1253", "iso8859-7")),
        *(("ko", name) for name in ("cp949", "euc_kr")),
    ],
)
def test_other_languages_are_read_in_their_usual_encodings(language: str, name: str) -> None:
    text = json.dumps([{"prompt": TEXTS[language], "completion": TEXTS[language]}] * 4, ensure_ascii=False)
    assert decode(text.encode(name, "ignore"))[0] == text.encode(name, "ignore").decode(name)


def test_what_the_recipe_says_is_taken() -> None:
    assert decode(b"\xa4", "iso8859-15") == ("€", "iso8859-15")
    assert decode(codecs.BOM_UTF16_BE + "ñ".encode("utf-16-be"), "utf-16") == ("ñ", "utf-16-be")
    assert rows_of(b'{"prompt": "\xa4", "completion": "x"}', encoding="latin9") == [(1, {"prompt": "€", "completion": "x"})]


def test_an_encoding_that_does_not_exist_is_an_error() -> None:
    error = problem_of("{}", encoding="utf8mb4")
    assert error.what == "x.jsonl: encoding: 'utf8mb4' is the name of no encoding"
    assert "leave it out" in error.fix


def test_bytes_that_do_not_fit_are_told_with_their_line() -> None:
    with pytest.raises(DataError) as caught:
        decode(b"a\n\xe1", "utf-8")
    assert caught.value.what == "line 2: byte 3 (0xe1) is not UTF-8"


def test_bytes_that_are_no_text_are_refused() -> None:
    error = problem_of(bytes(range(256)) * 40, "x.csv")
    assert error.what == "x.csv: the bytes are no text in an encoding that is known"


def test_a_few_wrong_bytes_do_not_make_a_text_in_utf_8_another_encoding() -> None:
    assert find_encoding((SPANISH * 3).encode() + b"\xe1 \xf1 a\n") == ("utf-8", 0)


def test_the_first_letter_that_is_not_ascii_may_stand_far_behind() -> None:
    lines = b'{"prompt": "a", "completion": "b"}\n' * 40_000
    records = records_of(lines + '{"prompt": "añadir", "completion": "sí"}\n'.encode("cp1252"))
    assert records.encoding == "cp1252"
    assert records.notes == ["its letters are written in cp1252"]
    assert getattr(list(records.items)[-1], "value", None) == {"prompt": "añadir", "completion": "sí"}


def test_a_sample_shows_what_is_not_ascii() -> None:
    sample = telling_sample(io.BytesIO(b"a\n" * 100_000 + "ñ\n".encode("cp1252") + b"a\n" * 100_000))
    assert find_encoding(sample) == ("cp1252", 0)


@given(st.text(), st.sampled_from(["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]))
def test_wide_letters_become_utf_8_to_the_letter(text: str, name: str) -> None:
    data = text.encode(name, "surrogatepass")
    stream, codec = as_utf8(io.BytesIO(data), name)
    assert codec == "utf-8"
    expected = text.encode("utf-8", "surrogatepass")
    if all(not "\ud800" <= letter <= "\udfff" for letter in text):
        assert stream.read() == expected


@given(st.binary(max_size=200), st.sampled_from(["utf-16-le", "utf-32-be"]))
def test_what_is_no_letter_in_utf_16_becomes_a_byte_that_is_none(data: bytes, name: str) -> None:
    got = as_utf8(io.BytesIO(data), name)[0].read()
    try:
        assert got == data.decode(name).encode()
    except UnicodeDecodeError:
        assert b"\xff" in got


@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    try:
        text, name = decode(data)
    except DataError as error:
        assert error.fix
    else:
        assert text.encode(name, "strict") in data or name.startswith(
            ("utf-16", "utf-32", "iso2022", "gb18030", "big5", "euc", "cp9")
        )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["utf-8", "utf-16", "cp1252"])
def test_a_table_is_read_in_every_encoding_and_with_every_line_end(name: str, end: str) -> None:
    text = end.join(["prompt;completion", *["¿Qué?;Año"] * 3, ""])
    records = records_of(text.encode(name), "x.csv")
    assert [getattr(item, "value", None) for item in records.items] == [{"prompt": "¿Qué?", "completion": "Año"}] * 3
