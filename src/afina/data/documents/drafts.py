"""Examples that a teacher model proposes for a passage: what it is asked, how its reply is read, and what is refused at once.

The checks are cheap and strict, and prove nothing: a person reads every draft before it is used.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from afina.core.translation import _
from afina.data.clean.language import language_of
from afina.data.clean.wording import ai_talk, fold, placeholder, refusal
from afina.data.conversation import Message
from afina.data.documents.document import Chunk
from afina.data.read.strict_json import BrokenJsonError, parse_json

FOUND = 0.6  # share of an answer's content words that must stand in the passage
ALIKE = 0.75  # shared threes of letters from which on two questions are the same one
STEM = 5  # letters that must agree: "abierta" is found in "abierto"
LEAST_PASSAGE = 120  # characters; there is nothing to ask about less

_SYSTEM = {
    "en": "You write examples from which a model learns to answer questions about documents. "
    "You use only what the passage says. You reply with JSON and nothing else.",
    "es": "Escribes ejemplos con los que un modelo aprende a responder preguntas sobre documentos. "
    "Usas solo lo que dice el texto. Respondes con JSON y nada más.",
}
_TASK = {
    "en": """From {document}:

<passage>
{passage}
</passage>

Write {count} questions that a person would ask who has never seen this passage, each with its answer.
- A question is clear by itself: it names what it is about. It never speaks of "the passage", "the text" or "the document".
- An answer says only what the passage says, in whole sentences, with the passage's own numbers and names.
- No two questions ask the same. Write fewer where the passage does not hold so many, and [] where it holds nothing to ask about.
- Write in the language of the passage.
Reply with a JSON list: [{{"question": "…", "answer": "…"}}]""",
    "es": """De {document}:

<texto>
{passage}
</texto>

Escribe {count} preguntas que haría una persona que nunca ha visto este texto, cada una con su respuesta.
- Una pregunta se entiende por sí sola: nombra aquello por lo que pregunta. Nunca habla de «el texto» ni de «el documento».
- Una respuesta dice solo lo que dice el texto, con frases completas y con los números y los nombres del texto.
- No hay dos preguntas iguales. Escribe menos si el texto no da para tantas, y [] si no contiene nada que preguntar.
- Escribe en español.
Responde con una lista JSON: [{{"question": "…", "answer": "…"}}]""",
}
_AGAIN = {
    "en": "That cannot be used: {reason}. Reply again, with the JSON list and nothing else.",
    "es": "Eso no sirve: {reason}. Responde otra vez, con la lista JSON y nada más.",
}
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_]{4,}")
_OF_THE_PASSAGE = re.compile(
    r"\b(?:(?:this|the|above|given|provided) (?:passage|text|excerpt|document|fragment)"
    r"|(?:el|este|del|al) (?:texto|pasaje|fragmento|documento|extracto)|seg[uú]n lo (?:anterior|descrito))\b"
)
_NOT_TOLD = re.compile(
    r"\b(?:not (?:mentioned|stated|specified|given|provided)|does not (?:say|mention|state|specify)"
    r"|no (?:se )?(?:menciona|indica|especifica|dice|aparece))\b"
)
_SMALL = {
    *("that", "this", "with", "from", "have", "been", "were", "which", "what", "when", "where", "their", "there", "they", "them"),
    *(
        "these",
        "those",
        "will",
        "would",
        "about",
        "than",
        "then",
        "into",
        "also",
        "para",
        "como",
        "este",
        "esta",
        "estos",
        "estas",
    ),
    *("desde", "hasta", "sobre", "entre", "cuando", "donde", "cual", "cuales", "quien", "pero", "también", "tiene", "tienen"),
    *("está", "están", "puede", "pueden", "debe", "deben", "será", "serán", "sido", "según", "porque"),
}


@dataclass(frozen=True)
class Draft:
    question: str
    answer: str


def request(chunk: Chunk, count: int, language: str) -> list[Message]:
    """What the teacher is asked; ``language`` is that of the passage, ``es``, ``en`` or ``auto``."""
    code = language_of(chunk.text) if language == "auto" else language
    code = code if code in _TASK else "en"
    document = ", ".join(part for part in (chunk.title or chunk.document.rpartition("/")[2], chunk.place) if part)
    task = _TASK[code].format(document=document, passage=chunk.text, count=count)
    return [Message("system", _SYSTEM[code]), Message("user", task)]


def request_again(asked: list[Message], reply: str, reason: str) -> list[Message]:
    """The same once more, after a reply that could not be read."""
    code = "es" if asked[0].content == _SYSTEM["es"] else "en"
    return [*asked, Message("assistant", reply), Message("user", _AGAIN[code].format(reason=reason))]


def parse(reply: str) -> list[Draft]:
    """The drafts in a reply; thoughts before it and a fence around it are taken off. Raises BrokenJsonError for all else."""
    text = _THOUGHT.sub("", reply).strip()
    fenced = _FENCED.fullmatch(text)
    value = parse_json(fenced[1] if fenced else text)
    if not isinstance(value, list):
        raise BrokenJsonError(_("it is not a list"))
    for number, item in enumerate(value, 1):
        if not isinstance(item, dict) or set(item) != {"question", "answer"}:
            raise BrokenJsonError(_("item {number} does not have the keys question and answer").format(number=number))
        if not all(type(text) is str for text in item.values()):
            raise BrokenJsonError(_("item {number}: question and answer are texts").format(number=number))
    return [Draft(item["question"].strip(), item["answer"].strip()) for item in value]


def problem(draft: Draft, passage: str, known: Collection[frozenset[str]]) -> str:
    """Why a draft is refused, in a few words; ``""`` where nothing is found. ``known``: the threes of the questions so far."""
    question, answer = fold(draft.question), fold(draft.answer)
    if not draft.question or not draft.answer:
        return _("empty")
    if refusal(answer) or ai_talk(answer) or _NOT_TOLD.search(answer):
        return _("the answer refuses")
    if _OF_THE_PASSAGE.search(question) or _OF_THE_PASSAGE.search(answer):
        return _("speaks of the passage itself")
    if placeholder(draft.question) or placeholder(draft.answer):
        return _("has a placeholder")
    numbers = _numbers(passage)
    if not _numbers(draft.answer) <= numbers or not _numbers(draft.question) <= numbers:
        return _("a number is not in the passage")
    stems = _stems(passage)
    words = _stems(draft.answer) or _stems(draft.question)
    if not words or len(words & stems) < FOUND * len(words):
        return _("the answer is not in the passage")
    own = threes(draft.question)
    if any(len(own & other) >= ALIKE * len(own | other) for other in known):
        return _("the same question is there already")
    return ""


def threes(question: str) -> frozenset[str]:
    """The threes of letters of a question's words, by which near copies are found."""
    words = re.findall(r"\w+", _plain(question))
    return frozenset(f" {word} "[at : at + 3] for word in words for at in range(len(word)))


def _stems(text: str) -> set[str]:
    return {_plain(word)[:STEM] for word in _WORD.findall(text.lower()) if word not in _SMALL}


def _numbers(text: str) -> set[str]:
    """The numbers of a text without what parts their digits: 1.200 and 1,200 are the same."""
    return {re.sub(r"\D", "", number) for number in _NUMBER.findall(text)}


def _plain(text: str) -> str:
    """Lower case, without accents."""
    return "".join(letter for letter in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(letter))
