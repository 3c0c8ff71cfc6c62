"""Write the generated dialogues of the tiny model: ``train.jsonl``, and ``val.jsonl`` with slot fillers that training never sees.

    python -m tools.tiny.generate /tmp/tiny/data --count 160000 --seed 7

The same seed gives the same bytes, however many processes share the work. No text of others is used: everything comes from
``dialogues.py`` and its word lists.
"""

import argparse
import json
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from tools.tiny.dialogues import Dialogue, person, shop_name
from tools.tiny.grammar import World, either
from tools.tiny.kinds import FOLLOWING, KINDS
from tools.tiny.words import SHOPS

_PART = 20_000  # dialogues that one process makes at once


def dialogue(world: World, kind: str) -> Dialogue:
    """One dialogue of a kind, typed as people type: at times without a system message, accents of form or capitals."""
    made = KINDS[kind][0](world)
    if not made.system and world.rng.random() < 0.3:
        made = replace(made, system=_assistant(world) if world.rng.random() < 0.4 else _employee(world))
    return replace(made, turns=tuple((_typed(world, question), answer) for question, answer in made.turns))


def _assistant(world: World) -> str:
    return either(
        world,
        "Eres un asistente [amable|útil|breve|claro][.|. Responde en español.]",
        "You are a [kind|helpful|brief|clear] assistant[.|. Answer in English.]",
    )


def _employee(world: World) -> str:
    """Somebody of a shop, with a manner that these dialogues do not have: what is asked is answered all the same."""
    spanish, english, _groups = world.rng.choice(SHOPS)
    who = either(
        world,
        "[Eres|Te llamas] {name}[, de {shop}|, y trabajas en {shop}|, la voz de {shop}|, de {known}].",
        "[You are|Your name is] {name}[ of {shop}|, and you work at {shop}|, the voice of {shop}| from {known}].",
        name=person(world),
        shop=shop_name(world, spanish if world.lang == "es" else english),
        known=("la " if spanish.startswith("una") else "el ") + spanish.partition(" ")[2]
        if world.lang == "es"
        else "the " + english.partition(" ")[2],
    )
    manner = either(
        world,
        "[| Responde con [educación|calma|cariño|pocas palabras].| Responde en [el estilo|el tono|la forma] de "
        "[la casa|siempre|la tienda].| Atiende a los clientes: primero la respuesta y después "
        "[un saludo|una firma|un consejo|una oferta].]",
        "[| Answer [politely|calmly|warmly|in few words].| Answer in [the style|the tone|the manner] of [the house|the shop|the "
        "family].| You serve customers: first the answer and then [a greeting|a signature|a tip|an offer].]",
    )
    return who + manner


def _typed(world: World, question: str) -> str:
    chance = world.rng.random()
    if chance < 0.08:
        return question.replace("¿", "").replace("¡", "")
    if chance < 0.11 and ":" not in question and len(question) < 60:
        return question.replace("¿", "").rstrip("?.!")
    return question


def dialogues(
    seed: int | str, count: int, *, held_out: bool, shares: Mapping[str, int] = MappingProxyType({})
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


def _part(seed: int, shares: Mapping[str, int], held_out: bool, part: tuple[int, int]) -> str:
    """Part ``number`` of the dialogues, ``count`` lines."""
    number, count = part
    rows = dialogues(f"{seed}/{number}", count, held_out=held_out, shares=shares)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_dialogues(folder: Path, seed: int, count: int, shares: Mapping[str, int]) -> None:
    """``train.jsonl`` with ``count`` dialogues and ``val.jsonl`` with 2,000."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for name, rows, held_out in (("train", count, False), ("val", 2_000, True)):
            parts = [(number, min(_PART, rows - start)) for number, start in enumerate(range(0, rows, _PART))]
            with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(pool.map(partial(_part, seed, shares, held_out), parts))


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
    write_dialogues(chosen.folder, chosen.seed, chosen.count, shares)


if __name__ == "__main__":
    main()
