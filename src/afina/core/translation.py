"""The one door through which every text for the user passes.

The language follows ``AFINA_LANG``, then the usual ``LANGUAGE``, ``LC_ALL``, ``LC_MESSAGES`` and ``LANG``. A text without
translation is shown in English. Catalogues are ``core/locale/<language>.po``, read as they are: nothing has to be compiled.
"""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path


def _(text: str) -> str:
    """``text`` in the user's language. Placeholders are filled afterwards: ``_("{n} rows").format(n=3)``."""
    return catalogue(language()).get(text, text)


def language() -> str:
    """The two letters of the user's language, ``en`` where nothing says otherwise."""
    for variable in ("AFINA_LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return value.split(":")[0][:2].lower()
    return "en"


@cache
def catalogue(code: str) -> dict[str, str]:
    """Text → translation of one language; empty where there is no catalogue."""
    path = Path(__file__).parent / "locale" / f"{code}.po"
    return read_po(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_po(text: str) -> dict[str, str]:
    """The entries of a gettext ``.po`` file that have a translation. No plurals, no contexts: we use none."""
    entries: dict[str, str] = {}
    parts: dict[str, list[str]] = {"msgid": [], "msgstr": []}
    field = ""

    def close() -> None:
        source, target = "".join(parts["msgid"]), "".join(parts["msgstr"])
        if source and target:
            entries[source] = target
        parts["msgid"], parts["msgstr"] = [], []

    for line in text.splitlines():
        if line.startswith("msgid "):
            close()
        if line.startswith(("msgid ", "msgstr ")):
            field, _space, quoted = line.partition(" ")
            parts[field].append(ast.literal_eval(quoted))
        elif line.startswith('"'):
            parts[field].append(ast.literal_eval(line))
    close()
    return entries
