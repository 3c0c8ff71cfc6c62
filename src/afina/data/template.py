"""The chat template: messages to the text that the model reads, the same in training and in the served model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from afina.core.errors import DataError, RecipeError
from afina.core.translation import _
from afina.data.conversation import Message, as_dict
from afina.data.tokenizer import Tokenizer

PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### User:\\n' + message['content'] + '\\n\\n' }}"
    "{% else %}{{ '### Assistant:\\n' + message['content'] + eos_token + '\\n\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NAMED = {"plain": PLAIN, "chatml": CHATML}

# What a server would fill in by itself is bound at the start of the template, so that the text cannot depend on the day or on the
# server: llama-server and Ollama define ``date_string`` (today) and ``enable_thinking`` (mostly true) in every request.
BOUND = {"date_string": '"26 Jul 2024"', "enable_thinking": "false"}


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template with the tokens that it may print. ``source`` is what training uses and what the GGUF carries."""

    name: str
    source: str
    tokens: dict[str, str] = field(default_factory=dict)

    def render(self, messages: Sequence[Message], tools: str = "", *, add_generation_prompt: bool) -> str:
        """The text of ``messages``; with ``add_generation_prompt`` up to the place where the assistant begins to answer.

        ``tools`` is the JSON list of the tools on offer, or ``""``.

        Raises DataError where the template refuses the messages (for example a system message that it does not know).
        """
        more = {"tools": json.loads(tools)} if tools else {}
        try:
            return self._compiled.render(
                messages=[as_dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                **more,
                **self.tokens,
            )
        except jinja2.TemplateError as error:
            raise DataError(
                _("the chat template '{name}' refuses these messages: {reason}").format(name=self.name, reason=error),
                fix=_("change the messages, or choose another chat_template in the recipe"),
            ) from None

    @cached_property
    def _compiled(self) -> jinja2.Template:
        environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        try:
            template = environment.from_string(self.source)
            template.globals = dict(template.globals)  # one dictionary, where Jinja looks through a chain of them each time
            return template
        except jinja2.TemplateSyntaxError as error:
            raise DataError(
                _("the chat template '{name}' is not Jinja: line {line}: {reason}").format(
                    name=self.name, line=error.lineno, reason=error.message
                ),
                fix=_("mend it, or choose chat_template: plain"),
            ) from None


def choose_template(setting: str, tokenizer: Tokenizer, *, ends_with_bos: bool = False) -> ChatTemplate:
    """The template that the recipe asks for: ``auto`` (the base's own, else ``plain``), a name, or a ``.jinja`` file.

    ``ends_with_bos`` is for bases that never learned their EOS: ``plain`` then ends an answer with BOS, which stands between the
    texts that they were trained on.
    """
    if setting == "auto":
        name, source = ("base", tokenizer.chat_template) if tokenizer.chat_template else ("plain", PLAIN)
    elif setting in NAMED:
        name, source = setting, NAMED[setting]
    elif setting.endswith(".jinja"):
        if not Path(setting).is_file():
            raise RecipeError(
                _("chat_template: there is no file {path}").format(path=setting), fix=_("write it, or take chat_template: auto")
            )
        name, source = Path(setting).name, Path(setting).read_text(encoding="utf-8")
    else:
        raise RecipeError(
            _("chat_template is {setting!r}; it should be auto, {names}, or a .jinja file").format(
                setting=setting, names=", ".join(NAMED)
            ),
            fix=_("take chat_template: auto"),
        )
    if "strftime_now" in source and "date_string" not in source:
        raise DataError(
            _("the chat template '{name}' prints today's date, so that no two days train the same text").format(name=name),
            fix=_("copy it to a .jinja file without strftime_now and name that file as chat_template"),
        )
    bindings = "".join(f"{{%- set {name} = {value} -%}}" for name, value in BOUND.items() if name in source)
    if source == PLAIN and ends_with_bos:
        source = PLAIN.replace("eos_token", "bos_token")
    start = "{{ bos_token }}" if name in NAMED and tokenizer.adds_bos else ""
    tokens = {
        "bos_token": tokenizer.bos_token or "",
        "eos_token": tokenizer.eos_token or "",
        "pad_token": tokenizer.pad_token or "",
    }
    return ChatTemplate(name=name, source=bindings + start + source, tokens=tokens)


_OF_DICTIONARIES = frozenset(dir(dict))


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which finds the keys of messages (``message.role``) without asking for attributes first."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute in obj and attribute not in _OF_DICTIONARIES:
            return obj[attribute]
        return super().getattr(obj, attribute)


class _GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}`` prints what is inside it (some bases mark their answers so)."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, indent: int | None = None) -> str:
    """JSON as templates expect it: not escaped for HTML, accents as they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
