from __future__ import annotations

import ast

from tools import translations
from tools.translations import Text


def problems(catalogue: str, *texts: str) -> list[str]:
    return list(translations.problems_of(catalogue, [Text(text, ("a.py",)) for text in texts]))


def test_a_translation_that_is_there_is_no_problem() -> None:
    assert problems('msgid "{n} rows\\n"\nmsgstr "{n} filas\\n"\n', "{n} rows\n") == []


def test_a_missing_an_empty_and_a_stale_one_are_told() -> None:
    catalogue = 'msgid "two"\nmsgstr ""\n\nmsgid "old"\nmsgstr "viejo"\n'
    assert problems(catalogue, "one", "two") == [
        "not translated (a.py): 'one'",
        "not translated (a.py): 'two'",
        "in no file any more: 'old'",
    ]


def test_other_placeholders_and_lost_white_space_are_told() -> None:
    assert "other placeholders" in problems('msgid "{n} rows"\nmsgstr "{m} filas"\n', "{n} rows")[0]
    assert "other placeholders" in problems('msgid "{n} rows"\nmsgstr "filas"\n', "{n} rows")[0]
    assert "other white space" in problems('msgid " or "\nmsgstr "o"\n', " or ")[0]


def test_placeholders_may_change_their_order_and_their_format() -> None:
    assert problems('msgid "{a} of {b:.0%}"\nmsgstr "de {b:.1%}, {a}"\n', "{a} of {b:.0%}") == []


def test_only_literals_in_the_door_are_texts() -> None:
    calls = translations.doors(ast.parse('_("a" "b")\nx._("c")\n_(f"{d}")\nother("e")'))
    assert [translations.literal(call) for call in calls] == ["ab", None]


def test_the_explanations_of_settings_are_texts() -> None:
    tree = ast.parse('class A:\n    """about A"""\n    x: int = 1\n    """what x\n    is"""\n    y: int = 2\n')
    assert list(translations.field_explanations(tree)) == ["what x is"]
