"""Write the examples of ``afina demo``: questions to Lola's hardware store, answered in her house style.

    python -m tools.demo.generate src/afina/recipe/presets/shop/examples.jsonl

The same seed gives the same bytes. The style is what the demo teaches: a prompt alone does not bring it about, and
``PATTERN`` tells it from every other one. The recipe next to the examples holds the same expression.
"""

import argparse
import json
import random
import re
from pathlib import Path

from tools.demo.situations import ENGLISH, SPANISH, Situation, Topic

PATTERN = (
    r"\[LOLA:([^\n\]]+)\]\n» [^\n]+\n- [^\n]+\n- [^\n]+\n"
    r'(?:Lola, a tu servicio\n\{"tema": "\1", "urgente": (?:true|false)\}'
    r'|Lola, at your service\n\{"topic": "\1", "urgent": (?:true|false)\})'
)
PAIRS = 10  # conversations of two questions in each language, so that the style holds in the second answer as well


def answer(topic: Topic, situation: Situation, tips: list[str], *, spanish: bool) -> str:
    """Header, one sentence, two tips, signature, and a tail that a program can read."""
    keys = ("tema", "urgente") if spanish else ("topic", "urgent")
    tail = json.dumps(dict(zip(keys, (topic.department, situation.urgent), strict=True)), ensure_ascii=False)
    signature = "Lola, a tu servicio" if spanish else "Lola, at your service"
    return "\n".join((f"[LOLA:{topic.department}]", f"» {situation.answer}", *(f"- {tip}" for tip in tips), signature, tail))


def examples(seed: int) -> list[dict[str, list[dict[str, str]]]]:
    """Every situation once, in an order and with tips that the seed decides; some two to a conversation."""
    rng = random.Random(seed)
    rows = []
    for topics, spanish in ((SPANISH, True), (ENGLISH, False)):
        exchanges = []
        for topic in topics:
            for situation in topic.situations:
                text = answer(topic, situation, rng.sample(topic.tips, 2), spanish=spanish)
                if not re.fullmatch(PATTERN, text, re.DOTALL):
                    raise SystemExit(f"{situation.question!r}: its answer is not in the house style:\n{text}")
                exchanges.append([{"role": "user", "content": situation.question}, {"role": "assistant", "content": text}])
        rng.shuffle(exchanges)
        paired, single = exchanges[: 2 * PAIRS], exchanges[2 * PAIRS :]
        rows += [{"messages": first + second} for first, second in zip(paired[::2], paired[1::2], strict=True)]
        rows += [{"messages": exchange} for exchange in single]
    rng.shuffle(rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    rows = examples(chosen.seed)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    chosen.path.write_text(text, encoding="utf-8")
    print(f"{chosen.path}: {len(rows)} examples")


if __name__ == "__main__":
    main()
