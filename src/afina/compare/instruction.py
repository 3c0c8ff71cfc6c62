"""The instruction of the contender ``prompt+``: what a careful person would write after reading the training answers.

    labels      Answer with one of these labels and nothing else: cancel, invoice, refund.
    JSON        Answer with one JSON object and nothing else. Its keys: name (string), price (number).
    else texts  Begin the answer with: Dear customer:
                End the answer with: Kind regards.
                Write a list.
                Write about 40 words, at most 60.
    any         Address the reader as tú.

Each line is there only where nearly all answers are so. The recipe is fixed: nothing is invented and no model writes it, so that
everybody gets the same instruction from the same examples.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from afina.compare.checks import ANY_NUMBER, LEAST, common_edges, learn_checks
from afina.compare.figure import Example
from afina.compare.form import form_figures
from afina.compare.prompts import Asked, Room
from afina.core.errors import DataError
from afina.data.clean.language import language_of
from afina.data.conversation import Conversation, Message

_STEADY = 0.8  # share of the answers that a line of the instruction must be true of
_LOOKED_AT = 500  # answers that are read
_NUMBERS = {"en": "(a number)", "es": "(un número)"}

_TEXTS = {
    "en": {
        "labels": "Answer with one of these labels and nothing else: {value}.",
        "json": "Answer with one JSON object and nothing else. Its keys: {value}.",
        "opening": "Begin the answer with: {value}",
        "closing": "End the answer with: {value}",
        "list": "Write the answer as a list.",
        "steps": "Write the answer as numbered steps.",
        "heading": "Write the answer with headings in Markdown.",
        "table": "Write the answer as a table in Markdown.",
        "code": "Write the answer as a block of code in Markdown.",
        "lines": "Write the answer in several lines.",
        "text": "Write the answer in a single line.",
        "length": "Write about {median} words, at most {most}.",
        "word": "Write one word, at most {most}.",
        "register": "Address the reader as {value}.",
    },
    "es": {
        "labels": "Responde con una de estas etiquetas y nada más: {value}.",
        "json": "Responde con un objeto JSON y nada más. Sus claves: {value}.",
        "opening": "Empieza la respuesta con: {value}",
        "closing": "Termina la respuesta con: {value}",
        "list": "Escribe la respuesta como una lista.",
        "steps": "Escribe la respuesta en pasos numerados.",
        "heading": "Escribe la respuesta con títulos en Markdown.",
        "table": "Escribe la respuesta como una tabla en Markdown.",
        "code": "Escribe la respuesta como un bloque de código en Markdown.",
        "lines": "Escribe la respuesta en varias líneas.",
        "text": "Escribe la respuesta en una sola línea.",
        "length": "Escribe unas {median} palabras, {most} como mucho.",
        "word": "Escribe una palabra, {most} como mucho.",
        "register": "Trata de {value} al lector.",
    },
}


def write_instruction(conversations: Sequence[Conversation]) -> str:
    """The instruction that the training examples show, in their language (English where it has no wording); one line a fact."""
    examples = [Example.of(conversation) for conversation in conversations[:_LOOKED_AT]]
    known = Counter(language_of(example.answer) for example in examples)
    language = "es" if known["es"] > known["en"] else "en"
    texts = _TEXTS[language]
    lines = [texts[name].format(**values) for name, values in _facts(examples, language)]
    return "\n".join(lines)


def _facts(examples: Sequence[Example], language: str) -> Iterator[tuple[str, dict[str, object]]]:
    answers = [example.answer.strip() for example in examples]
    if len(answers) < LEAST:
        return
    checks = learn_checks(answers)
    rules = {name: value for check in checks for name, value in check.rule.items()}
    if labels := rules.get("one_of"):
        yield "labels", {"value": ", ".join(labels)}
        return
    if schema := rules.get("json_schema"):
        yield "json", {"value": ", ".join(_key(name, below) for name, below in schema["properties"].items())}
        return
    for name, pieces in zip(("opening", "closing"), common_edges(answers), strict=True):
        if any(piece.isalnum() or piece == ANY_NUMBER for piece in pieces):
            yield name, {"value": "".join(_NUMBERS[language] if piece == ANY_NUMBER else piece for piece in pieces)}
    figures = {figure.name: figure for figure in form_figures(examples)}
    if (built := figures.get("structure")) and built.share >= _STEADY:
        for name in str(built.values["structure"]).split():
            if name in _TEXTS[language]:
                yield name, {}
    if "most_words" in rules:
        median, most = int(statistics.median(len(a.split()) for a in answers)), rules["most_words"]
        yield "length" if median > 1 else "word", {"median": median, "most": most}
    if (register := figures.get("register")) and register.share >= _STEADY:
        yield "register", {"value": register.values["register"]}


def _key(name: str, schema: dict[str, object]) -> str:
    """``price (number)``, ``kind (a, b or c)``"""
    values = schema.get("enum")
    kind = schema["type"] if not isinstance(values, list) else " | ".join(map(str, values))
    return f"{name} ({kind})"


@dataclass(frozen=True)
class Instruction:
    """Puts a text behind the system message, or where the template takes none, before the first question."""

    text: str
    room: Room

    def ask(self, conversation: Conversation) -> Asked:
        """The conversation with the instruction; as it is where there is none, or no room for it."""
        if not self.text:
            return self.room.ask(conversation)
        written = self._with_text(conversation)
        return self.room.ask(written if self.room.holds(written) else conversation)

    def _with_text(self, conversation: Conversation) -> Conversation:
        first, *others = conversation.messages
        if first.role == "system":
            return replace(conversation, messages=(replace(first, content=f"{first.content}\n\n{self.text}"), *others))
        if self._takes_system(conversation):
            return replace(conversation, messages=(Message("system", self.text), *conversation.messages))
        return replace(conversation, messages=(replace(first, content=f"{self.text}\n\n{first.content}"), *others))

    def _takes_system(self, conversation: Conversation) -> bool:
        messages = (Message("system", self.text), *conversation.prompt)
        try:
            return self.text in self.room.renderer.template.render(messages, conversation.tools, add_generation_prompt=True)
        except DataError:
            return False
