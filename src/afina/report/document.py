"""What all pages are made in: one HTML file that needs no network, no script and no second file."""

from __future__ import annotations

from collections.abc import Sequence

from afina.core.translation import _
from afina.report.markup import Markup, element
from afina.report.style import STYLE


def document(
    language: str,
    name: str,
    headline: str,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[tuple[str, str, Markup]],
    footer: str,
) -> str:
    """The whole document. ``sections``: id, title and content of each."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        # Nothing may be fetched or run, whatever an answer holds.
        element("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name} · afina"),
        element("style", Markup(STYLE)),
    )
    navigation = element(
        "nav", [element("a", title, href=f"#{place}") for place, title, _content in sections], aria_label=_("sections")
    )
    body = element(
        "body",
        element(
            "header",
            element("p", "afina", class_="brand"),
            element("h1", name),
            element("p", headline, class_="headline"),
            pairs(facts, "facts"),
            navigation,
        ),
        element("main", [element("section", element("h2", title), content, id=place) for place, title, content in sections]),
        element("footer", footer),
    )
    return f"<!doctype html>\n{element('html', head, body, lang=language)}\n"


def pairs(pairs: Sequence[tuple[str, str]], kind: str) -> Markup:
    """Labels with their values."""
    return element("dl", [element("div", element("dt", label), element("dd", value)) for label, value in pairs], class_=kind)


def in_two_sizes(wide: Markup, narrow: Markup) -> list[Markup]:
    """Two drawings of the same: text in an SVG shrinks with it, and would not be readable on a phone."""
    return [element("div", wide, class_="wide"), element("div", narrow, class_="narrow")]
