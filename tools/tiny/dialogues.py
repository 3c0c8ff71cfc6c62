"""The kinds of dialogue that the tiny model learns. Every kind is a function from a world to one dialogue."""

import json
from dataclasses import dataclass
from typing import Any

from tools.tiny.grammar import Language, Noun, World, a, capital, either, invented, listed, pick, plural, say, several, the
from tools.tiny.knowledge import BLAME, FAULTS, JOBS, PRAISE, TOPICS
from tools.tiny.words import (
    CAPITALS,
    CITIES,
    COLOURS,
    DAYS,
    EVERYTHING,
    LIVING,
    MONTHS,
    NAMES,
    NOT_THERE,
    OPPOSITES,
    SHOPS,
    SIZES,
    STREETS,
    THINGS,
)

Turn = tuple[str, str]  # a question and its answer


@dataclass(frozen=True)
class Dialogue:
    """Some turns of user and assistant, with or without a system message; the first ``shown`` answers cannot be known."""

    turns: tuple[Turn, ...]
    system: str = ""
    shown: int = 0

    def messages(self) -> list[dict[str, Any]]:
        """The dialogue as rows of ``role`` and ``content``; ``trained`` is false where an answer is not to be learnt."""
        rows: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        for number, (question, answer) in enumerate(self.turns):
            rows += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            if number < self.shown:
                rows[-1]["trained"] = False
        return rows


def alone(question: str, answer: str) -> Dialogue:
    return Dialogue(((question, answer),))


# ---------------------------------------------------------------- slot fillers


def person(w: World) -> str:
    return pick(w, NAMES) if w.rng.random() < 0.6 else invented(w)


def city(w: World) -> str:
    return pick(w, CITIES) if w.rng.random() < 0.6 else invented(w)


def known_thing(w: World) -> Noun:
    """A thing that the answer must know; these are the same in training and in the validation part."""
    return w.rng.choice(EVERYTHING)


def thing(w: World) -> Noun:
    """A thing that the answer only copies from the question."""
    return pick(w, EVERYTHING)


def colour(w: World, noun: Noun) -> str:
    masculine, feminine, english = w.rng.choice(COLOURS)
    return english if w.lang == "en" else feminine if noun.feminine else masculine


def street(w: World) -> str:
    number = w.rng.randint(1, 99)
    name = w.rng.choice(STREETS[w.lang])
    return f"{name}, {number}" if w.lang == "es" else f"{number} {name}"


def price(w: World) -> str:
    euros = w.rng.choice((w.rng.randint(1, 20), w.rng.randint(2, 99)))
    return f"{euros} euros"


def hour(w: World, low: int, high: int) -> str:
    return f"{w.rng.randint(low, high)}:{w.rng.choice(('00', '00', '30'))}"


def phone(w: World) -> str:
    return " ".join(str(w.rng.randint(100, 999)) for _ in range(3))


# ---------------------------------------------------------------- small talk


def greeting(w: World) -> Dialogue:
    hello = either(w, "[Hola|Buenas|Buenos días|Buenas tardes|Hola, buenas]", "[Hello|Hi|Good morning|Good afternoon|Hey]")
    extra = either(w, "[.|!|, ¿qué tal?|, ¿cómo estás?|]", "[.|!|, how are you?|, how is it going?|]")
    if "?" in extra:
        reply = either(
            w,
            "[¡Hola! Muy bien, gracias.|Hola, todo bien.] ¿En qué [puedo ayudarte|te ayudo]?",
            "[Hello! I am fine, thank you.|Hi, all good.] How can I help you?",
        )
    else:
        reply = either(
            w,
            "[¡Hola!|¡Buenas!|Hola, encantado.] ¿En qué [puedo ayudarte|te ayudo]?",
            "[Hello!|Hi there!|Hello, nice to meet you.] How can I help you?",
        )
    return alone(hello + extra, reply)


def farewell(w: World) -> Dialogue:
    question = either(
        w,
        "[Gracias|Muchas gracias|Adiós|Hasta luego|Hasta mañana|Gracias por todo|Vale, gracias|Eso es todo, gracias][.|!|]",
        "[Thanks|Thank you|Goodbye|See you later|See you tomorrow|"
        "Thanks for everything|Okay, thanks|That is all, thank you][.|!|]",
    )
    answer = either(
        w,
        "[De nada|Con mucho gusto|A ti]. [¡Hasta pronto!|¡Que tengas un buen día!|¡Hasta luego!]",
        "[You are welcome|My pleasure|Any time]. [See you soon!|Have a nice day!|Goodbye!]",
    )
    return alone(question, answer)


def who_are_you(w: World) -> Dialogue:
    question = either(
        w,
        "[¿Quién eres?|¿Qué eres?|¿Cómo te llamas?|¿Eres una persona?]",
        "[Who are you?|What are you?|What is your name?|Are you a person?]",
    )
    answer = either(
        w,
        "Soy un modelo de lenguaje muy pequeño[.|, hecho para aprender.]",
        "I am a very small language model[.|, made for learning.]",
    )
    return alone(question, answer)


