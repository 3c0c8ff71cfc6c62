"""What is done to each conversation, some at a time:

    clean ─▶ render ─▶ encode (in Rust, many at once) ─▶ prove ─▶ a portion of the store

What becomes of a conversation depends on itself alone, and on the shortcuts that still hold when its work begins. Two are taken
because they are quicker, and proved while they are: cutting prompts out of the whole text (``data/render.py``) and encoding each
word once (``data/encode.py``). One that fails is given up for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from afina.data.clean.checks import Action
from afina.data.clean.language import language_of
from afina.data.clean.row import Cleaner
from afina.data.conversation import Conversation, Finding
from afina.data.duplicates import digest
from afina.data.render import Draft, Limits, Renderer, Shortcuts
from afina.data.store import Kept, Portion, portion

_PROVED_AT_FIRST, _PROVED_EVERY = 200, 100  # conversations whose prompts are rendered by themselves, to prove the shortcut


@dataclass(frozen=True)
class Steps:
    """What is done to each conversation. ``seed``: the key of what replaces personal data."""

    seed: int
    renderer: Renderer
    limits: Limits
    chosen: Mapping[str, Action]
    fingerprint: str  # of all of the above: what was done before under the same one need not be done again


@dataclass(frozen=True)
class Worked:
    """What became of some conversations. ``counts``: how many of the portion came of each, one as a rule.

    ``left_out``: findings about those that were left out before they were encoded; ``findings``: about the others, each with the
    place of its conversation. ``before`` and ``after``: the shortcuts that held.
    """

    portion: Portion
    counts: tuple[int, ...]
    left_out: tuple[Finding, ...]
    findings: tuple[tuple[int, Finding], ...]
    before: Shortcuts
    after: Shortcuts


class Work:
    """The steps, with what the libraries remember from one batch to the next."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._cleaner = Cleaner(steps.chosen, steps.seed)
        self._wants_languages = steps.chosen.get("rare-language") != "off"

    def do(self, talks: Sequence[Conversation], first: int) -> Worked:
        """Works through conversations, of which ``first`` were worked on before; these decide which shortcuts are proved."""
        steps, renderer = self._steps, self._steps.renderer
        before = renderer.shortcuts
        left_out: list[Finding] = []
        waiting: list[tuple[int, Draft, str, tuple[Finding, ...]]] = []
        met: set[tuple[int, bool, bool]] = set()
        for place, talk in enumerate(talks):
            cleaned, found = self._cleaner.clean(talk)
            if cleaned is None:
                left_out.append(found[0])  # a row is left out once
                continue
            form = len(cleaned.messages), cleaned.messages[0].role == "system", bool(cleaned.tools)
            number = first + place
            due = number < _PROVED_AT_FIRST or number % _PROVED_EVERY == 0 or form not in met
            met.add(form)
            draft = renderer.draft(cleaned, steps.limits, steps.chosen, prove=due)
            if isinstance(draft, Finding):
                left_out += [*found, draft]
            else:
                language = language_of(cleaned.answer) if self._wants_languages else ""
                waiting.append((place, draft, language, tuple(found)))
        encoded = iter(renderer.encoder.encode([text for _place, draft, *_more in waiting for text in draft.texts]))
        kept: list[Kept] = []
        findings: list[tuple[int, Finding]] = []
        counts = [0] * len(talks)
        for place, draft, language, earlier in waiting:
            texts = [next(encoded) for _text in draft.rows]
            outcome = renderer.finish(draft, texts, steps.limits, steps.chosen)
            found_here = (*earlier, *outcome.findings)
            findings += [(place, finding) for finding in found_here]
            counts[place] = len(outcome.rendered)
            is_whole = counts[place] == 1 and outcome.rendered[0].conversation.group == talks[place].group  # no part of it
            key, told = (key_of(talks[place], steps.fingerprint), found_here) if is_whole else (0, ())
            kept += [Kept(rendered, key, language, told) for rendered in outcome.rendered]
        return Worked(portion(kept), tuple(counts), tuple(left_out), tuple(findings), before, renderer.shortcuts)


def key_of(talk: Conversation, fingerprint: str) -> int:
    """A hash of all that the work on a conversation depends on; never 0."""
    parts = [f"{m.role}\x1f{m.content}\x1f{m.calls or ''}\x1f{m.name}\x1f{m.trained}" for m in talk.messages]
    about = (talk.kind, talk.rating) if talk.kind or talk.rating else ()
    return digest("\x1e".join((fingerprint, talk.tools, *about, *parts))) or 1
