"""A tokenizer as llama.cpp wants it, from ``tokenizer.json`` alone, and the chat template that goes with it.

Two kinds are known. Byte-level BPE (``gpt2``): tokens, merges and the name of the rule that splits text into words, found by
comparing the rule itself. SentencePiece-like BPE with bytes to fall back on (``llama``): tokens with scores, which are the
negative ranks of the merges.

Not taken from ``tokenizer.model``: programs that save a tokenizer do not keep it up to date, and what was trained on is
``tokenizer.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gguf import TokenType

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Message
from afina.data.render import Renderer
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer

KeyValue = str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float] | Sequence[bool]

# Rules that split text into words, as they stand in tokenizer.json.
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_QWEN35 = _QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
_WORDS, _DIGITS, _BYTES = "words of GPT-2", "single digits", "bytes"
# Steps of the pre-tokenizer, and whether a word that is a token is taken whole → llama.cpp's name. Each is proven by a test.
_SPLIT_NAMES: dict[tuple[tuple[str, ...], bool], str] = {
    ((_WORDS,), False): "gpt-2",
    ((_DIGITS, _WORDS), False): "smollm",
    ((_LLAMA3, _BYTES), True): "llama-bpe",
    ((_LLAMA3, _BYTES), False): "dbrx",
    ((_QWEN2, _BYTES), False): "qwen2",
    ((_QWEN35, _BYTES), False): "qwen35",
}

# End-of-generation tokens that llama.cpp recognises by their text.
# fmt: off
_KNOWN_ENDS = frozenset((
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>",
    "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>",
))
# fmt: on

# Ollama puts its own template in the place of one that is nearly the same (fewer than 100 changed characters). Not of this one.
_COMMENT = (
    "{# From here on this is, to the letter, the chat template that the model was trained with. "
    "It must stay as it is: another text in front of the question is another question for the model. #}\n"
)


@dataclass(frozen=True)
class Vocabulary:
    """``keys`` of the GGUF; ``stop_ids`` end an answer."""

    keys: dict[str, KeyValue]
    stop_ids: tuple[int, ...]


def read_vocabulary(renderer: Renderer, vocab_size: int) -> Vocabulary:
    """The vocabulary of a model of ``vocab_size`` rows. Raises DataError for what llama.cpp would read otherwise."""
    tokenizer = renderer.tokenizer
    pipeline: dict[str, Any] = json.loads(tokenizer.pipeline.to_str())
    _require_known(tokenizer, pipeline)
    pieces = _Pieces.of(tokenizer, pipeline, vocab_size)
    spm = pipeline["model"]["byte_fallback"]
    keys = _spm_keys(renderer, pipeline, pieces) if spm else _bpe_keys(tokenizer, pipeline, pieces)
    stops = stop_ids(renderer)
    keys |= {f"tokenizer.ggml.{name}_token_id": number for name, number in zip(("eos", "eot", "eom"), stops, strict=False)}
    if len(stops) == 1:
        keys["tokenizer.ggml.eot_token_id"] = stops[0]  # else llama.cpp guesses one by its text
    unknown = pipeline["model"]["unk_token"] or ("<unk>" if spm else None)
    named = {
        "bos": tokenizer.bos_id,
        "padding": tokenizer.pad_id,
        "unknown": tokenizer.pipeline.token_to_id(unknown) if unknown else None,
    }
    keys |= {f"tokenizer.ggml.{name}_token_id": number for name, number in named.items() if number is not None}
    keys["tokenizer.ggml.add_bos_token"] = tokenizer.adds_bos and _begins_with_bos(renderer)
    keys["tokenizer.chat_template"] = served_template(renderer.template, tokenizer)
    return Vocabulary(keys, stops)


def stop_ids(renderer: Renderer) -> tuple[int, ...]:
    """Ids that must end an answer, the one that ``eos_token`` stands for first. llama.cpp has keys for three of them."""
    tokenizer = renderer.tokenizer
    first = renderer.end_of_turn_id if tokenizer.eos_id is None else tokenizer.eos_id
    every = tuple(dict.fromkeys((first, renderer.end_of_turn_id, *tokenizer.end_ids)))
    if len(every) <= 3:
        return every
    needed = tuple(
        number for number in every if number in (first, renderer.end_of_turn_id) or tokenizer.token(number) not in _KNOWN_ENDS
    )
    if len(needed) > 3:
        raise DataError(
            _("{folder}: {count} tokens end an answer ({tokens}); a GGUF can name three").format(
                folder=tokenizer.folder, count=len(needed), tokens=" ".join(map(tokenizer.token, needed))
            ),
            fix=_("keep at most three ids in eos_token_id of generation_config.json"),
        )
    return needed


def served_template(template: ChatTemplate, tokenizer: Tokenizer) -> str:
    """The training template behind a comment, and behind the tokens that llama.cpp would print otherwise than training did."""
    # llama.cpp prints the tokens of its own keys, a token of its choice where there is no key, and nothing for pad_token.
    differing = [name for name, number in (("bos_token", tokenizer.bos_id), ("eos_token", tokenizer.eos_id)) if number is None]
    differing += ["pad_token"] if tokenizer.pad_token is not None else []
    bound = [name for name in differing if name in template.source]
    sets = "".join(f"{{% set {name} = {json.dumps(template.tokens.get(name, ''), ensure_ascii=False)} %}}\n" for name in bound)
    return _COMMENT + sets + template.source


def model_name(name: str, tokenizer: Tokenizer) -> str:
    """``general.name``: ``name``, with or without what llama.cpp listens to.

    "phi-3" in it tells llama.cpp that white space behind special tokens does not count.
    """
    strips = any(token.rstrip for token in tokenizer.pipeline.get_added_tokens_decoder().values() if token.special)
    claims = re.search("phi-?3", name, re.IGNORECASE)
    if strips and not claims:
        return f"phi-3 {name}"
    return name if strips else re.sub("phi-?3", "phi 3", name, flags=re.IGNORECASE)


@dataclass(frozen=True)
class _Pieces:
    """Tokens by id with their types; rows of the embedding that no token uses are filled."""

    texts: list[str]
    types: list[int]
    ids: dict[str, int]

    @classmethod
    def of(cls, tokenizer: Tokenizer, pipeline: Mapping[str, Any], vocab_size: int) -> _Pieces:
        vocabulary: dict[str, int] = pipeline["model"]["vocab"]
        added = pipeline["added_tokens"]
        largest = max([*vocabulary.values(), *(entry["id"] for entry in added)])
        if largest >= vocab_size:
            raise DataError(
                _("{folder}: the tokenizer has a token {number}, the model's vocabulary {size} rows").format(
                    folder=tokenizer.folder, number=largest, size=vocab_size
                ),
                fix=_("take tokenizer and weights of the same model"),
            )
        texts = [f"[PAD{number}]" for number in range(vocab_size)]
        types = [int(TokenType.UNUSED)] * vocab_size
        for text, number in vocabulary.items():
            texts[number], types[number] = text, TokenType.NORMAL
        for entry in added:
            texts[entry["id"]] = entry["content"]
            types[entry["id"]] = TokenType.CONTROL if entry["special"] else _type_of_added(entry["content"], vocabulary)
        ids = {text: number for number, text in enumerate(texts)}
        if len(ids) != vocab_size:
            twice = next(text for number, text in enumerate(texts) if ids[text] != number)
            raise DataError(
                _("{folder}: the token {text!r} stands twice in the vocabulary").format(folder=tokenizer.folder, text=twice),
                fix=_("choose another base; this one can be trained and compared, not exported"),
            )
        return cls(texts, types, ids)


def _type_of_added(text: str, vocabulary: Mapping[str, int]) -> int:
    """A run of blanks (▁▁) that the merges make as well stays an ordinary token: of a user's own llama.cpp would print the ▁."""
    return int(TokenType.NORMAL if "▁" in text and text in vocabulary else TokenType.USER_DEFINED)


