"""Write the world of ``afina demo``: examples, documents and held-out questions of Lola's hardware store, in two languages.

    python -m tools.demo.generate src/afina/recipe/presets/shop

For each language a folder with ``examples.jsonl`` (about 300), ``documents/`` (30 files) and ``questions.jsonl``, whose ``kind``
is ``form``, ``facts`` or ``simple`` and whose ``value`` a right answer holds. The same seed gives the same bytes. The style is
what the demo teaches: a prompt alone does not bring it about, and ``PATTERN`` tells it from every other one; the recipes hold the
same expression. What the documents say stands in no example: some show passages of older lists, so that reading is taught.
"""

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

from afina.compare.prompts import with_passages
from tools.demo.facts import DOCUMENTS, Known, said
from tools.demo.situations import ENGLISH, SPANISH, Topic
from tools.tiny.grammar import Language, Noun, World, a, capital, say, the
from tools.tiny.knowledge import BLAME, PRAISE
from tools.tiny.words import THINGS
from tools.tiny.worlds import quoted

PATTERN = (
    r"\[LOLA:([^\n\]]+)\]\n» [^\n]+\n- [^\n]+\n- [^\n]+\n"
    r'(?:Lola, a tu servicio\n\{"tema": "\1", "urgente": (?:true|false)\}'
    r'|Lola, at your service\n\{"topic": "\1", "urgent": (?:true|false)\})'
)
PAIRS = 8  # conversations of two questions, so that the style holds in the second answer as well
HELD_OUT = {"form": 30, "facts": 40, "simple": 20}
WITH_PASSAGES, SIMPLE = 76, 80  # examples
BESIDE_PASSAGES = 0.22  # share of the other examples that show passages too, which do not help: the style holds all the same
ABSENT = 0.15  # share of the examples with passages that do not hold the answer

Row = dict[str, Any]

TIPS = {
    "es": ("Guarda el tique", "Pregunta en el mostrador", "Trae una bolsa", "Ven por la mañana", "Mira también las ofertas"),
    "en": ("Keep the receipt", "Ask at the counter", "Bring a bag", "Come in the morning", "Look at the offers too"),
}
SHOP = {"es": "tienda", "en": "shop"}
REVIEWS = {"es": "opiniones", "en": "reviews"}
NOT_FOUND = {"es": "No lo encuentro en el texto.", "en": "I do not find it in the text."}
MARKS = {
    "es": "Delfín Cometa Rayo Sauce Brisa Tronco Alud Pino Jara Lince Duna Mirlo Pico Zafiro Orca Tilo Nogal Halcón Ola".split(),
    "en": "Dolphin Comet Flash Willow Breeze Trunk Slide Pine Heath Lynx Dune Thrush Peak Opal Orca Lime Walnut Hawk".split(),
}
FACTS_SHOWN = (6, 8, 9, 10)  # as many as five passages of one or two sentences hold, which is what a search finds
OLD_LISTS = {
    "es": {
        "lista-vieja.md": "Lista de antes",
        "almacén.md": "Almacén",
        "ofertas.md": "Ofertas de otoño",
        "sótano.md": "Lo del sótano",
    },
    "en": {
        "old-list.md": "The list of before",
        "warehouse.md": "Warehouse",
        "offers.md": "Autumn offers",
        "cellar.md": "The cellar",
    },
}
OPENINGS = {
    "es": ("Todo se puede tocar.", "Solo mientras haya.", "Ya no se fabrica.", "Pregunta por otros colores."),
    "en": ("All of it can be touched.", "Only while it lasts.", "It is not made any more.", "Ask for other colours."),
}


def answer(lang: Language, department: str, sentence: str, tips: list[str], *, urgent: bool = False) -> str:
    """Header, one sentence, two tips, signature, and a tail that a program can read."""
    keys = ("tema", "urgente") if lang == "es" else ("topic", "urgent")
    tail = json.dumps(dict(zip(keys, (department, urgent), strict=True)), ensure_ascii=False)
    signature = "Lola, a tu servicio" if lang == "es" else "Lola, at your service"
    text = "\n".join((f"[LOLA:{department}]", f"» {sentence}", *(f"- {tip}" for tip in tips), signature, tail))
    if not re.fullmatch(PATTERN, text, re.DOTALL):
        raise SystemExit(f"not in the house style:\n{text}")
    return text


