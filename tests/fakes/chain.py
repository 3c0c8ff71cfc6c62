"""A real model whose next token depends on the last one alone: it says one sentence and stops, or says it for ever.

Embeddings are one-hot and the layers add nothing, so the output layer is a table from token to token. It runs in torch and in
llama.cpp like any other model, in no time, and each of its answers is known beforehand.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

from afina.data.tokenizer import Tokenizer
from tests.fakes.models import write_tokenizer

SENTENCE = "Hola, the answer is €7."
WIDTH = 384  # at least the vocabulary, so that each token has a direction of its own
HEADS = 6
FEED_FORWARD = 8
CONTEXT = 2048


def write_chain_model(folder: Path, *, ends: bool = True, sentence: str = SENTENCE) -> Path:
    """A folder as the hub would give it. Not ``ends``: after the sentence it begins the sentence again."""
    write_tokenizer(folder)
    tokenizer = Tokenizer.load(folder)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=2,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    for name in state:
        if name.endswith("norm.weight"):
            state[name] += 1
    state["model.embed_tokens.weight"] = torch.eye(tokenizer.vocab_size, WIDTH)
    state["lm_head.weight"][:, : tokenizer.vocab_size] = _table(tokenizer, ends, sentence)
    model.load_state_dict(state)
    model.save_pretrained(folder)
    return folder


def write_chain_gguf(path: Path, *, ends: bool = True, sentence: str = SENTENCE, padding: int = 0) -> Path:
    """The same model as a GGUF, with its tokenizer and the ChatML template. ``padding`` bytes make it larger."""
    folder = path.with_suffix(".tokenizer")
    write_tokenizer(folder)
    tokenizer = Tokenizer.load(folder)
    vocabulary = tokenizer.vocab_size
    merges = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_block_count(1)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    tokens = [tokenizer.token(number) for number in range(vocabulary)]
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in tokenizer.special else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template or "")
    if padding:
        writer.add_array("test.padding", [0] * padding)
    table = np.zeros((vocabulary, WIDTH), np.float32)
    table[:, :vocabulary] = _table(tokenizer, ends, sentence).numpy()
    for name, tensor in {
        "token_embd.weight": np.eye(vocabulary, WIDTH, dtype=np.float32),
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "output.weight": table,
        "blk.0.attn_norm.weight": np.ones(WIDTH, np.float32),
        "blk.0.ffn_norm.weight": np.ones(WIDTH, np.float32),
        **{f"blk.0.attn_{part}.weight": np.zeros((WIDTH, WIDTH), np.float32) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate.weight": np.zeros((FEED_FORWARD, WIDTH), np.float32),
        "blk.0.ffn_up.weight": np.zeros((FEED_FORWARD, WIDTH), np.float32),
        "blk.0.ffn_down.weight": np.zeros((WIDTH, FEED_FORWARD), np.float32),
    }.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _table(tokenizer: Tokenizer, ends: bool, sentence: str) -> torch.Tensor:
    """(V, V): 1 at [next, token]. The line end before an answer leads to the sentence, what is not in it to the end token."""
    ids = tokenizer.encode(sentence)
    start = tokenizer.encode("<|im_start|>assistant\n")[-1]
    assert len(set(ids)) == len(ids), "a chain says each token once"
    assert start not in ids
    end = tokenizer.special["<|im_end|>"]
    following = dict.fromkeys(range(tokenizer.vocab_size), end) | {start: ids[0]} | dict(pairwise(ids))
    following[ids[-1]] = end if ends else ids[0]
    table = torch.zeros(tokenizer.vocab_size, tokenizer.vocab_size)
    for token, after in following.items():
        table[after, token] = 1.0
    return table
