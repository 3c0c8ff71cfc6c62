"""Small real models: a byte-level tokenizer trained on a few words and randomly initialised two-layer models of each family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from afina.data.template import CHATML

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN2_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEXTS = [
    "Hello, what does the red hammer cost today?",
    "Hola, ¿qué cuesta hoy el martillo rojo?",
    "user assistant system\nThe answer is here. La respuesta está aquí.",
] * 20

_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,  # wide, so that greedy choices are clear
}
FAMILIES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {"tie_word_embeddings": True}),
    "mistral": (transformers.MistralConfig, {"head_dim": 16, "sliding_window": None}),
    "qwen2": (transformers.Qwen2Config, {}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 16}),
    "gemma": (transformers.GemmaConfig, {"head_dim": 16}),
    "gemma2": (transformers.Gemma2Config, {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16}),
    "gemma3_text": (transformers.Gemma3TextConfig, {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16}),
    "phi3": (transformers.Phi3Config, {"pad_token_id": 0}),
}


def write_tokenizer(folder: Path, *, chat_template: str | None = CHATML) -> int:
    """Writes a byte-level BPE tokenizer and returns the size of its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template)
    return int(tokenizer.get_vocab_size())


def write_model(
    folder: Path, family: str = "llama", *, seed: int = 0, chat_template: str | None = CHATML, **changes: Any
) -> Path:
    """A folder as the hub would give it: configuration, weights, tokenizer. Returns ``folder``."""
    vocab_size = write_tokenizer(folder, chat_template=chat_template)
    kind, extra = FAMILIES[family]
    config = kind(**{**_SIZES, **extra, **changes}, vocab_size=vocab_size, bos_token_id=None, eos_token_id=2)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))  # norms and biases that do something
            elif "embed" not in name and "head" not in name:
                parameter.mul_(0.5)
    model.save_pretrained(folder)
    return folder
