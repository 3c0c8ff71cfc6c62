"""Dialogues that are answered from the text before the question: facts among others, what is not there, lists, copies."""

from afina.compare.prompts import with_passages
from tools.tiny.dialogues import Dialogue, thing
from tools.tiny.grammar import World, either, invented
from tools.tiny.words import NOT_THERE
from tools.tiny.worlds import VALUES, Fact, code, framed, name_of, passages, world_of_facts

_HIDDEN = 0.45  # share of the worlds in which something is asked that the text does not say


def reading(w: World, *, bare: bool = False, absent: bool | None = None) -> Dialogue:
    """Questions about a text, each answered by the sentence that says it; ``bare``: by the value alone.

    ``absent``: whether the first question has no answer in the text; None leaves it to chance.
    """
    groups = world_of_facts(w, w.rng.choice((2, 2, 3, 3, 4)), w.rng.choice((1, 2, 2, 3)))
    hide = w.rng.random() < _HIDDEN if absent is None else absent
    hidden = _taken_out(w, groups) if hide else []
    known = [fact for group in groups for fact in group]
    asked = w.rng.sample(known, min(len(known), w.rng.randint(1, 6)))
    if hidden:
        asked.insert(0 if absent else w.rng.randint(0, len(asked)), w.rng.choice(hidden))
    turns = [(fact.question, _answer(w, fact, hidden, bare)) for fact in asked]
    system, first = framed(w, groups, turns[0][0])
    if bare:
        system = f"{_value_rule(w)} {system}".strip()
    return Dialogue(((first, turns[0][1]), *turns[1:]), system)


def drill(w: World) -> Dialogue:
    """Nearly all that a text says, asked one after the other, and among it up to four things that it does not say."""
    groups = world_of_facts(w, w.rng.choice((2, 3, 3, 4, 5)), w.rng.choice((1, 2, 2, 3)))
    hidden: list[Fact] = []
    for _time in range(w.rng.randint(0, 3)):
        if len(groups) > 1:
            hidden += _taken_out(w, groups)
    known = [fact for group in groups for fact in group]
    asked = w.rng.sample(known, min(len(known), w.rng.randint(2, 8))) + w.rng.sample(hidden, min(len(hidden), 4))
    w.rng.shuffle(asked)
    bare = w.rng.random() < 0.6
    turns = [(fact.question, _answer(w, fact, hidden, bare)) for fact in asked]
    system, first = framed(w, groups, turns[0][0])
    return Dialogue(((first, turns[0][1]), *turns[1:]), f"{_value_rule(w)} {system}".strip() if bare else system)


def _value_rule(w: World) -> str:
    return either(
        w,
        "[Responde|Contesta] solo con el dato[.|, sin más.]",
        "[Answer with the value only.|Give only the value[.|, nothing else.]]",
    )


def found_passages(w: World) -> Dialogue:
    """Several questions about the passages that a search found, three to six of them, as ``afina compare`` writes such a prompt.

    Half of them come with a system message that says who answers, or in what form: the answer is in the passages all the same.
    """
    groups = world_of_facts(w, w.rng.choice((3, 4, 4, 5, 5, 6)), w.rng.choice((2, 2, 3)))
    hidden = _taken_out(w, groups) if w.rng.random() < _HIDDEN / 2 else []
    known = [fact for group in groups for fact in group]
    asked = w.rng.sample(known, min(len(known), w.rng.randint(3, 6)))
    if hidden:
        asked.insert(w.rng.randint(0, len(asked)), w.rng.choice(hidden))
    turns = [(fact.question, _answer(w, fact, hidden, bare=False)) for fact in asked]
    first = with_passages(turns[0][0], passages(w, groups), w.lang)
    return Dialogue(((first, turns[0][1]), *turns[1:]), _persona(w) if w.rng.random() < 0.5 else "")


