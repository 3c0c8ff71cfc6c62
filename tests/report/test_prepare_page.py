import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.report.prepare_page import differences, draw
from afina.report.prepared import FileFlow, Found, FoundRow, Kind, PreparePage, ShownRow, Side, Step, Twins
from tests.report.reading import read
from tests.report.shop import SHOP

NOTHING = replace(
    SHOP,
    files=(),
    documents=(),
    flow=(Step("read", 0),),
    sides=(),
    lengths=None,
    languages=(),
    kinds=(),
    found=(),
    duplicates=(),
    contradictions=(),
    leaks=(),
    shown=(),
    settings=(),
)


@pytest.fixture(scope="module")
def shop() -> str:
    return draw(SHOP)


def test_the_page_needs_nothing_from_outside_and_runs_nothing(shop: str) -> None:
    page = read(shop)
    assert not page.all("script") + page.all("link") + page.all("img") + page.all("iframe")
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))
    assert not [name for _tag, attributes in page.tags for name in attributes if name.startswith("on") or name == "src"]
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in shop


def test_no_id_is_there_twice_and_every_link_leads_to_one(shop: str) -> None:
    page = read(shop)
    ids = [attributes["id"] for _tag, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes.get("href") or attributes.get("xlink:href") for tag, attributes in page.tags if tag in ("a", "use")]
    assert {f"#{name}" for name in ids} >= set(links)


def test_the_same_data_gives_the_same_bytes(shop: str) -> None:
    assert draw(SHOP) == shop


def test_everything_that_is_known_is_on_the_page(shop: str) -> None:
    text = read(shop).text
    for known in (
        SHOP.verdict, "viejo.csv", "cp1252", "exactly two columns with text", "albarán escaneado.pdf", "page images without text",
        "412 rows read", "duplicate  −22", "11 changed", "held out  36", "52,310", "Spanish", "envío · pedido", "34 %",
        "¿Cuándo llega mi pedido?", "devoluciÃ³n → devolución", "a quotation mark is opened", "91 % alike", "test.jsonl:3",
        "afina train tienda", "1,024 tokens", "2026-01-01 10:00:00",
    ):  # fmt: skip
        assert known in text, known


def test_a_run_without_any_row_is_a_page_that_says_so() -> None:
    text = read(draw(NOTHING)).text
    assert "0 rows read" in text
    assert "No row is left to show." in text
    assert "Nothing was found wanting." in text
    assert "too few questions" in text


def test_every_drawing_says_in_words_what_it_shows(shop: str) -> None:
    drawings = [svg for svg in read(shop).all("svg") if svg.get("role") == "img"]
    assert len(drawings) == 4, "flow and lengths, each wide and narrow"
    assert all(svg["aria-label"] for svg in drawings)


def test_what_is_learned_is_marked_by_an_element_and_not_by_colour_alone(shop: str) -> None:
    found = re.findall(r'<mark class="learned">(.*?)</mark>', shop, re.DOTALL)
    learned = [text for row in SHOP.shown for text, trained in row.segments if trained]
    assert [text.replace("&lt;", "<").replace("&gt;", ">") for text in found] == learned
    assert '.learned::before { content: "⟦"; }' in shop


def test_a_rendered_row_is_shown_letter_for_letter() -> None:
    row = ShownRow("a.jsonl:1", "val", (("  <s>\n\n\tuser ", False), ("yes</s>  ", True)))
    page = read(draw(replace(NOTHING, shown=(row,))))
    assert "  <s>\n\n\tuser yes</s>  " in page.text


def test_findings_stand_by_severity_and_then_by_their_number(shop: str) -> None:
    order = re.findall(r"<summary><b>([a-z-]+)</b>", shop)
    assert order == ["broken-row", "bank-account", "identity-number", "duplicate", "mojibake", "placeholder", "near-duplicate"]


