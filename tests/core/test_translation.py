from __future__ import annotations

import pytest

from afina.core import translation
from afina.core.translation import _, language, read_po

VARIABLES = ("AFINA_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture(autouse=True)
def _no_language(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_english_is_spoken_where_nothing_says_otherwise() -> None:
    assert language() == "en"
    assert _("there is no recipe {path}") == "there is no recipe {path}"


def test_the_first_variable_that_is_set_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "es_AR.UTF-8")
    assert language() == "es"
    monkeypatch.setenv("LANGUAGE", "fr:es")
    assert language() == "fr"
    monkeypatch.setenv("AFINA_LANG", "ES")
    assert language() == "es"


def test_spanish_is_spoken_to_those_who_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFINA_LANG", "es")
    assert _("there is no recipe {path}").format(path="a.yaml") == "no existe la receta a.yaml"


def test_a_text_without_translation_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFINA_LANG", "es")
    assert _("no catalogue has this") == "no catalogue has this"
    monkeypatch.setenv("AFINA_LANG", "C")
    assert _("there is no recipe {path}") == "there is no recipe {path}"


def test_a_catalogue_has_long_texts_comments_and_entries_that_are_not_translated_yet() -> None:
    text = (
        'msgid ""\nmsgstr ""\n"Language: es\\n"\n\n'
        '# a comment\nmsgid ""\n"one "\n"two\\n"\nmsgstr "uno dos\\n"\n\n'
        'msgid "quote \\"x\\""\nmsgstr "comilla «x»"\n\nmsgid "not yet"\nmsgstr ""\n'
    )
    assert read_po(text) == {"one two\n": "uno dos\n", 'quote "x"': "comilla «x»"}


def test_every_catalogue_can_be_read() -> None:
    assert len(translation.catalogue("es")) > 50