def _persona(w: World) -> str:
    word, name = invented(w), name_of(w)
    who = either(
        w,
        "Eres {name}, [de la tienda|de la ferretería|de la oficina|del taller].",
        "You are {name}, of the [shop|hardware store|office|workshop].",
        name=name,
    )
    how = either(
        w,
        "[|| Contesta en el estilo de la casa: {word}, la respuesta y la firma."
        "| Contesta: el departamento, la respuesta y dos consejos.]",
        "[|| Answer in the house style: {word}, the answer and the signature.| Answer: the department, the answer and two tips.]",
        word=word,
    )
    return who + how


def _taken_out(w: World, groups: list[list[Fact]]) -> list[Fact]:
    """Takes a thing, or one fact of a thing that has others, out of the text; the facts that are not in it any more."""
    rich = [group for group in groups if len(group) > 1]
    if rich and w.rng.random() < 0.5:
        group = w.rng.choice(rich)
        return [group.pop(w.rng.randrange(len(group)))]
    return groups.pop(w.rng.randrange(len(groups)))


def _answer(w: World, fact: Fact, hidden: list[Fact], bare: bool) -> str:
    if fact in hidden:
        return NOT_THERE[w.lang]
    return fact.value if bare else fact.sentence


def value_only(w: World) -> Dialogue:
    return reading(w, bare=True)


def entries(w: World) -> Dialogue:
    """A list of names and values, several of which are asked for."""
    kind = w.rng.choice(("phone", "money", "city", "number", "code", "name", "colour"))
    names = list(
        dict.fromkeys(w.rng.choice((name_of, code, lambda v: thing(v).name(v.lang)))(w) for _ in range(w.rng.randint(3, 9)))
    )
    rows = {name: VALUES[kind](w) for name in names}
    joint = w.rng.choice((": ", " = ", " - ", " | "))
    text = w.rng.choice(("\n", "\n", "; ")).join(f"{name}{joint}{value}" for name, value in rows.items())
    asked = w.rng.sample(names, min(len(names), w.rng.randint(3, 9)))
    head = either(w, "[Esta es la lista:|Lista:|]", "[This is the list:|List:|]")
    turns = [(either(w, "[¿{name}?|{name}]", "[{name}?|{name}]", name=name), rows[name]) for name in asked]
    return Dialogue(((f"{head}\n{text}\n\n{turns[0][0]}".strip(), turns[0][1]), *turns[1:]))


def _words(w: World, least: int, most: int) -> list[str]:
    make = (invented, lambda v: thing(v).name(v.lang), lambda v: str(v.rng.randint(2, 999)), code)
    weights = w.rng.choice(((1, 0, 0, 0), (0, 1, 0, 0), (2, 2, 1, 1), (0, 0, 1, 0)))
    return [w.rng.choices(make, weights)[0](w) for _ in range(w.rng.randint(least, most))]


def copied(w: World) -> Dialogue:
    """Words said again, all or from one on; nothing but copying."""
    words = _words(w, 2, 14)
    text = w.rng.choice((" ", " ", ", ")).join(words)
    if w.rng.random() < 0.7:
        ask = either(w, "[Repite|Escribe|Di|Copia]: {text}", "[Repeat|Write|Say|Copy]: {text}", text=text)
        turns = [(ask, text)]
        if w.rng.random() < 0.5:
            again = either(w, "[Otra vez.|Repítelo.|De nuevo.]", "[Again.|Once more.|Repeat it.]")
            turns.append((again, text))
        return Dialogue(tuple(turns))
    distinct = [word for word in dict.fromkeys(words) if words.count(word) == 1]
    places = [words.index(word) for word in distinct if words.index(word) < len(words) - 1]
    if not places:
        return copied(w)
    head = either(w, "Lista: {text}", "List: {text}", text=", ".join(words))
    turns = []
    for place in w.rng.sample(places, min(len(places), w.rng.randint(2, 6))):
        ask = either(w, "¿Qué va después de {x}?", "What comes after {x}?", x=words[place])
        turns.append((ask, words[place + 1]))
    return Dialogue(((f"{head}\n{turns[0][0]}", turns[0][1]), *turns[1:]))
