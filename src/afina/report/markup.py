"""HTML that cannot be broken by what is put into it: plain text is escaped where an element is built, and only there."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"br", "hr", "input", "link", "meta"})
# Control characters have no place in HTML; their pictures show that they were there. Lone surrogates cannot be written at all.
_SHOWN = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)} | {0x7F: 0x2421}
_SHOWN |= dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), 0xFFFD)


class Markup(str):
    """Text that is HTML already. Made by ``element`` and ``join`` and by nothing that comes from outside."""

    __slots__ = ()


def element(name: str, /, *children: object, **attributes: str | None) -> Markup:
    """``<name …>children</name>``; text children and attribute values are escaped.

    An attribute ``class_`` is written ``class``, ``aria_label`` ``aria-label``; one that is None is left out, one that is
    empty has its name only. Children may be text, Markup, None (nothing), and lists of these.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + (f'="{_text(value)}"' if value else "")
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: object) -> Markup:
    """Children one after the other."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(_text(children))
    if isinstance(children, Iterable):
        return Markup("".join(join(child) for child in children))
    raise TypeError(f"{children!r} is neither text nor markup")


def _text(text: str) -> str:
    return escape(text.replace("\r\n", "\n").translate(_SHOWN))