def test_rows_that_are_not_listed_are_counted_and_their_file_is_named() -> None:
    found = Found("empty", "error", "drop", "no text", 1234, (FoundRow("a.csv:1", "no text"),))
    text = read(draw(replace(NOTHING, found=(found,)))).text
    assert "and 1,233 more, all in runs/tienda/prepare/findings.jsonl" in text
    complete = replace(found, count=1)
    assert "more, all in" not in read(draw(replace(NOTHING, found=(complete,)))).text


@pytest.mark.parametrize(
    ("action", "word"),
    [("warn", "kept"), ("fix", "changed"), ("drop", "left out"), ("stop", "ends the run"), ("off", "not looked at")],
)
def test_what_was_done_is_said_in_a_word(action: str, word: str) -> None:
    found = Found("empty", "error", action, "no text", 1, ())
    assert f'<span class="done">{word}</span>' in draw(replace(NOTHING, found=(found,)))


def test_stages_without_a_loss_are_left_out_of_the_flow() -> None:
    flow = (Step("read", 9), Step("reading", 9), Step("text", 8, (("refusal", 1),)), Step("tokens", 8), Step("set", 8))
    text = read(draw(replace(NOTHING, flow=flow, sides=(Side("train", 8, 8, 80, 40),)))).text
    assert "8 after the checks of the text" in text
    assert "could be read" not in text
    assert "after comparing" not in text
    assert "training  8" in text


def test_rows_that_no_check_left_out_are_in_the_flow_too() -> None:
    text = read(draw(replace(NOTHING, flow=(Step("read", 90), Step("limit", 50))))).text
    assert "not taken  −40" in text
    assert "50 taken (data.limit)" in text


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip))
@settings(max_examples=12)
def test_whatever_is_in_the_data_is_text_on_the_page(text: str) -> None:
    def filled(text: str) -> PreparePage:
        return replace(
            NOTHING,
            name=text,
            verdict=text,
            files=(FileFlow(text, text, text, text, text, 1, 1, 0, text),),
            kinds=(Kind((text,), 1.0, 1, (text,)),),
            found=(Found("empty", "error", "drop", text, 1, (FoundRow(text, text, text),)),),
            shown=(ShownRow(text, "train", ((text, True),)),),
            settings=((text, text),),
        )

    plain, page = read(draw(filled("plain"))), read(draw(filled(text)))
    assert [tag for tag, _attributes in page.tags] == [tag for tag, _attributes in plain.tags]
    assert page.text.count(text) >= 14


words = st.lists(st.sampled_from(["uno", "dos", "tres", " ", "\n", "¿", "?"]), max_size=30).map("".join)


@given(words, words)
def test_differences_keep_both_texts_and_mark_what_the_other_has_not(left: str, right: str) -> None:
    first, second = differences(left, right)
    assert ("".join(text for text, _marked in first), "".join(text for text, _marked in second)) == (left, right)
    same = ["".join(text for text, marked in parts if not marked) for parts in (first, second)]
    assert same[0] == same[1]
    if left == right:
        assert not [text for text, marked in (*first, *second) if marked]


def test_differences_of_words_are_marked() -> None:
    assert differences("tienes 30 días", "tienes 14 días")[1] == [("tienes ", False), ("14", True), (" días", False)]


def test_very_long_texts_are_shown_whole_and_not_compared() -> None:
    long = "palabra " * 20_000
    assert differences(long, long + "x") == ([(long, False)], [(long + "x", False)])


def test_rows_that_are_the_same_are_said_to_be() -> None:
    twins = (Twins("a.csv:1", "b.csv:2", "x", "x", 1.0), Twins("a.csv:3", "b.csv:4", "x", "y", 0.97))
    text = read(draw(replace(NOTHING, leaks=twins))).text
    assert "the same, letter for letter" in text
    assert "97 % alike" in text


def test_many_pairs_wait_behind_a_line_and_none_is_left_out() -> None:
    twins = tuple(Twins(f"a.csv:{line}", f"b.csv:{line}", "x", "y", 0.9) for line in range(20))
    page = read(draw(replace(NOTHING, duplicates=twins)))
    assert "14 more" in page.text
    assert len(page.all("article", "twins")) == 20
