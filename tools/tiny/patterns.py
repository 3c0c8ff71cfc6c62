"""Dialogues that show a pattern by examples: labels that exist nowhere else, forms that a text is put into, parts that are taken.

What is to be done stands in no instruction: it can be learnt from the examples alone. The first answers cannot be known and are
not trained.
"""

import json
from collections.abc import Callable

from tools.tiny.dialogues import Dialogue, Turn, city, person, thing
from tools.tiny.grammar import World, either, invented, say
from tools.tiny.knowledge import BLAME, PRAISE
from tools.tiny.words import THINGS
from tools.tiny.worlds import VALUES, code

Pair = tuple[str, str]  # what is given and what it becomes
_MARKS = ("->", "=>", "»", "*", "#", "@", "::", "~", "+", "/")
_BRACKETS = (("[", "]"), ("<", ">"), ("(", ")"), ("«", "»"), ("{", "}"), ("*", "*"), ('"', '"'))


def _word(w: World) -> str:
    return w.rng.choice((invented, lambda v: thing(v).name(v.lang), person))(w)


def _label(w: World) -> str:
    """A word, a letter or a number that means nothing before the examples."""
    made = w.rng.choice((invented(w), invented(w).lower(), code(w), w.rng.choice("ABCDEFGH"), str(w.rng.randint(1, 99))))
    return str(made)


def _sentence(w: World) -> str:
    return either(
        w,
        "{who} [vive en|viene de|trabaja en|llama desde] {where}",
        "{who} [lives in|comes from|works in|calls from] {where}",
        who=person(w),
        where=city(w),
    )


