"""Every check: its name, why it is made, how bad a find is, and what can be done about it.

The guide has a section for each (``docs/en/checks.md``, ``docs/es/checks.md``), and ``data.checks`` in the recipe switches it:
``data: {checks: {near-duplicate: drop, refusal: off}}``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from afina.core.translation import _

Severity = Literal["error", "warning", "info"]
Action = Literal[
    "off", "warn", "fix", "drop", "stop"
]  # look away; tell; change the text and tell; leave the row out; end the run
Scope = Literal["reading", "text", "tokens", "set"]  # when it is made: while reading, on one row, on its tokens, on all rows

# What `redact: true` replaces.
PERSONAL = frozenset({"email", "phone", "card-number", "bank-account", "identity-number", "secret"})


@dataclass(frozen=True)
class Check:
    """One check. ``actions``: what the recipe may choose, the default first; a single one cannot be switched."""

    id: str
    scope: Scope
    severity: Severity
    actions: tuple[Action, ...]
    reason: str  # one line: what is wrong with such a row; marked for translation, shown through ``_``


def checks() -> dict[str, Check]:
    """All checks by their names, in the order in which they are made; reasons in the user's language."""
    return {check.id: check for check in _checks()}


def _checks() -> tuple[Check, ...]:
    keep_or_drop: tuple[Action, ...] = ("warn", "drop", "off")
    personal: tuple[Action, ...] = ("warn", "fix", "drop", "off")
    return (
        # ── reading ──
        Check("broken-row", "reading", "error", ("drop",), _("the row cannot be read")),
        Check("unknown-shape", "reading", "error", ("drop",), _("the row's keys are of no known shape")),
        Check("empty", "reading", "error", ("drop",), _("a question or an answer has no text")),
        Check("no-answer", "reading", "error", ("drop",), _("there is no answer to learn")),
        Check("role-order", "reading", "error", ("drop",), _("user and assistant do not take turns")),
        Check("unknown-role", "reading", "error", ("drop",), _("nobody knows who speaks")),
        Check("several-systems", "reading", "error", ("drop",), _("there is more than one system message")),
        Check("broken-tools", "reading", "error", ("drop",), _("tools or their calls cannot be read, or do not fit together")),
        Check("tool-keywords", "reading", "info", ("fix",), _("words in a tool that Ollama does not show to the model")),
        Check("not-text", "reading", "error", ("drop",), _("the row holds images or sound")),
        Check("plain-text", "reading", "error", ("drop",), _("a text without a question teaches nothing about answering")),
        Check("preference", "reading", "info", ("drop",), _("a pair of answers to choose between is kept for another training")),
        Check("draft", "reading", "info", ("drop",), _("nobody has looked at this draft yet")),
        # ── the text of one row ──
        Check("mojibake", "text", "warning", ("fix", "warn", "drop", "off"), _("letters were garbled by a wrong encoding")),
        Check("control-characters", "text", "warning", ("fix", "warn", "drop", "off"), _("invisible control characters")),
        Check("placeholder", "text", "warning", keep_or_drop, _("a blank that nobody filled in")),
        Check("refusal", "text", "warning", keep_or_drop, _("the answer refuses to answer")),
        Check("ai-talk", "text", "warning", keep_or_drop, _("the answer speaks of being an AI")),
        Check("cut-answer", "text", "warning", keep_or_drop, _("the answer breaks off")),
        Check("other-language", "text", "warning", keep_or_drop, _("question and answer are in different languages")),
        Check("email", "text", "warning", personal, _("an e-mail address")),
        Check("phone", "text", "warning", personal, _("a telephone number")),
        Check("card-number", "text", "error", personal, _("a payment card's number")),
        Check("bank-account", "text", "error", personal, _("a bank account's number")),
        Check("identity-number", "text", "error", personal, _("a person's or a company's identity number")),
        Check("secret", "text", "error", personal, _("a key or a password")),
        # ── its tokens ──
        Check("special-token", "tokens", "error", ("drop", "fix"), _("the text holds a token that steers the model")),
        Check("lost-characters", "tokens", "error", ("drop", "warn"), _("the tokenizer cannot write some characters")),
        Check("template", "tokens", "error", ("drop",), _("the chat template refuses the messages")),
        Check("end-of-turn", "tokens", "error", ("drop",), _("not every answer ends with one end token")),
        Check("double-bos", "tokens", "error", ("drop",), _("the beginning is marked twice")),
        Check("teaches-nothing", "tokens", "error", ("drop",), _("no token is left to train on")),
        Check("too-long", "tokens", "warning", ("drop",), _("the row has more tokens than allowed")),
        # ── all rows together ──
        Check("duplicate", "set", "warning", ("drop", "warn", "off"), _("the same row stands there already")),
        Check("near-duplicate", "set", "info", ("warn", "drop", "off"), _("nearly the same row stands there already")),
        Check("contradiction", "set", "warning", keep_or_drop, _("the same question has different answers")),
        Check("leak", "set", "error", ("drop", "warn", "stop"), _("a question of the test stands in the training rows")),
        Check("length-outlier", "set", "info", keep_or_drop, _("the row is far longer or shorter than the others")),
        Check("few-examples", "set", "warning", ("stop", "warn", "off"), _("too few examples to learn a style or a form from")),
        Check("unbalanced", "set", "warning", ("warn", "off"), _("one kind of question or answer outweighs the others")),
        Check("rare-language", "set", "info", keep_or_drop, _("the answer is in a language that hardly any other has")),
    )


def actions(settings: Mapping[str, str], redact: bool) -> dict[str, Action]:
    """What to do for each check: the defaults, ``redact`` (personal data and secrets are replaced), then the recipe's choices.

    The recipe has been validated with ``problems_in`` before.
    """
    chosen: dict[str, Action] = {}
    for check in _checks():
        default: Action = "fix" if redact and "fix" in check.actions and check.id in PERSONAL else check.actions[0]
        chosen[check.id] = next((action for action in check.actions if action == settings.get(check.id)), default)
    return chosen


def problems_in(settings: Mapping[str, str]) -> list[str]:
    """What is wrong with ``data.checks``, one line each."""
    known = checks()
    problems = []
    for name, action in settings.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = _("; did you mean '{name}'?").format(name=close[0]) if close else ""
            problems.append(_("data.checks: there is no check '{name}'").format(name=name) + meant)
        elif action not in known[name].actions:
            allowed = _(" or ").join(known[name].actions)
            problems.append(
                _("data.checks.{name} is {action!r}; it should be {allowed}").format(name=name, action=action, allowed=allowed)
            )
    return problems