def remembered_name(w: World) -> Dialogue:
    who, where = person(w), city(w)
    first = either(
        w,
        "[Hola, me|Me|Buenas, me] llamo {who}[.| y vivo en {where}.]",
        "[Hello, my|My|Hi, my] name is {who}[.| and I live in {where}.]",
        who=who,
        where=where,
    )
    turns = [
        (
            first,
            either(
                w,
                "[Hola, {who}|Encantado, {who}]. ¿En qué puedo ayudarte?",
                "[Hello, {who}|Nice to meet you, {who}]. How can I help you?",
                who=who,
            ),
        )
    ]
    if w.rng.random() < 0.4:
        turns.append(joke_or_fact(w).turns[0])
    turns.append(
        (
            either(w, "¿[Cómo me llamo|Sabes mi nombre|Cuál es mi nombre]?", "[What is my name|Do you know my name]?"),
            either(w, "Te llamas {who}.", "Your name is {who}.", who=who),
        )
    )
    if where in first:
        turns.append(
            (
                either(w, "¿Y dónde vivo?", "And where do I live?"),
                either(w, "Vives en {where}.", "You live in {where}.", where=where),
            )
        )
    return Dialogue(tuple(turns))


def joke_or_fact(w: World) -> Dialogue:
    noun = known_thing(w)
    question = either(
        w,
        "[Dime algo|Cuéntame algo|Háblame] [sobre|de] {noun}.",
        "[Tell me something|Tell me|Say something] about {noun}.",
        noun=plural(noun, w.lang),
    )
    return alone(question, description(w, noun))


# ---------------------------------------------------------------- things and what they are


def group_of(noun: Noun) -> tuple[str, str]:
    return next(names for names, nouns in THINGS.items() if noun in nouns)


def group_name(w: World, noun: Noun) -> str:
    spanish, english = group_of(noun)
    if w.lang == "en":
        return english if english in ("clothing", "food") else ("an " if english[0] in "aeio" else "a ") + english
    return ("una " if spanish.endswith(("a", "or")) and spanish != "mueble" else "un ") + spanish if spanish != "ropa" else "ropa"


def groups_name(w: World, names: tuple[str, str]) -> str:
    """The plural of a group: ``examples of food``, ``herramientas``."""
    spanish, english = names
    if spanish in ("ropa", "comida"):
        return either(w, "cosas de {kind}", "kinds of {kind}", kind=names[w.lang == "en"])
    return (
        plural(Noun(spanish, english, False), w.lang)
        if english != "piece of furniture" or w.lang == "es"
        else "pieces of furniture"
    )


def description(w: World, noun: Noun) -> str:
    """Two or three plain sentences about a thing."""
    _, english = group_of(noun)
    hue, (big, _, large) = colour(w, noun), w.rng.choice(SIZES)
    big = next(size[1] for size in SIZES if size[0] == big) if noun.feminine else big
    first = either(w, "{A} es {group}.", "{A} is {group}.", A=capital(a(noun, w.lang)), group=group_name(w, noun))
    second = either(
        w,
        "[Puede ser|Muchas veces es|A veces es] {size} y {hue}.",
        "It [can be|is often|is sometimes] {size} and {hue}.",
        size=big if w.lang == "es" else large,
        hue=hue,
    )
    if english in LIVING:
        third = either(
            w,
            "[Necesita comida, agua y cuidado.|Vive tranquilo si lo cuidas.]",
            "[It needs food, water and care.|It lives well if you look after it.]",
        )
    elif english in ("fruit", "vegetable", "food"):
        third = either(
            w,
            "[Se come en casa o en la calle.|Está muy bueno y se vende en la tienda.]",
            "[People eat it at home or outside.|It tastes good and is sold in the shop.]",
        )
    else:
        third = either(
            w,
            "[Se usa en casa y en el trabajo.|Se compra en una tienda.|Dura muchos años si lo cuidas.]",
            "[People use it at home and at work.|You can buy it in a shop.|It lasts for many years with some care.]",
        )
    return " ".join((first, second, third)[: w.rng.choice((2, 2, 3))])


def what_is(w: World) -> Dialogue:
    noun = known_thing(w)
    if w.rng.random() < 0.5:
        question = either(w, "¿Qué es {a}?", "What is {a}?", a=a(noun, w.lang))
        return alone(
            question, either(w, "{A} es {group}.", "{A} is {group}.", A=capital(a(noun, w.lang)), group=group_name(w, noun))
        )
    question = either(w, "[Describe|Descríbeme] {a}.", "Describe {a}[.| to me.]", a=a(noun, w.lang))
    return alone(question, description(w, noun))


def which_group(w: World) -> Dialogue:
    names = w.rng.choice(list(THINGS))
    examples = w.rng.sample(THINGS[names], w.rng.choice((2, 3)))
    question = either(
        w, "[Dime|Dame|Escribe] {n} {group}.", "[Give me|Tell me|Name] {n} {group}.", n=len(examples), group=groups_name(w, names)
    )
    return alone(question, capital(listed([noun.name(w.lang) for noun in examples], w.lang)) + ".")


def opposite(w: World) -> Dialogue:
    row = w.rng.choice(OPPOSITES)
    pair = row[:2] if w.lang == "es" else row[2:]
    one, other = pair if w.rng.random() < 0.5 else pair[::-1]
    question = either(w, "¿Cuál es [el contrario|lo contrario|el opuesto] de {one}?", "What is the opposite of {one}?", one=one)
    return alone(
        question,
        either(
            w,
            "[Lo contrario de {one} es {other}|Es {other}].",
            "[The opposite of {one} is {other}|It is {other}].",
            one=one,
            other=other,
        ),
    )


def capital_city(w: World) -> Dialogue:
    row = w.rng.choice(CAPITALS)
    country, its = row[:2] if w.lang == "es" else row[2:]
    question = either(w, "¿Cuál es la capital de {country}?", "What is the capital of {country}?", country=country)
    return alone(
        question, either(w, "La capital de {country} es {its}.", "The capital of {country} is {its}.", country=country, its=its)
    )


