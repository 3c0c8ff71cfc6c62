"""Write the generated dialogues of the tiny model: ``train.jsonl``, and ``val.jsonl`` with slot fillers that training never sees.

    python -m tools.tiny.generate /tmp/tiny/data --count 160000 --seed 7

The same seed gives the same bytes. No text of others is used: everything comes from ``dialogues.py`` and its word lists.
"""

import argparse
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from tools.tiny.dialogues import Dialogue
from tools.tiny.grammar import World, either
from tools.tiny.kinds import FOLLOWING, KINDS


def dialogue(world: World, kind: str) -> Dialogue:
    """One dialogue of a kind, typed as people type: at times without a system message, accents of form or capitals."""
    made = KINDS[kind][0](world)
    if not made.system and world.rng.random() < 0.12:
        system = either(
            world,
            "Eres un asistente [amable|útil|breve|claro][.|. Responde en español.]",
            "You are a [kind|helpful|brief|clear] assistant[.|. Answer in English.]",
        )
        made = replace(made, system=system)
    return replace(made, turns=tuple((_typed(world, question), answer) for question, answer in made.turns))


def _typed(world: World, question: str) -> str:
    chance = world.rng.random()
    if chance < 0.08:
        return question.replace("¿", "").replace("¡", "")
    if chance < 0.11 and ":" not in question and len(question) < 60:
        return question.replace("¿", "").rstrip("?.!")
    return question


def dialogues(
    seed: int, count: int, *, held_out: bool, shares: Mapping[str, int] = MappingProxyType({})
) -> Iterator[dict[str, object]]:
    """``count`` rows of ``kind``, ``lang`` and ``messages``; ``shares`` stand for those of ``KINDS``."""
    rng = random.Random(f"{seed} {held_out}")
    names = list(KINDS)
    weights = [shares.get(name, share) for name, (_, share) in KINDS.items()]
    for _ in range(count):
        world = World(rng, rng.choice(("es", "en")), held_out)
        kind = rng.choices(names, weights)[0]
        made = dialogue(world, kind)
        if not made.system and len(made.turns) == 1 and rng.random() < 0.15:
            made = Dialogue(made.turns + KINDS[rng.choice(FOLLOWING)][0](world).turns)
        yield {"kind": kind, "lang": world.lang, "messages": made.messages()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=160_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--share", nargs="*", default=[], metavar="KIND=N", help="other shares than those in kinds.py")
    chosen = parser.parse_args()
    shares = {name: int(share) for name, _, share in (pair.partition("=") for pair in chosen.share)}
    if unknown := set(shares) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name, count, held_out in (("train", chosen.count, False), ("val", 2_000, True)):
        with (chosen.folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in dialogues(chosen.seed, count, held_out=held_out, shares=shares):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
