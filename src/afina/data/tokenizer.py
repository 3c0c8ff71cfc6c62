"""Text to token ids and back, by the Rust ``tokenizers`` library on the base's own ``tokenizer.json``.

transformers is not asked: with some tokenizer classes it replaces the pipeline that is written in ``tokenizer.json``, and the ids
then differ from those of llama.cpp. Here, in the GGUF and in the served model it is one and the same pipeline.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from afina.core.errors import DataError
from afina.core.files import read_json
from afina.core.translation import _


@dataclass(frozen=True)
class Tokenizer:
    """A base's tokenizer. ``special``: text → id of the added special tokens; ``end_ids``: ids that end a generation."""

    folder: Path
    pipeline: tokenizers.Tokenizer
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    special: dict[str, int]
    end_ids: tuple[int, ...]
    adds_bos: bool  # the base's own pipeline puts a BOS in front of plain text
    chat_template: str | None

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """The tokenizer of a model folder. Raises DataError where ``tokenizer.json`` is absent or broken."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise DataError(
                _("{folder} has no tokenizer.json").format(folder=folder),
                fix=_(
                    "copy the base model's tokenizer.json there (AutoTokenizer.from_pretrained(…).save_pretrained(…) writes it)"
                ),
            )
        try:
            pipeline = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001  # the library raises bare Exception with the reason in its text
            raise DataError(
                _("{path} cannot be read: {reason}").format(path=path, reason=error), fix=_("download the base model again")
            ) from None
        pipeline.no_padding()
        pipeline.no_truncation()
        config = _optional_json(folder / "tokenizer_config.json")
        special = {token.content: number for number, token in pipeline.get_added_tokens_decoder().items() if token.special}
        names = {name: _token_text(config.get(f"{name}_token")) for name in ("bos", "eos", "pad")}
        legacy = _optional_json(folder / "special_tokens_map.json")
        names = {name: text or _token_text(legacy.get(f"{name}_token")) for name, text in names.items()}
        bos_id = pipeline.token_to_id(names["bos"]) if names["bos"] else None
        first = pipeline.encode("a").ids[:1]
        return cls(
            folder=folder,
            pipeline=pipeline,
            bos_token=names["bos"],
            eos_token=names["eos"],
            pad_token=names["pad"],
            special=special,
            end_ids=_end_ids(folder, pipeline, names["eos"]),
            adds_bos=bos_id is not None and bool(config.get("add_bos_token", first == [bos_id])),
            chat_template=_chat_template(folder, config),
        )

    @property
    def vocab_size(self) -> int:
        return int(self.pipeline.get_vocab_size(with_added_tokens=True))

    @property
    def added(self) -> dict[str, int]:
        """Text → id of all added tokens, special or not."""
        return {token.content: number for number, token in self.pipeline.get_added_tokens_decoder().items()}

    @property
    def bos_id(self) -> int | None:
        return self._id_of(self.bos_token)

    @property
    def eos_id(self) -> int | None:
        return self._id_of(self.eos_token)

    @property
    def pad_id(self) -> int | None:
        return self._id_of(self.pad_token)

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``. Special tokens written in it are recognised; nothing is added."""
        return list(self.pipeline.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids`` without special tokens."""
        return str(self.pipeline.decode(list(ids), skip_special_tokens=True))

    def text(self, ids: Sequence[int]) -> str:
        """The text of ``ids`` with special tokens as they are written."""
        return str(self.pipeline.decode(list(ids), skip_special_tokens=False))

    def token(self, number: int) -> str:
        """One token as it stands in the vocabulary, for messages and previews."""
        return str(self.pipeline.id_to_token(number))

    def special_in(self, text: str) -> str | None:
        """A special token that is written in ``text``, or None."""
        found = self.special_pattern.search(text)
        return found.group() if found else None

    def special_split(self, text: str) -> list[str]:
        """Text, special token, text, special token, …, text."""
        return self._special_parted.split(text)

    @cached_property
    def _special_parted(self) -> re.Pattern[str]:
        return re.compile(f"({self.added_pattern.pattern})")

    @cached_property
    def added_pattern(self) -> re.Pattern[str]:
        """Any added token, special or not: a text is cut at these before anything else."""
        words = [token.content for token in self.pipeline.get_added_tokens_decoder().values()]
        return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or r"(?!)")

    @cached_property
    def description(self) -> dict[str, Any]:
        """``tokenizer.json``."""
        found: dict[str, Any] = read_json(self.folder / "tokenizer.json")
        return found

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        """Any special token; of two that begin alike the longer one."""
        return re.compile("|".join(map(re.escape, sorted(self.special, key=len, reverse=True))) or r"(?!)")

    def loses(self, text: str) -> str:
        """The characters of ``text`` that do not come back from its ids, ``""`` where all do (white space and forms of accents
        aside).
        """
        back = set(self.decode(self.encode(text)))
        if set(text) <= back:
            return ""
        normalizer = self.pipeline.normalizer
        wanted = normalizer.normalize_str(text) if normalizer is not None else text
        return "".join(sorted({char for char in wanted if not char.isspace() and char != "▁"} - back))

    def _id_of(self, token: str | None) -> int | None:
        return None if token is None else self.pipeline.token_to_id(token)


def _optional_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            _("{path} is not JSON: {reason}").format(path=path, reason=error), fix=_("download the base model again")
        ) from None
    return content if isinstance(content, dict) else {}


def _token_text(value: Any) -> str | None:
    """A token's text, from a string or from an ``AddedToken`` as JSON."""
    if isinstance(value, dict):
        return _token_text(value.get("content"))
    return value if isinstance(value, str) else None


def _end_ids(folder: Path, pipeline: tokenizers.Tokenizer, eos_token: str | None) -> tuple[int, ...]:
    """Ids that end a generation: the tokenizer's, then the configurations', each once."""
    found: list[int] = []
    if eos_token is not None and (eos_id := pipeline.token_to_id(eos_token)) is not None:
        found.append(eos_id)
    for name in ("generation_config.json", "config.json"):
        value = _optional_json(folder / name).get("eos_token_id")
        found.extend(value if isinstance(value, list) else [value] if isinstance(value, int) else [])
    return tuple(dict.fromkeys(found))


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The base's chat template: its own file, else the configuration's text or the entry named ``default``."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    value = config.get("chat_template")
    if isinstance(value, list):
        return next((str(item["template"]) for item in value if item.get("name") == "default"), None)
    return value if isinstance(value, str) else None