def calendar(w: World) -> Dialogue:
    names = w.rng.choice((DAYS, MONTHS))[w.lang]
    index = w.rng.randrange(len(names))
    if w.rng.random() < 0.5:
        return alone(
            either(w, "¿Qué [viene|va] después de {x}?", "What comes after {x}?", x=names[index]),
            either(w, "Después de {x} viene {y}.", "After {x} comes {y}.", x=names[index], y=names[(index + 1) % len(names)]),
        )
    return alone(
        either(w, "¿Qué [viene|va] antes de {x}?", "What comes before {x}?", x=names[index]),
        either(w, "Antes de {x} viene {y}.", "Before {x} comes {y}.", x=names[index], y=names[index - 1]),
    )


def translation(w: World) -> Dialogue:
    noun = known_thing(w)
    to_english = w.rng.random() < 0.5
    source, target = (noun.es, noun.en) if to_english else (noun.en, noun.es)
    language = either(w, "inglés" if to_english else "español", "English" if to_english else "Spanish")
    question = either(
        w,
        "[¿Cómo se dice «{source}» en {language}?|Traduce «{source}» al {language}.]",
        '[How do you say "{source}" in {language}?|Translate "{source}" into {language}.]',
        source=source,
        language=language,
    )
    answer = either(
        w,
        "[«{source}» se dice «{target}».|Se dice «{target}».]",
        '["{source}" is "{target}".|It is "{target}".]',
        source=source,
        target=target,
    )
    return alone(question, answer)


# ---------------------------------------------------------------- shops and advice


def shop_name(w: World, kind: str) -> str:
    noun = kind.partition(" ")[2] if w.lang == "es" else kind.partition(" ")[2].removesuffix("'s")
    who = person(w)
    return f"{capital(noun)} {who}" if w.lang == "es" else f"{who}'s {noun.title()}"


def do_you_sell(w: World) -> Dialogue:
    spanish, english, groups = w.rng.choice(SHOPS)
    kind = spanish if w.lang == "es" else english
    sold = [noun for names, nouns in THINGS.items() if names[1] in groups for noun in nouns]
    noun = w.rng.choice(sold)
    system = either(
        w,
        "[Eres el asistente de|Trabajas en|Atiendes] {kind}.",
        "[You are the assistant of|You work in|You help the customers of] {kind}.",
        kind=kind,
    )
    question = either(
        w,
        "[Hola, ¿|¿|Buenas, ¿][tenéis|tienen|vendéis|hay|tienes] {x}?",
        "[Hello, do|Do|Hi, do] you [have|sell] {x}?",
        x=plural(noun, w.lang),
    )
    if w.rng.random() < 0.7:
        answer = either(
            w,
            "Sí, [tenemos {x}|claro, tenemos {x}|vendemos {x}][.| de varios tipos.| de varios tamaños.| de buena calidad.]",
            "Yes, [we have {x}|of course, we have {x}|we sell {x}][.| of several kinds.| in several sizes.| of good quality.]",
            x=plural(noun, w.lang),
        )
    else:
        noun = w.rng.choice([other for other in EVERYTHING if other not in sold])
        question = either(
            w,
            "[Hola, ¿|¿|Buenas, ¿][tenéis|tienen|vendéis|hay] {x}?",
            "[Hello, do|Do|Hi, do] you [have|sell] {x}?",
            x=plural(noun, w.lang),
        )
        answer = either(
            w,
            "[No, lo siento|Lo siento], aquí no vendemos {x}.",
            "[No, sorry|Sorry], we do not sell {x} here.",
            x=plural(noun, w.lang),
        )
    turns: tuple[Turn, ...] = ((question, answer),)
    if w.rng.random() < 0.3:
        turns += farewell(w).turns
    return Dialogue(turns, system)


def advice(w: World) -> Dialogue:
    job = w.rng.choice(JOBS[w.lang])
    needs = listed(job.needs, w.lang)
    form = w.rng.randrange(6)
    if form == 0:
        question = either(
            w, "¿[Qué necesito|Qué hace falta|Qué me hace falta] para {task}?", "What do I need to {task}?", task=job.task
        )
        answer = either(w, "Para {task} necesitas {needs}.", "To {task} you need {needs}.", task=job.task, needs=needs)
    elif form == 1:
        question = either(w, "¿[Cómo puedo|Cómo se puede|Cómo hago para] {task}?", "How [can|do] I {task}?", task=job.task)
        answer = either(
            w,
            "[Necesitas|Usa|Te hace falta] {needs}. {advice}",
            "[You need|Use|Take] {needs}. {advice}",
            needs=needs,
            advice=job.advice,
        )
    elif form == 2:
        question = either(
            w,
            "[Quiero|Tengo que|Me gustaría|Necesito] {task}. [¿Algún consejo?|¿Qué hago?|¿Me ayudas?|¿Por dónde empiezo?]",
            "I [want|have|would like|need] to {task}. [Any advice?|What should I do?|Can you help me?|Where do I start?]",
            task=job.task,
        )
        answer = either(
            w,
            "[Claro.|Sí.|Por supuesto.|] {advice} Necesitas {needs}.",
            "[Sure.|Yes.|Of course.|] {advice} You need {needs}.",
            advice=job.advice,
            needs=needs,
        ).strip()
    elif form == 3:
        question = either(
            w,
            "[Dame un consejo|Dime un consejo|Un consejo] para {task}.",
            "[Give me some advice|Give me a tip|Some advice], I want to {task}.",
            task=job.task,
        )
        answer = job.advice
    elif form == 4:
        item = w.rng.choice(job.needs)
        question = either(w, "¿Para qué sirve {item}?", "What can I use {item} for?", item=item)
        answer = either(w, "Sirve para {task}, por ejemplo.", "You can use it to {task}, for example.", task=job.task)
    else:
        question = either(
            w,
            "[Dame|Hazme|Escribe] una lista de lo que necesito para {task}.",
            "[Give me|Make|Write] a list of what I need to {task}.",
            task=job.task,
        )
        answer = "\n".join(f"- {need}" for need in job.needs)
    turns: tuple[Turn, ...] = ((question, answer),)
    if w.rng.random() < 0.25:
        again = either(w, "[¿Algo más?|¿Y qué más?|¿Algún consejo más?]", "[Anything else?|And what else?|Any other advice?]")
        turns += (
            (
                again,
                job.advice
                if job.advice not in answer
                else either(w, "No, [con eso basta|eso es todo].", "No, [that is enough|that is all]."),
            ),
        )
    kind_es, kind_en, _ = w.rng.choice(SHOPS)
    system = either(
        w,
        "[Eres un asistente amable.|Responde de forma breve.|Eres el asistente de {kind}.]",
        "[You are a kind assistant.|Answer briefly.|You are the assistant of {kind}.]",
        kind=kind_es if w.lang == "es" else kind_en,
    )
    return Dialogue(turns, system if w.rng.random() < 0.35 else "")


