"""Tokenizers of the kinds that bases have, trained here on what a person can type, and a tiny model around each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = (
    "Hello, what does the red hammer cost today? It's DON'T I'M we'Re they'll",
    "Hola, ¿qué cuesta hoy el martillo rojo? ¡Único! Año, ÁRBOL, ñandú, pingüino.",
    "12345 1,234.56 ٣٤٥ Ⅷ ½ 3.14",
    "a  b   c\n\n \n\t\tx \r\n\r\n y   ",
    "你好世界 こんにちは 안녕하세요 สวัสดี हिन्दी नमस्ते",
    "🚀🦙👩‍👩‍👧 ¯\\_(ツ)_/¯",
    "foo_bar(baz)[0] += 1; // path/to/x\n",
    "   leading and tail   ",
    "ß ﬁ Ω ω ΑΒΓ абв АБВ",
    "'s't're 'S 'LL",
    "\u00a0x\u3000y\u2003z",
    "1/2 and/or //\n/",
    "<script>alert(1)</script> SELECT * FROM users;--",
)
END = "<|end|>"


def byte_level(steps: Sequence[pre_tokenizers.PreTokenizer], *, ignore_merges: bool = False, normalizer: Any = None) -> Tokenizer:
    """Byte-level BPE whose merges cross every border that ``steps`` draw: a border drawn elsewhere gives other tokens."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=["<|endoftext|>", END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps)) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


def split_by(expression: str) -> list[pre_tokenizers.PreTokenizer]:
    """The steps of newer tokenizers: words by an expression, then bytes."""
    return [
        pre_tokenizers.Split(Regex(expression), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def sentencepiece_like(prefix: str, *, blank_runs: bool = False) -> Tokenizer:
    """BPE with bytes to fall back on, as converted from SentencePiece: each piece may be made of any two of its parts.

    ``prefix``, where ▁ is put in front: ``normalizer`` (Llama 2), ``first``, ``always``, ``never`` (Metaspace), ``gemma``.
    ``blank_runs``: ▁▁ and ▁▁▁▁ are added tokens too, as Gemma has it.
    """
    learner = Tokenizer(models.BPE())
    learner.train_from_iterator(
        [text.replace(" ", "▁") for text in TEXTS[:8] * 3],
        trainers.BpeTrainer(vocab_size=500, max_token_length=10, show_progress=False),
    )
    learned = json.loads(learner.to_str())["model"]
    pieces = [piece for piece, _number in sorted(learned["vocab"].items(), key=lambda item: item[1])]
    pieces += [run for run in ("▁▁", "▁▁▁▁") if run not in pieces]
    special = ["<unk>", "<s>", "</s>", END]
    vocabulary = {piece: number for number, piece in enumerate([*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces])}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if prefix == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif prefix == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prefix, split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(special)
    if blank_runs:
        tokenizer.add_tokens([AddedToken(run, normalized=False) for run in ("▁▁", "▁▁▁▁", "\n\n")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return tokenizer


def write_model_around(folder: Path, tokenizer: Tokenizer | Path, *, chat_template: str, **settings: Any) -> Path:
    """A folder with ``tokenizer`` (or a copy of a tokenizer's folder) and a random Llama of one layer around it."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, Path):
        for file in tokenizer.glob("*.json"):
            if file.name not in ("config.json", "generation_config.json"):
                (folder / file.name).write_bytes(file.read_bytes())
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, **settings}))
    (folder / "chat_template.jinja").write_text(chat_template)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