def _known_again(w: World, count: int) -> list[Pair]:
    """Few things with a label each; the last one was labelled before."""
    labels = [_label(w) for _ in range(w.rng.randint(2, 4))]
    given = {word: w.rng.choice(labels) for word in (_word(w) for _ in range(max(2, count // 2)))}
    pairs = list(given.items())
    return [*pairs, *w.rng.choices(pairs, k=max(1, count + 1 - len(pairs)))]


def _by_group(w: World, count: int) -> list[Pair]:
    """Things labelled by what they are."""
    groups = w.rng.sample(list(THINGS), 2)
    labels = dict(zip(groups, _two_labels(w), strict=True))
    shown = [groups[number % 2] for number in range(count)]
    w.rng.shuffle(shown)
    order = [*shown, w.rng.choice(groups)]
    return [(w.rng.choice(THINGS[group]).name(w.lang), labels[group]) for group in order]


def _by_mood(w: World, count: int) -> list[Pair]:
    """Opinions labelled by whether they are good."""
    labels = _two_labels(w)
    pairs = []
    for number in range(count + 1):
        good = w.rng.random() < 0.5 if number > 1 else bool(number)
        noun = thing(w)
        the = noun.name(w.lang)
        article = ("la " if noun.feminine else "el ") if w.lang == "es" else "the "
        text = say(w, w.rng.choice((PRAISE if good else BLAME)[w.lang]), thing=article + the, Thing=(article + the).capitalize())
        pairs.append((text, labels[good]))
    return pairs


def _two_labels(w: World) -> tuple[str, str]:
    first, second = _label(w), _label(w)
    return (first, second) if first != second else _two_labels(w)


def _in_form(w: World, count: int) -> list[Pair]:
    """A text put into a form with fixed words and signs."""
    a, b = _word(w), _word(w)
    left, right = w.rng.choice(_BRACKETS)
    mark = w.rng.choice(_MARKS)
    forms: tuple[Callable[[str], str], ...] = (
        lambda x: f"{left}{x}{right}",
        lambda x: f"{a} {x}",
        lambda x: f"{x} {a}",
        lambda x: f"{a} {x} {b}",
        lambda x: f"{x} {mark} {a}",
        lambda x: f"{a}: {x}",
        lambda x: f"{left}{a}{right} {x}",
        lambda x: f"{x} {mark} {x}",
        lambda x: f"- {x}\n- {a}",
        lambda x: f"{left}{a}{right}\n{mark} {x}\n{b}",
        lambda x: f"{x}\n{a}\n" + json.dumps({b: x}, ensure_ascii=False),
        lambda x: json.dumps({a: x}, ensure_ascii=False),
    )
    form = w.rng.choice(forms)
    make = w.rng.choice((_word, _word, _sentence))
    return [(x, form(x)) for x in (make(w) for _ in range(count + 1))]


def _part(w: World, count: int) -> list[Pair]:
    """A part of what is given: a word of it, or its parts in another order."""
    takes: tuple[Callable[[list[str]], str], ...] = (
        lambda parts: parts[0],
        lambda parts: parts[-1],
        lambda parts: f"{parts[1]} {parts[0]}",
        lambda parts: f"{parts[-1]}: {parts[0]}",
        lambda parts: f"{parts[0]} | {parts[-1]}",
    )
    take = w.rng.choice(takes)
    if w.rng.random() < 0.5:
        texts = [_sentence(w) for _ in range(count + 1)]
    else:
        size = w.rng.choice((2, 3))
        texts = [" ".join(_word(w).split()[0] for _ in range(size)) for _ in range(count + 1)]
    return [(text, take(text.split())) for text in texts]


def _value_of(w: World, count: int) -> list[Pair]:
    """A value taken out of a sentence, always the same one."""
    kind = w.rng.choice(("money", "hour", "phone", "date", "number"))
    template = either(
        w,
        "[{who} pagó {v} en {where}.|Para {who}, de {where}: {v}.|En {where} {who} dijo {v}.]",
        "[{who} paid {v} in {where}.|For {who} from {where}: {v}.|In {where} {who} said {v}.]",
        who="{who}",
        where="{where}",
        v="{v}",
    )
    wanted = w.rng.choice(("who", "v", "v", "where"))
    pairs = []
    for _ in range(count + 1):
        slots = {"who": person(w), "where": city(w), "v": VALUES[kind](w)}
        pairs.append((template.format(**slots), slots[wanted]))
    return pairs


PATTERNS: dict[str, tuple[Callable[[World, int], list[Pair]], int]] = {
    "again": (_known_again, 2),
    "group": (_by_group, 2),
    "mood": (_by_mood, 1),
    "form": (_in_form, 4),
    "part": (_part, 2),
    "value": (_value_of, 2),
}


def long_pattern(w: World) -> Dialogue:
    """A pattern that is gone on with many times."""
    return few_shot(w, examples=w.rng.randint(6, 11), in_turns=0.95)


def few_shot(w: World, *, examples: int | None = None, in_turns: float = 0.7) -> Dialogue:
    """Turns that show a pattern, the last of which asks for it; or the examples in one message."""
    names = list(PATTERNS)
    make = PATTERNS[w.rng.choices(names, [weight for _, weight in PATTERNS.values()])[0]][0]
    pairs = make(w, examples or w.rng.randint(3, 6))
    if w.rng.random() < in_turns:
        system = either(
            w, "[|||Sigue los ejemplos.|Haz como en los ejemplos.]", "[|||Follow the examples.|Do as in the examples.]"
        )
        turns: tuple[Turn, ...] = tuple(pairs)
        new = len(dict(pairs)) if make is _known_again else 2  # what is labelled for the first time cannot be known
        return Dialogue(turns, system, shown=min(new, len(turns) - 1))
    first, second = either(w, "[Entrada+Salida|Texto+Resultado|P+R]", "[Input+Output|Text+Result|Q+A]").split("+")
    shown = "\n".join(f"{first}: {given}\n{second}: {made}" for given, made in pairs[:-1])
    return Dialogue(((f"{shown}\n{first}: {pairs[-1][0]}\n{second}:", pairs[-1][1]),))