def fault(w: World) -> Dialogue:
    """Something at home does not work; what to look at and what to use."""
    row = w.rng.choice(FAULTS[w.lang])
    where = either(
        w,
        "[|| de la cocina| del baño| del salón| de casa| del jardín| de mi madre]",
        "[|| in the kitchen| in the bathroom| in the hall| at home| in the garden]",
    )
    trouble = f"{row.thing}{where} {w.rng.choice(row.troubles)}"
    form = w.rng.randrange(4)
    remedy, advice = row.remedy, row.advice
    if form == 0:
        question = either(
            w,
            "{Trouble}. [¿Qué hago?|¿Qué puedo hacer?|¿Cómo lo arreglo?|¿Me ayudas?|Necesito ayuda.]",
            "{Trouble}. [What should I do?|What can I do?|How do I fix it?|Can you help me?|I need help.]",
            Trouble=capital(trouble),
        )
    elif form == 1:
        question = either(
            w, "[¿Qué hago si|¿Qué se hace cuando] {trouble}?", "[What do I do if|What helps when] {trouble}?", trouble=trouble
        )
    elif form == 2:
        question = either(
            w,
            "[¿Por qué {trouble}?|Mira, {trouble}, ¿qué compro?|{Trouble} [desde ayer|desde hace una semana], ¿qué uso?]",
            "[Look, {trouble}, what should I buy?|{Trouble} [since yesterday|again], what do I use?]",
            trouble=trouble,
            Trouble=capital(trouble),
        )
    else:
        question = either(
            w,
            "[Hola,|Buenas,|Perdona,] {trouble}. [¿Qué me recomiendas?|¿Qué me llevo?]",
            "[Hello,|Excuse me,|Hi,] {trouble}. [What do you recommend?|What do I need?]",
            trouble=trouble,
        )
    answer = either(
        w,
        "[{advice} {Remedy}.|{Remedy}.|Puedes hacer esto: {remedy}.|Lo mejor es esto: {remedy}. {advice}|"
        "No te preocupes. {Remedy}.]",
        "[{advice} {Remedy}.|{Remedy}.|You can do this: {remedy}.|The best is this: {remedy}. {advice}|Do not worry. {Remedy}.]",
        advice=advice,
        remedy=remedy,
        Remedy=capital(remedy),
    )
    turns: tuple[Turn, ...] = ((question, answer),)
    if w.rng.random() < 0.2:
        turns += (
            (
                either(w, "[¿Es urgente?|¿Corre prisa?]", "Is it urgent?"),
                either(
                    w,
                    "Sí, hazlo hoy." if row.urgent else "No, puede esperar.",
                    "Yes, do it today." if row.urgent else "No, it can wait.",
                ),
            ),
        )
    spanish, english, _ = SHOPS[0]
    system = either(
        w,
        "Eres el asistente de [{kind}|{name}].",
        "You are the assistant of [{kind}|{name}].",
        kind=spanish if w.lang == "es" else english,
        name=shop_name(w, spanish if w.lang == "es" else english),
    )
    return Dialogue(turns, system if w.rng.random() < 0.35 else "")


# ---------------------------------------------------------------- facts that stand in the prompt