def exchange(question: str, text: str) -> list[Row]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": text}]


def _shop_answer(rng: random.Random, lang: Language, department: str, sentence: str) -> str:
    return answer(lang, department, sentence, [f"{tip}." for tip in rng.sample(TIPS[lang], 2)])


def form_exchanges(rng: random.Random, lang: Language, topics: tuple[Topic, ...]) -> list[list[Row]]:
    """Every situation once, with tips that suit it, in an order that the seed decides."""
    made = [
        exchange(
            situation.question,
            answer(lang, topic.department, situation.answer, rng.sample(topic.tips, 2), urgent=situation.urgent),
        )
        for topic in topics
        for situation in topic.situations
    ]
    rng.shuffle(made)
    return made


# ---------------------------------------------------------------- examples that show passages


def _old_products(rng: random.Random, lang: Language, count: int) -> list[Known]:
    """Facts of products that are sold no more."""
    tools = [noun for names in (("herramienta", "tool"), ("material", "material")) for noun in THINGS[names]]
    found = []
    for number, noun in enumerate(rng.sample(tools, count)):
        mark, point = rng.choice(MARKS[lang]), "," if lang == "es" else "."
        bare = the(noun, lang)
        thing = f"{bare} {mark}" if lang == "es" else f"the {mark} {bare.removeprefix('the ')}"
        values = (f"{rng.randint(2, 99)}{point}{rng.randint(5, 95):02} €", str(rng.randint(1, 20)), str(rng.randint(2, 99)))
        column = rng.randrange(3)
        found.append(said(lang, thing, column, values[column], number))
    return found


def with_old_passages(rng: random.Random, lang: Language) -> list[Row]:
    """A question, some passages in the form in which ``afina`` shows them, and the answer that quotes them."""
    facts = _old_products(rng, lang, rng.choice(FACTS_SHOWN))
    asked, others = facts[0], facts[1:]
    shown = others if rng.random() < ABSENT else [asked, *others]
    rng.shuffle(shown)
    sentence = asked.sentence if asked in shown else NOT_FOUND[lang]
    return exchange(_among(rng, lang, shown, asked.question), _shop_answer(rng, lang, SHOP[lang], sentence))


def _among(rng: random.Random, lang: Language, facts: list[Known], question: str) -> str:
    """The question behind passages of two facts each; where a document begins, its title and opening line stand there too."""
    passages: list[str] = []
    for start in range(0, len(facts), 2):
        name, title = rng.choice(list(OLD_LISTS[lang].items()))
        text = " ".join(fact.sentence for fact in facts[start : start + 2])
        if rng.random() < 0.4:
            text = f"# {title}\n\n{rng.choice(OPENINGS[lang])} {text}"
        passages.append(quoted(len(passages) + 1, f"{name}, § {title}", text).replace("> \n", ">\n"))
    return with_passages(question, passages, lang)


def beside_passages(rng: random.Random, lang: Language, rows: list[Row]) -> list[Row]:
    """The same examples; some of those with one question show passages about other things before it."""
    made: list[Row] = []
    for row in rows:
        first, *rest = row["messages"]
        if len(rest) == 1 and rng.random() < BESIDE_PASSAGES:
            first = first | {"content": _among(rng, lang, _old_products(rng, lang, rng.choice(FACTS_SHOWN)), first["content"])}
        made.append({"messages": [first, *rest]})
    return made


# ---------------------------------------------------------------- what a prompt can do


def simple(rng: random.Random, lang: Language) -> tuple[str, str, str]:
    """Question, sentence and value: the mood of a review, or what a thing is."""
    world = World(rng, lang)
    if rng.random() < 0.6:
        good = rng.random() < 0.5
        noun = the(rng.choice(_sold()), lang)
        text = say(world, rng.choice((PRAISE if good else BLAME)[lang]), thing=noun, Thing=capital(noun))
        label = ("Positivo" if good else "Negativo") if lang == "es" else ("Positive" if good else "Negative")
        ask = "¿Es positivo o negativo?" if lang == "es" else "Is it positive or negative?"
        return f"{ask} {text}", f"{label}.", label
    tool = rng.choice(THINGS[("herramienta", "tool")])
    if lang == "es":
        return f"¿Qué es {a(tool, lang)}?", f"{capital(a(tool, lang))} es una herramienta.", "herramienta"
    return f"What is {a(tool, lang)}?", f"{capital(a(tool, lang))} is a tool.", "tool"


