"""What the tiny model can do with names, places and things that training never used in that role.

    python -m tools.tiny.check /tmp/tiny/data src/afina/model/tiny

Prints the held-out loss of the answers, the share of right greedy answers to every kind of question that has a right
answer, and a few answers to read.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, LlamaForCausalLM

from afina.train.step import mean_loss
from tools.tiny.generate import dialogue
from tools.tiny.grammar import World
from tools.tiny.train import read_rows

Score = Callable[[str, str], bool]


def same(answer: str, wanted: str) -> bool:
    return answer == wanted


def same_last_word(answer: str, wanted: str) -> bool:
    """The value of the answer is its last word, whatever sentence leads to it."""
    return answer.split()[-1:] == wanted.split()[-1:]


def same_case(answer: str, wanted: str) -> bool:
    """All upper case or all lower case, as it was asked for."""
    return bool(answer) and (answer.isupper(), answer.islower()) == (wanted.isupper(), wanted.islower())


def same_edge(answer: str, wanted: str) -> bool:
    """The demanded first or last word is there; one of both is the demanded one."""
    return answer.split()[:1] == wanted.split()[:1] or answer.split()[-1:] == wanted.split()[-1:]


SCORES: dict[str, tuple[str, Score]] = {
    "facts": ("reads a fact of the prompt", same),
    "order": ("reads who, what and where of a sentence", same),
    "name": ("remembers the user's name", same_last_word),
    "repeat": ("repeats, first and last word", same),
    "upper": ("obeys: upper or lower case", same_case),
    "one_word": ("obeys: one word", same),
    "list": ("obeys: a list of the given things", same),
    "prefix": ("obeys: first or last word", same_edge),
    "language": ("obeys: language", same),
    "mood": ("positive or negative", same),
    "topic": ("topic of a sentence", same),
    "arithmetic": ("sums up to 20 + 20", same_last_word),
    "count": ("counts things", same_last_word),
    "larger": ("larger of two numbers", same),
    "translate": ("translates a word it was taught", same_last_word),
    "opposite": ("opposite it was taught", same_last_word),
    "capital": ("capital it was taught", same_last_word),
    "what": ("what a thing is", same),
}
QUESTIONS = (
    "Hola, ¿qué tal?",
    "Hello!",
    "¿Quién eres?",
    "¿Cómo arreglo un grifo que gotea?",
    "How do I hang a picture?",
    "What do I need to paint a wall?",
    "Mi puerta chirría, ¿qué hago?",
    "Cuéntame una historia sobre un gato.",
    "What is a hammer?",
    "¿Cuánto es 7 más 5?",
)


@torch.no_grad()
def answers(model: Any, tokenizer: Any, conversations: list[list[dict[str, str]]], longest: int = 120) -> list[str]:
    """The greedy answer to every conversation, which ends with a user's message."""
    texts = [tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) for messages in conversations]
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found = [""] * len(texts)
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        batch = tokenizer(
            [texts[index] for index in part], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        )
        made = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=longest)
        for index, row in zip(part, made[:, batch["input_ids"].shape[1] :], strict=True):
            found[index] = tokenizer.decode(row, skip_special_tokens=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=40, help="questions of each kind")
    parser.add_argument("--wrong", action="store_true", help="show two wrong answers of each kind")
    chosen = parser.parse_args()
    torch.set_num_threads(2)
    model = LlamaForCausalLM.from_pretrained(chosen.folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(chosen.folder)
    rows = read_rows(chosen.data / "val.jsonl", Tokenizer.from_file(str(chosen.folder / "tokenizer.json")), 0)
    print(f"held-out loss of the answers: {mean_loss(model, rows, 4096):.3f}")
    rng = random.Random(2026)
    for kind, (title, right) in SCORES.items():
        begun = time.monotonic()
        asked = [dialogue(World(rng, rng.choice(("es", "en")), held_out=True), kind).messages() for _ in range(chosen.each)]
        found = answers(model, tokenizer, [messages[:-1] for messages in asked])
        wanted = [messages[-1]["content"] for messages in asked]
        share = sum(map(right, found, wanted)) / len(asked)
        print(f"{kind:10} {share:6.1%}  {title} ({time.monotonic() - begun:.0f} s)", flush=True)
        wrong = [(text, want) for text, want in zip(found, wanted, strict=True) if not right(text, want)]
        for text, want in wrong[:2] if chosen.wrong else []:
            print(f"           {text!r} instead of {want!r}")
    for question, text in zip(
        QUESTIONS, answers(model, tokenizer, [[{"role": "user", "content": question}] for question in QUESTIONS]), strict=True
    ):
        print(f"{question}\n    {text}")


if __name__ == "__main__":
    main()