def facts(w: World) -> list[tuple[str, str, str, str]]:
    """Sentence, question, answer and bare value of every fact about one shop."""
    spanish, english, groups = w.rng.choice(SHOPS)
    kind = spanish if w.lang == "es" else english
    name, where, address, owner = shop_name(w, kind), city(w), street(w), person(w)
    opens, closes, closed, number = hour(w, 7, 11), hour(w, 17, 22), w.rng.choice(DAYS[w.lang]), phone(w)
    sold = [noun for names, nouns in THINGS.items() if names[1] in groups for noun in nouns]
    lang: Language = w.lang
    if lang == "es":
        rows = [
            (
                f"La tienda se llama {name}.",
                "¿[Cómo se llama la tienda|Cuál es el nombre de la tienda]?",
                f"La tienda se llama {name}.",
                name,
            ),
            (f"{name} es {kind} de {where}.", "¿En qué ciudad [está|está la tienda]?", f"Está en {where}.", where),
            (
                f"Estamos en {address}.",
                "¿[Dónde está la tienda|Cuál es la dirección|En qué calle estáis]?",
                f"Estamos en {address}.",
                address,
            ),
            (f"Abre a las {opens}.", "¿A qué hora [abre|abrís|abre la tienda]?", f"Abre a las {opens}.", opens),
            (
                f"Cierra a las {closes}.",
                "¿[A qué hora cierra|A qué hora cerráis|Hasta qué hora está abierto]?",
                f"Cierra a las {closes}.",
                closes,
            ),
            (f"El {closed} está cerrado.", "¿Qué día [está cerrado|cierra]?", f"Está cerrado el {closed}.", closed),
            (f"El teléfono es {number}.", "¿[Cuál es el teléfono|Qué teléfono tenéis]?", f"El teléfono es {number}.", number),
            (f"La dueña es {owner}.", "¿[Quién es la dueña|Cómo se llama la dueña]?", f"La dueña es {owner}.", owner),
        ]
    else:
        rows = [
            (f"The shop is called {name}.", "What is the [name of the shop|shop called]?", f"The shop is called {name}.", name),
            (f"{name} is {kind} in {where}.", "[Which|What] city is [it|the shop] in?", f"It is in {where}.", where),
            (f"We are at {address}.", "[Where is the shop|What is the address|Where are you]?", f"We are at {address}.", address),
            (
                f"It opens at {opens}.",
                "[When does it open|What time do you open|When does the shop open]?",
                f"It opens at {opens}.",
                opens,
            ),
            (
                f"It closes at {closes}.",
                "[When does it close|What time do you close|Until when is it open]?",
                f"It closes at {closes}.",
                closes,
            ),
            (
                f"It is closed on {closed}.",
                "[Which day is it closed|On what day is it closed]?",
                f"It is closed on {closed}.",
                closed,
            ),
            (f"The phone number is {number}.", "What is [the|your] phone number?", f"The phone number is {number}.", number),
            (f"The owner is {owner}.", "Who is the owner?", f"The owner is {owner}.", owner),
        ]
    for noun in several(w, sold, 3):
        cost, shelf = price(w), w.rng.randint(1, 30)
        if lang == "es":
            rows.append(
                (
                    f"{capital(the(noun, lang))} cuesta {cost}.",
                    f"¿[Cuánto cuesta|Cuánto vale|Qué precio tiene] {the(noun, lang)}?",
                    f"{capital(the(noun, lang))} cuesta {cost}.",
                    cost,
                )
            )
            if w.rng.random() < 0.4:
                rows.append(
                    (
                        f"Los {plural(noun, lang)} están en el pasillo {shelf}."
                        if not noun.feminine
                        else f"Las {plural(noun, lang)} están en el pasillo {shelf}.",
                        f"¿Dónde [hay|encuentro] {plural(noun, lang)}?",
                        f"En el pasillo {shelf}.",
                        str(shelf),
                    )
                )
        else:
            rows.append(
                (
                    f"{capital(the(noun, lang))} costs {cost}.",
                    f"[How much is {the(noun, lang)}|What does {the(noun, lang)} cost|How much does {the(noun, lang)} cost]?",
                    f"{capital(the(noun, lang))} costs {cost}.",
                    cost,
                )
            )
            if w.rng.random() < 0.4:
                rows.append(
                    (
                        f"The {plural(noun, lang)} are in aisle {shelf}.",
                        f"Where [can I find|are the] {plural(noun, lang)}?",
                        f"In aisle {shelf}.",
                        str(shelf),
                    )
                )
    return rows


def facts_in_prompt(w: World) -> Dialogue:
    rows = facts(w)
    known = w.rng.sample(rows, w.rng.randint(2, 6))
    asked = w.rng.sample(known, min(len(known), w.rng.choice((1, 1, 2, 3))))
    unknown = [row for row in rows if row not in known]
    text = "\n".join(f"- {row[0]}" for row in known) if w.rng.random() < 0.3 else " ".join(row[0] for row in known)
    turns = [(say(w, row[1]), row[2]) for row in asked]
    if w.rng.random() < 0.2:
        turns.append(
            (
                say(w, w.rng.choice(unknown)[1]),
                NOT_THERE[w.lang],
            )
        )
        if w.rng.random() < 0.5:
            turns = turns[-1:]
    style = w.rng.randrange(4)
    if style == 0:
        return Dialogue(
            tuple(turns),
            either(
                w,
                "[Eres el asistente de una tienda.|Responde con estos datos.|Datos de la tienda:] {text}",
                "[You are the assistant of a shop.|Answer with these facts.|Facts about the shop:] {text}",
                text=text,
            ),
        )
    if style == 1:
        return Dialogue(
            tuple(turns),
            either(
                w,
                "Usa solo el contexto para responder.\n\nContexto:\n{text}",
                "Use only the context to answer.\n\nContext:\n{text}",
                text=text,
            ),
        )
    question, answer = turns[0]
    framed = either(
        w,
        "[Contexto|Texto|Datos]: {text}\n\nPregunta: {question}",
        "[Context|Text|Facts]: {text}\n\nQuestion: {question}",
        text=text,
        question=question,
    )
    if style == 3:
        framed = f"{text}\n{question}"
    return Dialogue(((framed, answer), *turns[1:]))