def _bpe_keys(tokenizer: Tokenizer, pipeline: Mapping[str, Any], pieces: _Pieces) -> dict[str, KeyValue]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _split_name(tokenizer, pipeline),
        "tokenizer.ggml.tokens": pieces.texts,
        "tokenizer.ggml.token_type": pieces.types,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in pipeline["model"]["merges"]],
    }


def _spm_keys(renderer: Renderer, pipeline: Mapping[str, Any], pieces: _Pieces) -> dict[str, KeyValue]:
    types = list(pieces.types)
    bytes_found = 0
    for number, text in enumerate(pieces.texts):
        if types[number] == TokenType.NORMAL and re.fullmatch("<0x[0-9A-F]{2}>", text):
            types[number] = int(TokenType.BYTE)
            bytes_found += 1
    if bytes_found != 256:
        raise _unknown(renderer.tokenizer, _("{count} of 256 byte tokens").format(count=bytes_found))  # llama.cpp would crash
    if (unknown := pieces.ids.get(pipeline["model"]["unk_token"] or "<unk>")) is not None:
        types[unknown] = int(TokenType.UNKNOWN)
    merges = pipeline["model"]["merges"]
    scores = [-float(len(merges) + 1)] * len(types)  # of no merge: after all others
    for rank in reversed(range(len(merges))):
        scores[pieces.ids["".join(merges[rank])]] = -float(rank)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": pieces.texts,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": _adds_space(renderer, pipeline),
    }


