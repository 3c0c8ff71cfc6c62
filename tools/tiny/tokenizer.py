"""Train the tiny model's tokenizer and write the files that belong to it.

    python -m tools.tiny.tokenizer /tmp/tiny/data/train.jsonl src/afina/model/tiny

A byte-level BPE: whatever the text, it comes back byte for byte. It splits text with Qwen2's expression, because llama.cpp
knows that one by name. Same text, same files.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 4096
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def trained_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """A byte-level BPE of ``VOCABULARY`` tokens; the special ones are 0, 1 and 2, and all 256 bytes are among the rest."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def texts_of(path: Path, rows: int) -> Iterator[str]:
    """The contents of the first ``rows`` dialogues."""
    with path.open(encoding="utf-8") as file:
        for line in islice(file, rows):
            for message in json.loads(line)["messages"]:
                yield message["content"]
                yield message["role"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    tokenizer = trained_tokenizer(texts_of(chosen.data, 100_000))
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the text gave {tokenizer.get_vocab_size()} tokens, {VOCABULARY} are needed: generate more dialogues")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(chosen.folder / "tokenizer.json"))
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 1024,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (chosen.folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (chosen.folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


if __name__ == "__main__":
    main()
