"""Conversations that were already written with a chat template's marks into one text: back to their turns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from afina.data.conversation import Message, Role
from afina.data.read.row import ROLES, fold, is_blank

# What stands in front of a turn where the marks are words.
_WORDS: dict[str, Role] = {
    "instruction": "user", "input": "user", "human": "user", "user": "user", "question": "user",
    "instrucción": "user", "entrada": "user", "usuario": "user", "pregunta": "user", "humano": "user",
    "response": "assistant", "assistant": "assistant", "output": "assistant", "answer": "assistant",
    "respuesta": "assistant", "asistente": "assistant", "salida": "assistant",
    "system": "system", "sistema": "system",
}  # fmt: skip
_ROLE_NAMES = "|".join(ROLES)


@dataclass(frozen=True)
class Marks:
    """One way to mark turns. ``opening`` has the group ``role``; a turn reaches to ``closing`` or the next opening."""

    name: str
    sign: str  # a text without it is not of this kind
    opening: re.Pattern[str]
    closing: re.Pattern[str] | None = None


def _tokens(name: str, sign: str, opening: str, closing: str) -> Marks:
    return Marks(name, sign, re.compile(opening.replace("ROLE", f"(?P<role>{_ROLE_NAMES})")), re.compile(closing))


# The blanks that a template itself writes around a text are not part of it; where the marks are words, no blanks around are.
MARKS = (
    _tokens("ChatML", "<|im_start|>", r"<\|im_start\|>ROLE\n", r"<\|im_end\|>"),
    _tokens(
        "Llama 3", "<|start_header_id|>", r"<\|start_header_id\|>ROLE<\|end_header_id\|>\n\n", r"<\|eot_id\|>|<\|end_of_text\|>"
    ),
    _tokens("Gemma", "<start_of_turn>", r"<start_of_turn>ROLE\n", r"<end_of_turn>"),
    _tokens("Zephyr", "<|user|>", r"<\|ROLE\|>\n", r"</s>|<\|end\|>|<\|endoftext\|>"),
    Marks("###", "###", re.compile(rf"(?<!#)### ?(?P<role>{'|'.join(_WORDS)})(?::[ \t]*|(?=[ \t]*(?:\n|\Z)))", re.IGNORECASE)),
    Marks(
        "Human:", ":", re.compile(r"^(?P<role>Human|User|Usuario|Humano|Assistant|Asistente|System|Sistema):[ \t]*", re.MULTILINE)
    ),
)
_SYS = re.compile(r"\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.DOTALL)
_EDGES = re.compile(r"</?s>|<\|begin_of_text\|>|<bos>|<eos>|<\|endoftext\|>")
_GOES_ON = ("input", "entrada")  # behind an instruction: what it works on


def marked_messages(text: str) -> list[Message] | None:
    """The turns of a text that is marked up as a chat; None where it is not, or has no turn of each side."""
    found = recognise_marks(text)
    return found[1] if found else None


def recognise_marks(text: str) -> tuple[str, list[Message]] | None:
    """The name of the marks, and the turns."""
    for marks in MARKS:
        if marks.sign in text and _is_chat(messages := _turns(text, marks)):
            return marks.name, messages
    if "[INST]" in text and _is_chat(messages := _instructions(text)):
        return "[INST]", messages
    return None


def _is_chat(messages: list[Message]) -> bool:
    roles = [message.role for message in messages]
    return "user" in roles and "assistant" in roles


def _turns(text: str, marks: Marks) -> list[Message]:
    """The turns of a text; none where something stands outside of them that would be lost."""
    openings = list(marks.opening.finditer(text))
    if not openings:
        return []
    first = text[: openings[0].start()]
    messages: list[Message] = []
    if marks.name == "###" and not is_blank(first):  # Alpaca's "Below is an instruction …"
        messages.append(Message("system", first.strip()))
    elif not _is_nothing(first):
        return []
    for number, opening in enumerate(openings):
        end = openings[number + 1].start() if number + 1 < len(openings) else len(text)
        within = text[opening.end() : end]
        role = _WORDS.get(fold(opening["role"])) or ROLES[opening["role"]]
        if marks.closing is None:
            within = within.strip()
        elif closing := marks.closing.search(within):
            if not _is_nothing(within[closing.end() :]):
                return []
            within = within[: closing.start()]
        elif is_blank(within):  # the place where the model would go on
            continue
        if marks.name == "###" and fold(opening["role"]) in _GOES_ON and messages and messages[-1].role == "user":
            task = messages.pop().content
            within = f"{task}\n{within}" if within else task
        messages.append(Message(role, within))
    return messages


def _instructions(text: str) -> list[Message]:
    """Llama 2 and Mistral: ``<s>[INST] question [/INST] answer</s>[INST] …``, a system text inside the first question."""
    messages: list[Message] = []
    before, *rounds = text.split("[INST]")
    if not _is_nothing(before):
        return []
    for round_ in rounds:
        question, closed, answer = round_.partition("[/INST]")
        if not closed:
            return []
        system = None if messages else _SYS.match(question)
        if system:
            messages.append(Message("system", system[1]))
        messages.append(Message("user", question[system.end() if system else 0 :].strip()))
        said, _end, rest = answer.partition("</s>")
        if not _is_nothing(rest):
            return []
        if not is_blank(said):
            messages.append(Message("assistant", said.strip()))
    return messages


def _is_nothing(text: str) -> bool:
    """Whether there is nothing but blanks and marks of the beginning and the end."""
    return is_blank(_EDGES.sub("", text))
