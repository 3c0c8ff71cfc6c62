"""A page as a browser takes it apart: elements with their attributes, and the text that is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "input", "link"}


@dataclass
class Read(HTMLParser):
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag and kind in (attributes.get("class") or "")]


def read(document: str) -> Read:
    page = Read()
    page.feed(document)
    page.close()
    assert page.open == [], "an element is not closed"
    return page