def order(w: World) -> Dialogue:
    """Who bought what, read from one message."""
    who, where, noun = person(w), city(w), thing(w)
    count, day = w.rng.randint(2, 12), w.rng.choice(DAYS[w.lang])
    text = either(
        w,
        "{who} [compró|pidió|encargó] {count} {things} [el {day}|el {day} por la mañana] en {where}.",
        "{who} [bought|ordered] {count} {things} [on {day}|on {day} morning] in {where}.",
        who=who,
        count=count,
        things=plural(noun, w.lang),
        day=day,
        where=where,
    )
    questions = (
        (either(w, "¿Quién [lo hizo|fue]?", "Who [did it|was it]?"), who),
        (either(w, "¿Cuántos [fueron|son]?", "How many [were they|are they]?"), str(count)),
        (either(w, "¿En qué ciudad?", "In which city?"), where),
        (either(w, "¿Qué día?", "[Which|What] day?"), capital(day)),
    )
    if w.rng.random() < 0.3:
        keys = ("nombre", "cantidad", "ciudad") if w.lang == "es" else ("name", "count", "city")
        ask = either(
            w,
            "[Saca los datos en JSON|Escribe los datos como JSON]: {text}",
            "[Extract the facts as JSON|Write the facts as JSON]: {text}",
            text=text,
        )
        return alone(ask, json.dumps(dict(zip(keys, (who, count, where), strict=True)), ensure_ascii=False))
    chosen = w.rng.sample(questions, w.rng.choice((1, 2, 3)))
    return Dialogue(((f"{text} {chosen[0][0]}", f"{chosen[0][1]}."), *((q, f"{v}.") for q, v in chosen[1:])))


def story(w: World) -> Dialogue:
    who, friend, where, noun, other = person(w), person(w), city(w), thing(w), thing(w)
    hue = colour(w, noun)
    slots = {
        "who": who,
        "friend": friend,
        "where": where,
        "a": a(noun, w.lang),
        "the": the(noun, w.lang),
        "hue": hue,
        "other": a(other, w.lang),
    }
    opening = either(
        w,
        "[Había una vez|Un día,] {who} [vivía en {where}|llegó a {where}].",
        "[Once upon a time|One day] {who} [lived in {where}|came to {where}].",
        **slots,
    )
    if w.lang == "es":  # drawn again and not instead, so that a seed keeps its text
        opening = say(
            w,
            "[Un día, {who} llegó a {where}.|{who} vivía en {where}.|Había una vez en {where} una persona que se llamaba {who}.]",
            **slots,
        )
    middle = either(
        w,
        "[Por la mañana|En el mercado|En la calle|En su casa] [encontró|vio|compró] {a} {hue}.",
        "[In the morning|At the market|In the street|At home] {who} [found|saw|bought] {a} that was {hue}.",
        **slots,
    )
    turn = either(
        w,
        "[Su amiga {friend} quería {the}, pero era tarde.|Entonces llegó {friend} con {other}.|"
        "Pero {the} se perdió y {friend} ayudó a buscar.]",
        "[A friend, {friend}, wanted {the}, but it was late.|Then {friend} came with {other}.|"
        "But {the} got lost and {friend} helped to look for it.]",
        **slots,
    )
    end = either(
        w,
        "[Al final|Esa noche] [todos rieron y cenaron juntos|volvieron a casa muy contentos|se hicieron buenos amigos].",
        "[In the end|That night] [they all laughed and had dinner together|they went home very happy|they became good friends].",
        **slots,
    )
    ask = either(
        w,
        "[Cuéntame|Escribe|Inventa] [una historia|un cuento|una historia corta] [con|sobre] {who}, {friend} y {a}.",
        "[Tell me|Write|Make up] [a story|a short story|a tale] about {who}, {friend} and {a}.",
        **slots,
    )
    tale = f"{opening} {middle} {turn} {end}"
    turns: tuple[Turn, ...] = ((ask, tale),)
    if w.rng.random() < 0.35:
        turns += (
            (
                either(w, "¿En qué ciudad pasa?", "In which city does it happen?"),
                either(w, "Pasa en {where}.", "It happens in {where}.", where=where),
            ),
        )
    if w.rng.random() < 0.3:
        question = either(
            w,
            "[Lee esto:|] {tale} ¿Qué [encontró|tiene] {who}?",
            "[Read this:|] {tale} What [did {who} find|does {who} have]?",
            tale=tale,
            who=who,
        ).strip()
        return alone(question, capital(either(w, "{a} {hue}.", "{a}.", a=a(noun, w.lang), hue=hue)))
    return Dialogue(turns)


# ---------------------------------------------------------------- instructions