def _split_name(tokenizer: Tokenizer, pipeline: Mapping[str, Any]) -> str:
    ignore_merges = bool(pipeline["model"]["ignore_merges"])
    steps = tuple(_step(step) for step in _sequence(pipeline["pre_tokenizer"], "pretokenizers"))
    name = _SPLIT_NAMES.get((steps, ignore_merges))
    if name is None:
        rule = ", ".join(steps) + (", ignore_merges" if ignore_merges else "")
        raise _unknown(tokenizer, _("the rule that splits text into words: {rule}").format(rule=rule))
    return name


def _step(step: Mapping[str, Any]) -> str:
    """A step of a pre-tokenizer in a word, or its regular expression."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            return _WORDS if use_regex else _BYTES
        case {"type": "Digits", "individual_digits": True}:
            return _DIGITS
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            return regex
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Removed", "invert": True}:
            return regex  # what matches is kept, and these expressions match everything
        case _:
            return json.dumps(step, ensure_ascii=False)


def _adds_space(renderer: Renderer, pipeline: Mapping[str, Any]) -> bool:
    """Whether a blank is put in front of text: in llama.cpp at the start and behind every special token, or nowhere."""
    steps = [*_sequence(pipeline["normalizer"], "normalizers"), *_sequence(pipeline["pre_tokenizer"], "pretokenizers")]
    escapes = places = ""
    for step in steps:
        match step:
            case {"type": "Prepend", "prepend": "▁"}:
                places = "text"
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                escapes = "▁"
            case {"type": "Metaspace", "replacement": "▁", "prepend_scheme": str(scheme)}:
                escapes, places = "▁", scheme
            case {"type": "Split", "pattern": {"String": " "}}:
                pass  # blanks are ▁ by then: it splits nothing
            case _:
                raise _unknown(renderer.tokenizer, json.dumps(step, ensure_ascii=False))
    if not escapes:
        raise _unknown(renderer.tokenizer, _("blanks that are not written as ▁"))
    if places in ("first", "always"):  # Metaspace, which puts no second blank where there is one
        sections = _sections(renderer) if places == "always" else _sections(renderer)[:1]
        return any(section and not section.startswith(" ") for section in sections)
    return places == "text"


def _sections(renderer: Renderer) -> list[str]:
    """What a prompt holds between its special tokens; the first is empty where one stands at its beginning."""
    special = "|".join(map(re.escape, sorted(renderer.tokenizer.special, key=len, reverse=True)))
    return re.split(special, _sample_prompt(renderer))


def _require_known(tokenizer: Tokenizer, pipeline: Mapping[str, Any]) -> None:
    model = pipeline["model"]
    if model["type"] != "BPE":
        raise _unknown(tokenizer, str(model["type"]))
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model[name]:
            raise _unknown(tokenizer, f"{name} {model[name]!r}")
    if not model["byte_fallback"]:
        for step in _sequence(pipeline["normalizer"], "normalizers"):
            if step["type"] != "NFC":  # text is nearly always in NFC; check_reading counts what is not
                raise _unknown(tokenizer, json.dumps(step, ensure_ascii=False))


def _sequence(step: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    if step is None:
        return []
    return list(step[inner]) if step["type"] == "Sequence" else [step]


def _sample_prompt(renderer: Renderer) -> str:
    return renderer.template.render([Message("user", "a")], add_generation_prompt=True)


def _begins_with_bos(renderer: Renderer) -> bool:
    bos = renderer.tokenizer.bos_token
    return bos is not None and _sample_prompt(renderer).startswith(bos)


def _unknown(tokenizer: Tokenizer, found: str) -> DataError:
    return DataError(
        _("{path}: llama.cpp has no tokenizer for {found}").format(path=tokenizer.folder / "tokenizer.json", found=found),
        fix=_("choose another base; this one can be trained and compared, not exported"),
    )
