from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.report.page import SHOWN_ANSWERS, SHOWN_ROWS, Exchange, Given, Page, Side, Stage, draw, headline
from tests.report.reading import read

NOTHING_YET = Page(
    language="en",
    name="soporte",
    headline="The examples are prepared.",
    facts=(("base", "tiny"),),
    contenders=(),
    measures=(),
    costs=(),
    comparison_notes=(),
    exchanges=(),
    curve=None,
    training=(),
    ladder_heads=(),
    ladder=(),
    ladder_notes=(),
    sides=(Side("training", "to learn from", 240, 15204, 6120),),
    refused={},
    recipe="name: soporte\n",
    files=(("prepare/findings.jsonl", 0),),
    folder="runs/soporte",
    stages=(Stage("prepare", 0.8, "2026-01-01 10:00:00", "done"),),
    versions={"python": "3.11.7"},
    commands=(("afina train soporte", "train the adapter"),),
    written="afina",
)


def exchange(text: str, *, obeyed: bool | None = True) -> Exchange:
    given = Given("tuned", "tuned", text, obeyed, exact=False, ended=True)
    return Exchange(source="a/b.jsonl:1", earlier=(("system", text),), question=text, expected=text, given=(given,))


def test_a_run_that_is_only_prepared_names_the_commands_of_what_is_missing() -> None:
    text = read(draw(NOTHING_YET)).text
    assert "afina compare soporte" in text
    assert "Nothing has been trained yet. afina train soporte" in text
    assert "No row was refused" in text


def test_the_page_needs_nothing_from_outside_and_runs_nothing() -> None:
    page = read(draw(replace(NOTHING_YET, exchanges=(exchange("<img src=//x onerror=alert(1)>"),))))
    assert not page.all("script") + page.all("link") + page.all("img") + page.all("iframe")
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))
    assert not [name for _tag, attributes in page.tags for name in attributes if name.startswith("on") or name == "src"]
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in draw(NOTHING_YET)
    assert "@import" not in draw(NOTHING_YET)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip))
@settings(max_examples=40)
def test_whatever_is_in_an_answer_is_text_on_the_page(text: str) -> None:
    plain = read(draw(replace(NOTHING_YET, exchanges=(exchange("plain"),))))
    page = read(
        draw(replace(NOTHING_YET, name=text, headline=text, exchanges=(exchange(text),), refused={text: ((text, text),)}))
    )
    extra = len(page.tags) - len(plain.tags)
    assert extra == len(("details", "summary", "b", "span", "ul", "li", "code")), "no element but those of the refused row"
    assert page.text.count(text) >= 7


def test_an_answer_names_its_file_and_keeps_the_whole_path_at_hand() -> None:
    page = read(draw(replace(NOTHING_YET, exchanges=(exchange("x"),))))
    assert "b.jsonl:1" in page.text
    assert page.all("code", "place") == [{"class": "place", "title": "a/b.jsonl:1"}]


def test_whether_the_style_is_obeyed_is_a_word_and_a_mark() -> None:
    texts = {
        obeyed: read(draw(replace(NOTHING_YET, exchanges=(exchange("x", obeyed=obeyed),)))).text for obeyed in (True, False, None)
    }
    assert "✓ style obeyed" in texts[True]
    assert "✗ style not obeyed" in texts[False]
    assert "style" not in texts[None]


def test_an_empty_answer_is_said_to_be_empty() -> None:
    assert read(draw(replace(NOTHING_YET, exchanges=(exchange(" \n"),)))).text.count("(empty)") == 2


def test_many_answers_wait_behind_a_line_and_none_is_left_out() -> None:
    many = tuple(exchange(f"answer-{number}") for number in range(SHOWN_ANSWERS + 12))
    page = read(draw(replace(NOTHING_YET, exchanges=many)))
    assert "12 more" in page.text
    assert len(page.all("article")) == len(many)


def test_refused_rows_that_are_not_listed_are_counted() -> None:
    rows = tuple((f"a.jsonl:{number}", "no answer") for number in range(SHOWN_ROWS + 30))
    text = read(draw(replace(NOTHING_YET, refused={"no-answer": rows}))).text
    assert "230 refused rows" in text
    assert "and 30 more, all in prepare/findings.jsonl" in text


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        (["better"] * 6, "On 30 held-out examples the tuned model is better than the base in 6 of 6 measures."),
        (["worse", "too close to tell"], "in 0 of 2 measures, worse in 1, too close to tell in 1."),
    ],
)
def test_the_headline_says_what_the_verdicts_say(verdicts: list[str], sentence: str) -> None:
    assert headline(verdicts, 30).endswith(sentence)