def in_language(w: World) -> Dialogue:
    """The system message says the language; the question may be in the other one."""
    other = World(w.rng, "en" if w.lang == "es" else "es", w.held_out)
    rule = w.rng.choice(
        ("Responde siempre en español.", "Always answer in Spanish.", "Contesta en español.")
        if w.lang == "es"
        else ("Responde siempre en inglés.", "Always answer in English.", "Answer in English.")
    )
    asker = other if w.rng.random() < 0.6 else w
    kind = w.rng.randrange(5)
    if kind == 4:
        row = w.rng.choice(CAPITALS)
        country = row[0] if asker.lang == "es" else row[2]
        named = row[:2] if w.lang == "es" else row[2:]
        ask = either(asker, "¿Cuál es la capital de {x}?", "What is the capital of {x}?", x=country)
        return Dialogue(
            ((ask, either(w, "La capital de {x} es {y}.", "The capital of {x} is {y}.", x=named[0], y=named[1])),), rule
        )
    if kind == 0:
        return Dialogue(
            ((greeting(asker).turns[0][0], either(w, "¡Hola! ¿En qué puedo ayudarte?", "Hello! How can I help you?")),), rule
        )
    if kind == 1:
        who = person(w)
        return Dialogue(
            (
                (
                    either(asker, "Me llamo {who}.", "My name is {who}.", who=who),
                    either(w, "Hola, {who}. ¿En qué puedo ayudarte?", "Hello, {who}. How can I help you?", who=who),
                ),
            ),
            rule,
        )
    noun = known_thing(w)
    if kind == 2:
        return Dialogue(
            (
                (
                    either(asker, "¿Qué es {x}?", "What is {x}?", x=a(noun, asker.lang)),
                    either(w, "{A} es {group}.", "{A} is {group}.", A=capital(a(noun, w.lang)), group=group_name(w, noun)),
                ),
            ),
            rule,
        )
    x, y = w.rng.randint(1, 10), w.rng.randint(1, 10)
    return Dialogue(
        (
            (
                either(asker, "¿Cuánto es {x} más {y}?", "What is {x} plus {y}?", x=x, y=y),
                either(w, "{x} más {y} son {z}.", "{x} plus {y} is {z}.", x=x, y=y, z=x + y),
            ),
        ),
        rule,
    )


def in_upper_case(w: World) -> Dialogue:
    inner = w.rng.choice((what_is, greeting, opposite, do_you_sell, capital_city, farewell))(w)
    lower = w.rng.random() < 0.2
    rule = either(w, "minúsculas" if lower else "mayúsculas", "lower case" if lower else "upper case")
    text = either(
        w,
        "[Responde|Escribe|Contesta] [siempre en|todo en|solo en|en] {rule}.",
        "[Answer|Write|Reply] [always in|only in|in] {rule}.",
        rule=rule,
    )
    turns = tuple((q, v.lower() if lower else v.upper()) for q, v in inner.turns)
    return Dialogue(turns, f"{inner.system} {text}".strip())


def in_one_word(w: World) -> Dialogue:
    rule = either(
        w,
        "[Responde|Contesta] [con una sola palabra|en una palabra|con una palabra].",
        "[Answer|Reply] [with one word|in one word|with a single word].",
    )
    kind = w.rng.randrange(4)
    if kind == 0:
        row = w.rng.choice(OPPOSITES)
        one, other = row[:2] if w.lang == "es" else row[2:]
        return _ruled(
            w,
            rule,
            either(w, "¿Cuál es [lo contrario|el contrario] de {one}?", "What is the opposite of {one}?", one=one),
            capital(other),
        )
    if kind == 1:
        noun = known_thing(w)
        group = group_of(noun)[w.lang == "en"]
        return _ruled(w, rule, either(w, "¿Qué es {x}?", "What is {x}?", x=a(noun, w.lang)), capital(group))
    if kind == 2:
        noun = thing(w)
        hue = colour(w, noun)
        text = either(
            w, "{The} es {hue}. ¿De qué color es?", "{The} is {hue}. What colour is it?", The=capital(the(noun, w.lang)), hue=hue
        )
        return _ruled(w, rule, text, capital(hue))
    who, where = person(w), city(w)
    return _ruled(
        w,
        rule,
        either(w, "{who} vive en {where}. ¿Dónde vive?", "{who} lives in {where}. Where does {who} live?", who=who, where=where),
        where,
    )


def as_list(w: World) -> Dialogue:
    names = w.rng.choice(list(THINGS))
    count = w.rng.choice((2, 3, 3, 4))
    nouns = [noun.name(w.lang) for noun in w.rng.sample(THINGS[names], count)]
    if w.rng.random() < 0.5:
        nouns = [noun.name(w.lang) for noun in several(w, EVERYTHING, count)]
    question = either(
        w,
        "[Haz|Escribe|Dame|Quiero] una lista con {items}.",
        "[Make|Write|Give me|I want] a list of {items}.",
        items=listed(nouns, w.lang),
    )
    if w.rng.random() < 0.3:
        rule = either(w, "Responde con una lista numerada.", "Answer with a numbered list.")
        return _ruled(w, rule, question, "\n".join(f"{index}. {noun}" for index, noun in enumerate(nouns, 1)))
    return _ruled(
        w,
        either(w, "Responde [con|como] una lista.", "Answer [with|as] a list."),
        question,
        "\n".join(f"- {noun}" for noun in nouns),
    )


def _ruled(w: World, rule: str, question: str, answer: str) -> Dialogue:
    """The rule in the system message, or before or after the question."""
    place = w.rng.randrange(4)
    if place < 2:
        return Dialogue(((question, answer),), rule)
    return alone(f"{question} {rule}" if place == 2 else f"{rule} {question}", answer)


def repeated(w: World) -> Dialogue:
    words = [invented(w) if w.rng.random() < 0.4 else thing(w).name(w.lang) for _ in range(w.rng.choice((1, 2, 3)))]
    text = " ".join(words)
    kind = w.rng.randrange(4)
    if kind == 0:
        return alone(either(w, "[Repite|Escribe|Di]: {text}", "[Repeat|Write|Say]: {text}", text=text), text)
    if kind == 1:
        return alone(either(w, "Escribe en mayúsculas: {text}", "Write in upper case: {text}", text=text), text.upper())
    if kind == 2:
        return alone(
            either(w, "¿Cuál es la primera palabra de «{text}»?", 'What is the first word of "{text}"?', text=text),
            f"{text.split()[0]}.",
        )
    return alone(
        either(w, "¿Cuál es la última palabra de «{text}»?", 'What is the last word of "{text}"?', text=text),
        f"{text.split()[-1]}.",
    )


