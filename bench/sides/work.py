"""The workloads of bench/train.py, always the same ones: a random Llama, a tokenizer of whole words, chats, and a LoRA.

folder/base                    config.json, weights in bfloat16, tokenizer with a chat template that marks what is trained
folder/chats.jsonl             300 chats: lengths log-normal, one system prompt for all, 40 % of the tokens from the assistant
folder/start                   rank 16 on all linear layers, in PEFT's format
folder/llamafactory            the same chats as LLaMA-Factory wants them announced
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

ROWS_PER_STEP = 16
CHATS = 300
SYSTEM_WORDS = 20
RANK, ALPHA = 16, 32
RATE, CLIP = 1e-3, 1.0
LONGEST = 1024  # tokens of a chat, of workloads a to c

SPECIAL = ["<pad>", "<|im_start|>", "<|im_end|>", "<unk>", "system", "user", "assistant"]
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|im_start|> assistant "
    "{% generation %}{{ m['content'] }} <|im_end|>{% endgeneration %} "
    "{% else %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


@dataclass(frozen=True)
class Workload:
    """``tokens``: the length of every chat, where it is not drawn. ``config`` is for LlamaConfig."""

    what: str
    config: dict[str, Any]
    quantize: str = "none"
    tokens: int | None = None
    needs_cuda: bool = False
    rows_per_step: int = ROWS_PER_STEP

    @property
    def longest(self) -> int:
        return self.tokens or LONGEST


def _llama(width: int, layers: int, heads: int, kv_heads: int, inner: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        **more,
    }


_SMOLLM = _llama(576, 30, 9, 3, 1536, 49_152)
_LLAMA_8B = _llama(
    4096,
    32,
    32,
    8,
    14_336,
    128_256,
    tie_word_embeddings=False,
    max_position_embeddings=131_072,
    rope_parameters={
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
)
WORKLOADS = {
    "a": Workload("LoRA on SmolLM2-135M's shape", _SMOLLM),
    "b": Workload("LoRA on a model of 7 million parameters", _llama(256, 6, 8, 4, 1024, 4096)),
    "c": Workload("QLoRA (NF4) on SmolLM2-135M's shape", _SMOLLM, "nf4"),
    "8b-2048": Workload("QLoRA (NF4) on Llama-3.1-8B's shape, 2,048 tokens a chat", _LLAMA_8B, "nf4", 2048, needs_cuda=True),
    "8b-8192": Workload(
        "QLoRA (NF4) on Llama-3.1-8B's shape, 8,192 tokens a chat", _LLAMA_8B, "nf4", 8192, True, rows_per_step=4
    ),
}


def make_work(folder: Path, work: Workload, rank: int = RANK) -> None:
    """Writes all of it below ``folder``."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers.logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    chats = list(make_chats(work.config["vocab_size"], work.tokens))
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), encoding="utf-8")
    make_tokenizer(work.config["vocab_size"], work.config["max_position_embeddings"]).save_pretrained(folder / "base")
    model = make_model(work.config, "cuda" if work.needs_cuda else "cpu")
    model.save_pretrained(folder / "base")
    if not work.needs_cuda:  # LLaMA-Factory computes in the type that the weights are stored in
        shutil.copytree(folder / "base", folder / "base-float32", ignore=shutil.ignore_patterns("*.safetensors"))
        model.float().save_pretrained(folder / "base-float32")
    make_adapter(folder / "start", model, rank)
    del model
    if work.needs_cuda:
        torch.cuda.empty_cache()  # the contenders need it
    announce(folder / "llamafactory", chats)


def make_tokenizer(vocab: int, longest: int) -> transformers.PreTrainedTokenizerFast:
    """A word is a token: ``w0`` to the last that the vocabulary has room for."""
    words = [*SPECIAL, *(f"w{number}" for number in range(vocab - len(SPECIAL)))]
    pipeline = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    pipeline.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pipeline,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = longest
    return tokenizer


def make_model(config: dict[str, Any], device: str = "cpu") -> transformers.PreTrainedModel:
    """Random weights in bfloat16, the linear ones twice as large as transformers draws them: livelier."""
    torch.manual_seed(0)
    ids: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.set_default_dtype(torch.bfloat16)  # the largest would not fit in float32
    try:
        with torch.device(device):
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config, **ids, dtype="bfloat16"))
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(2.0)
    return model


def make_chats(vocab: int, tokens: int | None = None, seed: int = 0) -> Iterator[list[dict[str, str]]]:
    """Chats of one or two questions; answers repeat themselves in part, so that there is something to learn.

    Words come by Zipf's law. ``tokens``: what each chat has in all, drawn where it is None.
    """
    random = np.random.default_rng(seed)
    words = vocab - len(SPECIAL)
    share = 1 / np.arange(1, words + 1) ** 1.05
    share /= share.sum()
    follows = random.permutation(words)

    def draw(count: int) -> list[int]:
        return [int(word) for word in random.choice(words, size=count, p=share)]

    def answer(count: int) -> list[int]:
        (last,) = draw(1)
        made = []
        for fresh in draw(count):
            following = int(follows[last]) if random.random() < 0.5 else fresh
            last = following if following < 2000 or random.random() < 0.3 else following % 64
            made.append(last)
        return made

    system = {"role": "system", "content": _text(draw(SYSTEM_WORDS))}
    for _number in range(CHATS):
        length = tokens or int(np.clip(random.lognormal(np.log(180), 0.75), 40, LONGEST))
        turns = 1 if random.random() < 0.6 else 2
        answered = int(0.4 * length)
        asked = max(2 * turns, length - answered - (SYSTEM_WORDS + 3) - turns * 6)
        chat = [system]
        for _turn in range(turns):
            chat.append({"role": "user", "content": _text(draw(max(1, asked // turns)))})
            chat.append({"role": "assistant", "content": _text(answer(max(1, answered // turns)))})
        yield chat


def _text(words: list[int]) -> str:
    return " ".join(f"w{word}" for word in words)


def make_adapter(folder: Path, model: transformers.PreTrainedModel, rank: int = RANK) -> None:
    """PEFT's files: A uniform as PEFT draws it, B zero."""
    generator = torch.Generator().manual_seed(1)
    tensors, targets = {}, set()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings():
            targets.add(name.rpartition(".")[2])
            a = (torch.rand(rank, module.in_features, generator=generator) * 2 - 1) / module.in_features**0.5
            tensors[f"base_model.model.{name}.lora_A.weight"] = a
            tensors[f"base_model.model.{name}.lora_B.weight"] = torch.zeros(module.out_features, rank)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0}
    (folder / "adapter_config.json").write_text(
        json.dumps({**config, "bias": "none", "target_modules": sorted(targets), "base_model_name_or_path": "bench"})
    )


def announce(folder: Path, chats: list[list[dict[str, str]]]) -> None:
    """The chats and the ``dataset_info.json`` by which LLaMA-Factory finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chats.json").write_text(json.dumps([{"messages": chat} for chat in chats]))
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    }
    info = {"file_name": "chats.json", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    (folder / "dataset_info.json").write_text(json.dumps({"chats": info}))


def count_tokens(chat: list[dict[str, str]]) -> tuple[int, int]:
    """Tokens of a chat and how many of them are trained, by TEMPLATE: a start, a role, the words, an end; words and end are."""
    words = [(turn["role"], len(turn["content"].split())) for turn in chat]
    return sum(count + 3 for _role, count in words), sum(count + 1 for role, count in words if role == "assistant")
