import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.report.markup import Markup, element, join
from tests.report.reading import read

plain = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"))


@given(plain)
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    page = read(element("p", text))
    assert [tag for tag, _attributes in page.tags] == ["p"]
    assert page.text == text


@given(plain.filter(bool))
def test_any_attribute_comes_out_as_it_went_in(text: str) -> None:
    assert read(element("p", title=text)).tags == [("p", {"title": text})]


@given(st.text(st.characters(exclude_categories=())))
def test_everything_can_be_written_as_utf_8(text: str) -> None:
    element("p", text, title=text).encode("utf-8")


def test_a_control_character_is_shown_as_its_picture() -> None:
    assert element("p", "a\x1b[31m\x00") == "<p>a␛[31m␀</p>"


def test_markup_is_not_escaped_again_and_text_is() -> None:
    assert element("p", element("b", "<"), [" & ", None]) == "<p><b>&lt;</b> &amp; </p>"


def test_attributes_are_named_as_in_html() -> None:
    assert (
        element("path", class_="a", aria_hidden="true", d="M0", style=None) == '<path class="a" aria-hidden="true" d="M0"></path>'
    )
    assert element("details", open="") == "<details open></details>"
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_what_is_neither_text_nor_markup_is_refused() -> None:
    with pytest.raises(TypeError, match="neither text nor markup"):
        join(3)
    assert isinstance(join("<"), Markup)
