"""The checks of one row's text, one after the other, each with its action: mended, told, or left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from afina.core.translation import _
from afina.data.clean import characters, wording
from afina.data.clean.checks import PERSONAL, Action, checks
from afina.data.clean.language import language_of, other_language
from afina.data.clean.numbers import Place, Span
from afina.data.clean.personal import again, hint, masked, may_hold_personal, personal
from afina.data.clean.replace import redacted, replacement
from afina.data.conversation import Conversation, Done, Finding

_SHOWN = 3  # changes of one row that its finding shows
_WELL_BEFORE = 400  # characters on each side that are searched for what must not be shown; key files may be longer
_SIDE = 40  # characters on each side of what was found
_DONE: Mapping[str, Done] = {"warn": "kept", "fix": "changed", "drop": "dropped"}

_ASKING = ("system", "user")
# Words by which somebody asks for another language, in the question or in the system message.
_ASKS_FOR_A_LANGUAGE = re.compile(
    r"(?i)\b(?:translat\w+|traduc\w+|tradu[zçi]\w+|traduir\w*|übersetz\w+|languages?|idiomas?|lenguas?|langues?|sprache|"
    r"bilingual|biling[üu]e|"
    r"english|spanish|french|german|italian|portuguese|chinese|japanese|korean|russian|arabic|dutch|latin|catalan|galician|"
    r"basque|"
    r"ingl[ée]s|espa[ñn]ol|castellano|franc[ée]s|alem[áa]n|italiano|portugu[ée]s|chino|japon[ée]s|coreano|ruso|[áa]rabe|latín|"
    r"catal[áa]n|"
    r"gallego|euskera|anglais|espagnol|fran[çc]ais|allemand|englisch|spanisch|deutsch)\b|翻译|英文|英语|中文|西班牙|法语|日语|译"
)


class Cleaner:
    """Makes the checks of scope "text". ``chosen``: check → action (``checks.actions``); ``seed``: the replacements' key.

    The order is that of their ids in ``checks``: letters are mended before words are read, and persons are replaced last.
    """

    def __init__(self, chosen: Mapping[str, Action], seed: int) -> None:
        known = checks()
        self._actions = {name: action for name, action in chosen.items() if known[name].scope == "text" and action != "off"}
        self._reasons = {name: known[name].reason for name in self._actions}
        self._key = str(seed).encode()
        self._personal = tuple(name for name in known if name in PERSONAL and name in self._actions)

    def clean(self, conversation: Conversation) -> tuple[Conversation | None, list[Finding]]:
        """The conversation, mended where that was chosen, and one finding for each check that found something.

        None where a check leaves the row out; then the findings are those that do.
        """
        if not self._actions:
            return conversation, []
        findings: list[Finding] = []
        whole = "\n".join(_texts(conversation))
        data = characters.utf8(whole)
        mended = conversation
        if "mojibake" in self._actions and characters.may_be_garbled(data):
            mended = self._mend_garbled(mended, findings)
        if "control-characters" in self._actions and characters.may_hold_controls(data):
            mended = self._mend_controls(mended, findings)
        self._read_words(mended, findings)
        if mended is not conversation:  # a hidden character may have stood inside a number
            whole = "\n".join(_texts(mended))
            data = characters.utf8(whole)
        if (self._personal or findings) and may_hold_personal(whole, data):
            found = spans_of(_texts(mended))
            mended = self._mend_personal(mended, found, findings)
            findings = _veiled(findings, found)
        dropped = [finding for finding in findings if finding.done == "dropped"]
        return (None, dropped) if dropped else (mended, findings)

    # ── letters ──

    def _mend_garbled(self, conversation: Conversation, findings: list[Finding]) -> Conversation:
        texts = _texts(conversation)
        changes = [(text, fixed) for text in texts if (fixed := characters.repaired(text)) != text]
        if changes:
            shown = [
                f"{_excerpt(before, *place)} → {_excerpt(after, *behind)}" for before, after, place, behind in _changed(changes)
            ]
            findings.append(self._finding(conversation, "mojibake", self._reasons["mojibake"], " · ".join(shown[:_SHOWN])))
            if self._actions["mojibake"] == "fix":
                return _rewritten(conversation, characters.repaired)
        elif lost := [text for text in texts if characters.LOST in text]:
            at = lost[0].index(characters.LOST)
            count = sum(text.count(characters.LOST) for text in lost)
            reason = _("{count} characters were lost before: a wrong encoding left � in their place").format(count=count)
            findings.append(self._finding(conversation, "mojibake", reason, _excerpt(lost[0], at, at + 1), mended=False))
        return conversation

    def _mend_controls(self, conversation: Conversation, findings: list[Finding]) -> Conversation:
        check = "control-characters"
        found = [(text, places) for text in _texts(conversation) if (places := characters.controls(text))]
        if not found:
            return conversation
        names = list(dict.fromkeys(characters.name_of(text[place]) for text, places in found for place in places))
        reason = _("{count} invisible control characters: {names}").format(
            count=sum(len(places) for _text, places in found),
            names=", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else ""),
        )
        text, places = found[0]
        plain, at = characters.without(text, places), places[0]
        # A number that hidden characters take apart is known as one only without them.
        private = personal(plain[max(0, at - _WELL_BEFORE) : at + _WELL_BEFORE])
        excerpt = _excerpt(plain, at, at) if private else _excerpt(text, at, at + 1)
        findings.append(self._finding(conversation, check, reason, excerpt))
        if self._actions[check] != "fix":
            return conversation
        return _rewritten(conversation, lambda text: characters.without(text, characters.controls(text)))

    # ── words ──

    def _read_words(self, row: Conversation, findings: list[Finding]) -> None:
        answers = [
            message.content for message in row.messages if message.role == "assistant" and message.trained and message.content
        ]
        if "placeholder" in self._actions:
            spoken = (message.content for message in row.messages if message.role != "tool")
            self._tell_first("placeholder", row, ((text, wording.placeholder(text)) for text in spoken), findings)
        if "refusal" in self._actions or "ai-talk" in self._actions:
            folded = [(text, wording.fold(text)) for text in answers]
            if "refusal" in self._actions:
                self._tell_first("refusal", row, ((text, wording.refusal(lower)) for text, lower in folded), findings)
            if "ai-talk" in self._actions:
                self._tell_first("ai-talk", row, ((text, wording.ai_talk(lower)) for text, lower in folded), findings)
        if "cut-answer" in self._actions:
            self._tell_first("cut-answer", row, ((text, wording.cut(text)) for text in answers), findings)
        if "other-language" in self._actions and answers:
            self._compare_languages(row, answers[-1], findings)

    def _tell_first(
        self, check: str, row: Conversation, found: Iterable[tuple[str, Place | None]], findings: list[Finding]
    ) -> None:
        """A finding for the first text in which something was found, if there is one."""
        for text, place in found:
            if place:
                findings.append(self._finding(row, check, self._reasons[check], _excerpt(text, *place)))
                return

    def _compare_languages(self, row: Conversation, answer: str, findings: list[Finding]) -> None:
        """The last answer's language beside its question's; a short question is read together with those before it."""
        answered = language_of(answer)
        asked = "\n".join(message.content for message in reversed(row.messages) if message.role == "user")
        question = other_language(asked, answered)
        if not question or not other_language(answer, question):
            return
        if any(_ASKS_FOR_A_LANGUAGE.search(message.content) for message in row.messages if message.role in _ASKING):
            return
        reason = _("the question is in one language ({question}), the answer in another ({answer})")
        excerpt = f"{_excerpt(asked, 0, 1)} → {_excerpt(answer, 0, 1)}"
        findings.append(self._finding(row, "other-language", reason.format(question=question, answer=answered), excerpt))

    # ── persons ──

    def _mend_personal(self, conversation: Conversation, found: dict[str, list[Span]], findings: list[Finding]) -> Conversation:
        for check in self._personal:
            shown = [(text, span) for text, spans in found.items() for span in spans if span.check == check]
            if shown:
                findings.append(self._personal_finding(conversation, check, shown))
        replaced = {check for check in self._personal if self._actions[check] == "fix"}
        if not any(span.check in replaced for spans in found.values() for span in spans):
            return conversation
        return _rewritten(
            conversation, lambda text: redacted(text, [span for span in found[text] if span.check in replaced], self._key)
        )

    def _personal_finding(self, row: Conversation, check: str, shown: list[tuple[str, Span]]) -> Finding:
        reason = self._reasons[check]
        if len(shown) > 1:
            reason = _("{reason}, {count} places").format(reason=reason, count=len(shown))
        if self._actions[check] == "fix":
            changes = [
                f"{hint(text[span.start : span.end], check)} → {self._replacement(text, span)}" for text, span in shown[:_SHOWN]
            ]
            return self._finding(row, check, reason, " · ".join(dict.fromkeys(changes)))
        return self._finding(row, check, reason, _excerpt(shown[0][0], shown[0][1].start, shown[0][1].end))

    def _replacement(self, text: str, span: Span) -> str:
        return replacement(text[span.start : span.end], span.kind, span.key, self._key)

    def _finding(self, row: Conversation, check: str, reason: str, excerpt: str, mended: bool = True) -> Finding:
        action = self._actions[check]
        return Finding(row.source, check, reason, _DONE["warn" if action == "fix" and not mended else action], excerpt)


def spans_of(texts: list[str]) -> dict[str, list[Span]]:
    """Text → the personal data and secrets in it; what is known from one of the texts is found in the others too."""
    found = {text: personal(text) for text in texts}
    known = {text[span.start : span.end]: span for text, spans in found.items() for span in spans}
    return {text: again(text, spans, known) for text, spans in found.items()} if known else {}


def _veiled(findings: list[Finding], found: dict[str, list[Span]]) -> list[Finding]:
    """The findings, in whose excerpts nothing shows that is known from another part of the row only."""
    hints = {
        text[span.start : span.end]: hint(text[span.start : span.end], span.check)
        for text, spans in found.items()
        for span in spans
    }
    for written, instead in hints.items():
        findings = [
            replace(one, excerpt=one.excerpt.replace(written, instead)) if written in one.excerpt else one for one in findings
        ]
    return findings


def _texts(conversation: Conversation) -> list[str]:
    """Everything written in the row: what is said, the arguments of calls, the tools on offer."""
    texts = [message.content for message in conversation.messages]
    texts += [call.arguments for message in conversation.messages for call in message.calls]
    return [*texts, conversation.tools] if conversation.tools else texts


def _rewritten(conversation: Conversation, change: Callable[[str], str]) -> Conversation:
    """The conversation with each of its texts changed."""
    messages = tuple(
        replace(
            message,
            content=change(message.content),
            calls=tuple(replace(call, arguments=change(call.arguments)) for call in message.calls),
        )
        for message in conversation.messages
    )
    return replace(conversation, messages=messages, tools=change(conversation.tools) if conversation.tools else "")


# ── excerpts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _changed(changes: list[tuple[str, str]]) -> list[tuple[str, str, Place, Place]]:
    """The lines that are not the same before and after, and where in each of them; a repair keeps the number of lines."""
    lines = []
    for before, after in changes:
        for old, new in zip(re.split("\r\n|\n|\r", before), re.split("\r\n|\n|\r", after)):
            if old != new:
                start = next((place for place, (one, other) in enumerate(zip(old, new)) if one != other), min(len(old), len(new)))
                tail = next((place for place, (one, other) in enumerate(zip(old[:start:-1], new[:start:-1])) if one != other), 0)
                lines.append((old, new, (start, len(old) - tail), (start, len(new) - tail)))
    return lines


def _excerpt(text: str, start: int, end: int) -> str:
    """What stands around a place, on one line, hidden characters by their numbers and without what belongs to somebody."""
    near = max(0, start - _WELL_BEFORE), end + _WELL_BEFORE
    if "PRIVATE KEY" not in text:
        spans = [replace(span, start=span.start + near[0], end=span.end + near[0]) for span in personal(text[near[0] : near[1]])]
    else:
        spans = personal(text)
    first, last = max(0, start - _SIDE), min(len(text), min(end, start + 2 * _SIDE) + _SIDE)
    for span in spans:  # half a number would not be known as one
        first = span.start if span.start < first < span.end else first
        last = span.end if span.start < last < span.end else last
    inside = [
        replace(span, start=span.start - first, end=span.end - first)
        for span in spans
        if first <= span.start and span.end <= last
    ]
    shown = masked(text[first:last], inside)
    for place in reversed(characters.controls(shown)):
        shown = f"{shown[:place]}⟨U+{ord(shown[place]):04X}⟩{shown[place + 1 :]}"
    return ("…" if first else "") + " ".join(shown.split()) + ("…" if last < len(text) else "")
