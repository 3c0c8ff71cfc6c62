"""Whether an answer says that it does not know: that the answer is not there, is not found, in no document."""

from __future__ import annotations

import re

_LOOKED_AT = 200  # characters at the beginning of an answer

_SAYS_SO = re.compile(
    r"""
      \bno[_ ]answer\b | \bunanswerable\b | \bsin\ respuesta\b
    | \b(?:do|does|did|can|could)(?:n['’]t|\ ?not)\ (?:find|know|answer|tell|have\ (?:that|this|the|any|enough)\ information)
    | \b(?:is|are|was|were)(?:n['’]t|\ not)\ (?:found|mentioned|stated|given|specified|available|contained|provided|known
        |in\ the\ (?:passages?|documents?|texts?|context))
    | \b(?:there\ is|there['’]s|has|have|contains?|gives?)\ no\ (?:information|answer|mention|passage)\b
    | \bno\ (?:lo|la|los|las)?\ ?(?:encuentro|encontr[ée]|aparece|aparecen|figura|figuran|consta|constan)\b
    | \bno\ (?:se\ )(?:encuentra|encontr[óo]|menciona|indica|especifica|dice|da|sabe|dispone)\w*
    | \bno\ (?:est[áa]n?|vienen?)\ en\ (?:los|las|el|la|ning[úu]n)\b
    | \bno\ (?:tengo|dispongo\ de|hay|cuento\ con|existe)\ (?:esa\ |esta\ |la\ |una\ |suficiente\ |ninguna\ )?
        (?:informaci[óo]n|respuesta|datos?)\b
    | \bno\ (?:lo\ )?s[ée]\b(?!\ \w+(?:aba|[íi]a)\b)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def says_so(text: str) -> bool:
    """Whether the beginning of a text says, in English or Spanish, that the answer is not known or not found."""
    return _SAYS_SO.search(text[:_LOOKED_AT]) is not None


def abstention(answer: str, reference: str) -> float:
    """1.0 where both say that the answer is not there, or neither does: a wrong answer is told by the other metrics."""
    return float(says_so(answer) == says_so(reference))