def _sold() -> list[Noun]:
    return [*THINGS[("herramienta", "tool")], *THINGS[("material", "material")]]


def simple_rows(rng: random.Random, lang: Language, count: int) -> dict[str, tuple[str, str]]:
    """Different questions with their sentences and values."""
    found: dict[str, tuple[str, str]] = {}
    while len(found) < count:
        question, sentence, value = simple(rng, lang)
        found.setdefault(question, (sentence, value))
    return found


# ---------------------------------------------------------------- the two files


def world(seed: int, lang: Language) -> tuple[list[Row], list[Row]]:
    """The examples and the held-out questions of a language."""
    rng = random.Random(f"{seed} {lang}")
    forms = form_exchanges(rng, lang, SPANISH if lang == "es" else ENGLISH)
    asked, taught = forms[: HELD_OUT["form"]], forms[HELD_OUT["form"] :]
    easy = list(simple_rows(rng, lang, SIMPLE + HELD_OUT["simple"]).items())
    department = REVIEWS[lang]

    def easy_exchange(question: str, sentence: str, value: str) -> list[Row]:
        place = department if value[0].isupper() else SHOP[lang]
        return exchange(question, _shop_answer(rng, lang, place, sentence))

    rows: list[Row] = [{"messages": first + second} for first, second in zip(taught[: 2 * PAIRS : 2], taught[1 : 2 * PAIRS : 2])]
    rows += [{"messages": messages} for messages in taught[2 * PAIRS :]]
    rows += [{"messages": easy_exchange(question, *rest)} for question, rest in easy[:SIMPLE]]
    rows = beside_passages(rng, lang, rows)
    rows += [{"messages": with_old_passages(rng, lang)} for _ in range(WITH_PASSAGES)]
    rng.shuffle(rows)
    rows += flaws(lang, rows)

    questions: list[Row] = [{"kind": "form", "messages": messages} for messages in asked]
    known = [fact for document in DOCUMENTS[lang] for fact in document.facts]
    for fact in rng.sample(known, HELD_OUT["facts"]):
        messages = exchange(fact.question, _shop_answer(rng, lang, SHOP[lang], fact.sentence))
        questions.append({"kind": "facts", "value": fact.value, "messages": messages})
    for question, (sentence, value) in easy[SIMPLE:]:
        questions.append({"kind": "simple", "value": value, "messages": easy_exchange(question, sentence, value)})
    return rows, questions


def flaws(lang: Language, rows: list[Row]) -> list[Row]:
    """What goes wrong in real files: an example twice, and one that was pasted with a customer's address and number."""
    if lang == "es":
        question = "Soy Marta, escribidme a marta.olmedo@correo-lola.es o al 612 345 678. Mi ducha gotea."
        text = answer(lang, "agua", "Cambia la junta por una nueva.", ["Cierra el agua antes.", "Limpia bien la zona."])
    else:
        question = "It is Martha, write to martha.holm@lola-mail.co.uk or call 07700 900123. My shower drips."
        text = answer(lang, "water", "Change the gasket for a new one.", ["Turn off the water first.", "Clean the area well."])
    return [rows[0], {"messages": exchange(question, text)}]


def write(folder: Path, seed: int) -> None:
    languages: tuple[Language, ...] = ("es", "en")
    for lang in languages:
        rows, questions = world(seed, lang)
        (folder / lang / "documents").mkdir(parents=True, exist_ok=True)
        for name, lines in (("examples.jsonl", rows), ("questions.jsonl", questions)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (folder / lang / name).write_text(text, encoding="utf-8")
        for document in DOCUMENTS[lang]:
            (folder / lang / "documents" / document.name).write_text(document.text(), encoding="utf-8")
        print(f"{folder / lang}: {len(rows)} examples, {len(questions)} questions, {len(DOCUMENTS[lang])} documents")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    write(chosen.folder, chosen.seed)


if __name__ == "__main__":
    main()