def opened_or_closed(w: World) -> Dialogue:
    """A rule that every answer begins or ends with a given word."""
    inner = w.rng.choice((what_is, joke_or_fact, facts_in_prompt, advice, greeting))(w)
    word = w.rng.choice((person(w), invented(w), either(w, "[Claro|Muy bien|Atención|Vale]", "[Sure|Very well|Attention|Okay]")))
    if w.rng.random() < 0.5:
        rule = either(
            w,
            "Empieza [cada respuesta|siempre|tu respuesta] con «{word}:».",
            'Start [every answer|always|your answer] with "{word}:".',
            word=word,
        )
        turns = tuple((q, f"{word}: {v}") for q, v in inner.turns)
    else:
        rule = either(
            w,
            "Termina [cada respuesta|siempre|tu respuesta] con «{word}».",
            'End [every answer|always|your answer] with "{word}".',
            word=word,
        )
        turns = tuple((q, f"{v} {word}") for q, v in inner.turns)
    return Dialogue(turns, f"{inner.system} {rule}".strip())


# ---------------------------------------------------------------- numbers and labels


def sum_of_two(w: World) -> Dialogue:
    x, y = w.rng.randint(0, 20), w.rng.randint(0, 20)
    if w.rng.random() < 0.5:
        ask = either(
            w,
            "[¿Cuánto es {x} más {y}?|¿Cuánto son {x} y {y}?|Suma {x} y {y}.|{x} + {y} =]",
            "[What is {x} plus {y}?|How much is {x} and {y}?|Add {x} and {y}.|{x} + {y} =]",
            x=x,
            y=y,
        )
        return alone(
            ask,
            either(w, "[{x} más {y} son {z}.|Son {z}.]", "[{x} plus {y} is {z}.|It is {z}.]", x=x, y=y, z=x + y)
            if "=" not in ask
            else str(x + y),
        )
    x, y = max(x, y), min(x, y)
    ask = either(
        w,
        "[¿Cuánto es {x} menos {y}?|Resta {y} a {x}.|{x} - {y} =]",
        "[What is {x} minus {y}?|Take {y} from {x}.|{x} - {y} =]",
        x=x,
        y=y,
    )
    return alone(
        ask,
        either(w, "[{x} menos {y} son {z}.|Son {z}.]", "[{x} minus {y} is {z}.|It is {z}.]", x=x, y=y, z=x - y)
        if "=" not in ask
        else str(x - y),
    )


def how_many(w: World) -> Dialogue:
    who, noun, x, y = person(w), thing(w), w.rng.randint(2, 9), w.rng.randint(1, 9)
    if w.rng.random() < 0.4:
        nouns = [one.name(w.lang) for one in several(w, EVERYTHING, w.rng.randint(2, 6))]
        return alone(
            either(
                w,
                "¿Cuántas cosas hay en esta lista: {items}?",
                "How many things are in this list: {items}?",
                items=", ".join(nouns),
            ),
            either(w, "Hay {n}.", "There are {n}.", n=len(nouns)),
        )
    ask = either(
        w,
        "{who} tiene {x} {things} y compra {y} más. ¿Cuántos tiene [ahora|en total]?",
        "{who} has {x} {things} and buys {y} more. How many does {who} have [now|in all]?",
        who=who,
        x=x,
        y=y,
        things=plural(noun, w.lang),
    )
    return alone(ask, either(w, "{who} tiene {z}.", "{who} has {z}.", who=who, z=x + y))


def larger(w: World) -> Dialogue:
    x, y = w.rng.sample(range(1, 100), 2)
    return alone(
        either(w, "¿Qué [número es mayor|es más], {x} o {y}?", "Which [number is larger|is more], {x} or {y}?", x=x, y=y),
        either(w, "{z} es mayor.", "{z} is larger.", z=max(x, y)),
    )


def mood(w: World) -> Dialogue:
    good = w.rng.random() < 0.5
    noun = the(thing(w), w.lang)
    text = say(w, w.rng.choice((PRAISE if good else BLAME)[w.lang]), thing=noun, Thing=capital(noun))
    label = either(w, "positivo" if good else "negativo", "positive" if good else "negative")
    ask = either(
        w,
        "[¿Es positivo o negativo?|Clasifica como positivo o negativo:|¿Qué tono tiene, positivo o negativo?]",
        "[Is it positive or negative?|Classify as positive or negative:|Is the tone positive or negative?]",
    )
    return _labelled(w, ask, text, label)


def topic(w: World) -> Dialogue:
    spanish, english, in_spanish, in_english = w.rng.choice(TOPICS)
    text = say(
        w, w.rng.choice(in_spanish if w.lang == "es" else in_english), name=person(w), city=city(w), n=w.rng.randint(2, 12)
    )
    ask = either(
        w, "[¿Cuál es el tema?|¿De qué tema habla?|Di el tema:]", "[What is the topic?|Which topic is it about?|Name the topic:]"
    )
    return _labelled(w, ask, text, spanish if w.lang == "es" else english)


def _labelled(w: World, ask: str, text: str, label: str) -> Dialogue:
    if w.rng.random() < 0.4:
        return Dialogue(
            ((text, capital(label)),),
            either(
                w,
                "[Clasifica el mensaje.|Responde solo con la etiqueta.] ",
                "[Classify the message.|Answer with the label only.] ",
            )
            + ask,
        )
    return alone(f"{ask} {text}" if ask.endswith(":") or w.rng.random() < 0.5 else f"{text} {ask}", capital(label) + ".")
