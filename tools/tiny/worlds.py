"""Worlds of facts to read: things with properties, written down in many ways among others, and questions about them.

    text      The Balor drill costs 12.40 €. Mira Teldo lives in Ostera. The Balor drill is in aisle 7.
    question  How much is the Balor drill?
    answer    The Balor drill costs 12.40 €.

An answer repeats the sentence word for word, so that reading is finding and copying; where only the value is asked for, it is the
value. Names, brands, codes and numbers are invented anew for each world: they can be known from the text alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from afina.compare.prompts import with_passages
from tools.tiny.grammar import Language, World, capital, either, invented, pick, say, the
from tools.tiny.words import CITIES, COLOURS, DAYS, EVERYTHING, MONTHS, NAMES, STREETS


@dataclass(frozen=True)
class Wording:
    """A property in one language: its name, the sentences that say it and the questions for it; ``{x}`` the thing, ``{v}`` the
    value, ``{X}`` the thing at the start of a sentence."""

    name: str
    says: tuple[str, ...]
    asks: tuple[str, ...]


@dataclass(frozen=True)
class Property:
    """What a thing can have: its kind of value, and its wording in Spanish and English."""

    value: str
    wordings: dict[Language, Wording]


@dataclass(frozen=True)
class Fact:
    """A sentence of a text, the question that it answers, its bare value, and what it is about."""

    thing: str
    name: str
    sentence: str
    question: str
    value: str


def _properties(text: str) -> tuple[Property, ...]:
    """From five lines each: the kind of value; ``name = sentence; sentence`` and questions in Spanish, and in English."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return tuple(
        Property(value, {"es": _wording(es, asks_es), "en": _wording(en, asks_en)})
        for value, es, asks_es, en, asks_en in zip(*(lines[start::5] for start in range(5)), strict=True)
    )


def _wording(named: str, asks: str) -> Wording:
    name, _, says = named.partition(" = ")
    return Wording(name, tuple(says.split("; ")), tuple(asks.split("; ")))


KINDS_OF_THINGS: dict[str, tuple[Property, ...]] = {
    "product": _properties("""
        money
            precio = {X} cuesta {v}.; El precio de {x} es {v}.; {X} vale {v}.
            ¿Cuánto cuesta {x}?; ¿Qué precio tiene {x}?; ¿Cuánto vale {x}?; ¿A cuánto está {x}?
            price = {X} costs {v}.; The price of {x} is {v}.
            How much is {x}?; What does {x} cost?; What is the price of {x}?
        small
            pasillo = {X} está en el pasillo {v}.; Encontrarás {x} en el pasillo {v}.
            ¿En qué pasillo está {x}?; ¿Dónde está {x}?; ¿Dónde encuentro {x}?
            aisle = {X} is in aisle {v}.; You will find {x} in aisle {v}.
            In which aisle is {x}?; Where is {x}?; Where do I find {x}?
        number
            unidades = Quedan {v} unidades de {x}.; De {x} hay {v} unidades.
            ¿Cuántas unidades quedan de {x}?; ¿Cuántas unidades hay de {x}?; ¿Hay existencias de {x}?
            stock = There are {v} pieces left of {x}.; Of {x} we have {v} pieces.
            How many pieces are left of {x}?; How many do you have of {x}?; Is {x} in stock?
        weight
            peso = {X} pesa {v}.; El peso de {x} es de {v}.
            ¿Cuánto pesa {x}?; ¿Qué peso tiene {x}?
            weight = {X} weighs {v}.; The weight of {x} is {v}.
            How much does {x} weigh?; How heavy is {x}?; What is the weight of {x}?
        years
            garantía = {X} tiene {v} de garantía.; La garantía de {x} es de {v}.
            ¿Qué garantía tiene {x}?; ¿Cuánto dura la garantía de {x}?
            warranty = {X} has a warranty of {v}.; The warranty of {x} is {v}.
            What warranty does {x} have?; How long is the warranty of {x}?
        name
            marca = {X} es de la marca {v}.; La marca de {x} es {v}.
            ¿De qué marca es {x}?; ¿Quién fabrica {x}?
            brand = {X} is made by {v}.; The maker of {x} is {v}.
            Who makes {x}?; Which brand is {x}?
        day
            entrega = {X} llega el {v}.; La entrega de {x} es el {v}.
            ¿Cuándo llega {x}?; ¿Qué día llega {x}?
            delivery = {X} arrives on {v}.; The delivery of {x} is on {v}.
            When does {x} arrive?; Which day does {x} arrive?
        code
            código = El código de {x} es {v}.; {X} lleva el código {v}.
            ¿Cuál es el código de {x}?; ¿Qué código tiene {x}?
            code = The code of {x} is {v}.; {X} has the code {v}.
            What is the code of {x}?; Which code does {x} have?
    """),
    "person": _properties("""
        age
            edad = {X} tiene {v} años.
            ¿Cuántos años tiene {x}?; ¿Qué edad tiene {x}?
            age = {X} is {v} years old.
            How old is {x}?; What is the age of {x}?
        city
            ciudad = {X} vive en {v}.
            ¿Dónde vive {x}?; ¿En qué ciudad vive {x}?
            city = {X} lives in {v}.
            Where does {x} live?; In which city does {x} live?
        phone
            teléfono = El teléfono de {x} es {v}.
            ¿Cuál es el teléfono de {x}?; ¿Qué teléfono tiene {x}?
            phone = The phone number of {x} is {v}.
            What is the phone number of {x}?; What number does {x} have?
        job
            oficio = {X} trabaja de {v}.; El oficio de {x} es {v}.
            ¿De qué trabaja {x}?; ¿Qué oficio tiene {x}?
            job = {X} works as a {v}.; The job of {x} is {v}.
            What does {x} work as?; What is the job of {x}?
        date
            cumpleaños = El cumpleaños de {x} es el {v}.; {X} nació el {v}.
            ¿Cuándo es el cumpleaños de {x}?; ¿Cuándo nació {x}?
            birthday = The birthday of {x} is on {v}.; {X} was born on {v}.
            When is the birthday of {x}?; When was {x} born?
        name
            jefe = El jefe de {x} es {v}.; {X} trabaja para {v}.
            ¿Quién es el jefe de {x}?; ¿Para quién trabaja {x}?
            boss = The boss of {x} is {v}.; {X} works for {v}.
            Who is the boss of {x}?; Who does {x} work for?
        name
            vecina = La vecina de {x} se llama {v}.
            ¿Cómo se llama la vecina de {x}?; ¿Quién es la vecina de {x}?
            neighbour = The neighbour of {x} is called {v}.
            What is the neighbour of {x} called?; Who is the neighbour of {x}?
        colour
            color = El color favorito de {x} es el {v}.
            ¿Cuál es el color favorito de {x}?; ¿Qué color prefiere {x}?
            colour = The favourite colour of {x} is {v}.
            What is the favourite colour of {x}?; Which colour does {x} like best?
    """),
    "place": _properties("""
        hour
            apertura = {X} abre a las {v}.; La hora de apertura de {x} son las {v}.
            ¿A qué hora abre {x}?; ¿Cuándo abre {x}?
            opening = {X} opens at {v}.; The opening time of {x} is {v}.
            When does {x} open?; What time does {x} open?
        hour
            cierre = {X} cierra a las {v}.; La hora de cierre de {x} son las {v}.
            ¿A qué hora cierra {x}?; ¿Hasta qué hora está abierto {x}?
            closing = {X} closes at {v}.; The closing time of {x} is {v}.
            When does {x} close?; Until when is {x} open?
        day
            día de cierre = El {v} cierra {x}.; {X} no abre el {v}.
            ¿Qué día cierra {x}?; ¿Qué día no abre {x}?
            closed day = On {v} {x} is closed.; {X} does not open on {v}.
            Which day is {x} closed?; On what day does {x} not open?
        street
            dirección = {X} está en la {v}.; La dirección de {x} es {v}.
            ¿Dónde está {x}?; ¿Cuál es la dirección de {x}?; ¿En qué calle está {x}?
            address = {X} is at {v}.; The address of {x} is {v}.
            Where is {x}?; What is the address of {x}?
        phone
            teléfono = El teléfono de {x} es {v}.; Se llama a {x} por el {v}.
            ¿Cuál es el teléfono de {x}?; ¿A qué número llamo a {x}?
            phone = The phone number of {x} is {v}.; You reach {x} on {v}.
            What is the phone number of {x}?; How do I reach {x}?
        name
            dueña = La dueña de {x} es {v}.; {X} es de {v}.
            ¿Quién es la dueña de {x}?; ¿De quién es {x}?
            owner = The owner of {x} is {v}.; {X} belongs to {v}.
            Who is the owner of {x}?; Who owns {x}?
        year
            fundación = {X} se fundó en {v}.; {X} existe desde {v}.
            ¿Cuándo se fundó {x}?; ¿Desde cuándo existe {x}?
            founded = {X} was founded in {v}.; {X} has existed since {v}.
            When was {x} founded?; Since when has {x} existed?
        money
            entrada = La entrada de {x} cuesta {v}.; Entrar en {x} cuesta {v}.
            ¿Cuánto cuesta la entrada de {x}?; ¿Cuánto cuesta entrar en {x}?
            ticket = The ticket for {x} costs {v}.; Going into {x} costs {v}.
            How much is the ticket for {x}?; What does it cost to go into {x}?
    """),
    "event": _properties("""
        date
            fecha = {X} es el {v}.; La fecha de {x} es el {v}.
            ¿Cuándo es {x}?; ¿Qué día es {x}?; ¿En qué fecha es {x}?
            date = {X} is on {v}.; The date of {x} is {v}.
            When is {x}?; On which date is {x}?
        hour
            hora = {X} empieza a las {v}.
            ¿A qué hora empieza {x}?; ¿A qué hora es {x}?
            time = {X} begins at {v}.
            When does {x} begin?; What time does {x} begin?
        city
            lugar = {X} es en {v}.; {X} se hace en {v}.
            ¿Dónde es {x}?; ¿Dónde se hace {x}?
            place = {X} is held in {v}.; {X} takes place in {v}.
            Where is {x} held?; Where does {x} take place?
        name
            responsable = {X} lo da {v}.; La persona que lleva {x} es {v}.
            ¿Quién da {x}?; ¿Quién lleva {x}?
            teacher = {X} is led by {v}.; The person who leads {x} is {v}.
            Who leads {x}?; Who is {x} led by?
        money
            precio = {X} cuesta {v}.; Apuntarse a {x} cuesta {v}.
            ¿Cuánto cuesta {x}?; ¿Cuánto cuesta apuntarse a {x}?
            price = {X} costs {v}.; Joining {x} costs {v}.
            How much is {x}?; What does {x} cost?
        number
            plazas = {X} tiene {v} plazas.; Hay {v} plazas para {x}.
            ¿Cuántas plazas tiene {x}?; ¿Cuántas plazas hay para {x}?
            seats = {X} has {v} seats.; There are {v} seats for {x}.
            How many seats does {x} have?; How many seats are there for {x}?
        minutes
            duración = {X} dura {v}.
            ¿Cuánto dura {x}?; ¿Qué duración tiene {x}?
            length = {X} takes {v}.
            How long does {x} take?; How long is {x}?
    """),
    "invented": (),
}
_JOBS = {
    "es": ("médico", "cartero", "panadera", "pintor", "maestra", "jardinero", "piloto", "cocinera", "abogado", "carpintero"),
    "en": ("doctor", "postman", "baker", "painter", "teacher", "gardener", "pilot", "cook", "lawyer", "carpenter"),
}
_PLACES = {
    "es": (
        "la farmacia",
        "el museo",
        "la panadería",
        "el taller",
        "la librería",
        "el mercado",
        "la clínica",
        "el bar",
        "el cine",
    ),
    "en": ("the pharmacy", "the museum", "the bakery", "the workshop", "the bookshop", "the market", "the clinic", "the cinema"),
}
_EVENTS = {
    "es": ("el curso", "el concierto", "la feria", "el taller", "la reunión", "la charla", "la fiesta", "el examen"),
    "en": ("the course", "the concert", "the fair", "the workshop", "the meeting", "the talk", "the party", "the exam"),
}
_WHAT_FOR = {
    "es": ("de pintura", "de cocina", "de guitarra", "de poda", "de cerámica", "de costura", "de fotos"),
    "en": ("on painting", "on cooking", "on music", "on gardens", "on pottery", "on sewing", "on photos"),
}


# ---------------------------------------------------------------- things and values


def name_of(w: World) -> str:
    """A person's name: known, invented, or with a surname."""
    first = pick(w, NAMES) if w.rng.random() < 0.35 else invented(w)
    return f"{first} {invented(w)}" if w.rng.random() < 0.4 else first


def thing_of(w: World, kind: str) -> str:
    """What the facts are about, as it stands within a sentence: ``el taladro Balor``, ``the museum of Ostera``."""
    rng = w.rng
    if kind == "product":
        noun = the(pick(w, EVERYTHING), w.lang)
        mark = rng.choice((invented(w), code(w), "", ""))
        if not mark:
            return noun
        article, _, rest = noun.partition(" ")
        return f"{noun} {mark}" if w.lang == "es" or mark[-1].isdigit() else f"{article} {mark} {rest}"
    if kind == "person":
        return name_of(w)
    if kind == "place":
        return either(w, "{place} [de {x}|{x}]", "{place} of {x}", place=rng.choice(_PLACES[w.lang]), x=invented(w))
    if kind == "event":
        event = rng.choice(_EVENTS[w.lang])
        return f"{event} {rng.choice(_WHAT_FOR[w.lang])}" if rng.random() < 0.6 else f"{event} {invented(w)}"
    return invented(w) if rng.random() < 0.7 else code(w)


def code(w: World) -> str:
    letters = "".join(w.rng.choices("ABCDEFGHJKLMNPRSTVXZ", k=w.rng.choice((1, 2))))
    return f"{letters}{w.rng.choice(('', '-', ' '))}{w.rng.randint(2, 9999)}"


def _money(w: World) -> str:
    whole = w.rng.choice((w.rng.randint(1, 20), w.rng.randint(10, 99), w.rng.randint(100, 2500)))
    cents = w.rng.choice((0, w.rng.randint(1, 99), 10 * w.rng.randint(1, 9), 50))
    if not cents:
        return f"{whole} {w.rng.choice(('€', 'euros'))}"
    return f"{whole}{',' if w.lang == 'es' else '.'}{cents:02} {w.rng.choice(('€', 'euros'))}"


def _date(w: World) -> str:
    day, month = w.rng.randint(1, 30), w.rng.choice(MONTHS[w.lang])
    return f"{day} de {month}" if w.lang == "es" else f"{day} {month}"


def _street(w: World) -> str:
    number = w.rng.randint(1, 199)
    if w.rng.random() < 0.6:
        return f"calle {invented(w)}, {number}" if w.lang == "es" else f"{number} {invented(w)} Street"
    known = w.rng.choice(STREETS[w.lang])
    return f"{known}, {number}" if w.lang == "es" else f"{number} {known}"


def _phone(w: World) -> str:
    return w.rng.choice((" ", "")).join(str(w.rng.randint(100, 999)) for _ in range(3))


def _unit(es: str, en: str, low: int, high: int) -> Callable[[World], str]:
    return lambda w: f"{w.rng.randint(low, high)} {es if w.lang == 'es' else en}"


def _city(w: World) -> str:
    return pick(w, CITIES) if w.rng.random() < 0.3 else invented(w)


VALUES: dict[str, Callable[[World], str]] = {
    "money": _money,
    "small": lambda w: str(w.rng.randint(1, 30)),
    "number": lambda w: str(w.rng.randint(2, 400)),
    "age": lambda w: str(w.rng.randint(3, 99)),
    "weight": lambda w: _unit("kilos", "kilos", 2, 90)(w) if w.rng.random() < 0.5 else _unit("gramos", "grams", 50, 950)(w),
    "years": lambda w: _unit("años", "years", 2, 25)(w) if w.rng.random() < 0.6 else _unit("meses", "months", 3, 36)(w),
    "minutes": lambda w: _unit("minutos", "minutes", 10, 240)(w) if w.rng.random() < 0.6 else _unit("horas", "hours", 2, 30)(w),
    "name": name_of,
    "day": lambda w: w.rng.choice(DAYS[w.lang]),
    "code": code,
    "city": _city,
    "phone": _phone,
    "job": lambda w: w.rng.choice(_JOBS[w.lang]),
    "date": _date,
    "colour": lambda w: w.rng.choice(COLOURS)[0 if w.lang == "es" else 2],
    "hour": lambda w: f"{w.rng.randint(6, 23)}:{w.rng.choice(('00', '30', '15', '45', str(w.rng.randint(10, 59))))}",
    "street": _street,
    "year": lambda w: str(w.rng.randint(1850, 2026)),
}


def _contracted(text: str) -> str:
    return text.replace(" de el ", " del ").replace(" a el ", " al ")


def fact(w: World, thing: str, prop: Property) -> Fact:
    wording = prop.wordings[w.lang]
    value = VALUES[prop.value](w)
    slots = {"x": thing, "X": capital(thing), "v": value}
    sentence = capital(_contracted(say(w, w.rng.choice(wording.says), **slots)))
    return Fact(thing, wording.name, sentence, _contracted(say(w, w.rng.choice(wording.asks), **slots)), value)


def _invented_property(w: World) -> Property:
    """A property that has no name in any language: only its words tell it."""
    name = invented(w).lower()
    says = either(w, f"El {name} de {{{{x}}}} es {{{{v}}}}.", f"The {name} of {{{{x}}}} is {{{{v}}}}.")
    asks = either(w, f"¿[Cuál|Qué] es el {name} de {{{{x}}}}?", f"What is the {name} of {{{{x}}}}?")
    value = w.rng.choice(("name", "number", "money", "code", "city", "colour", "hour", "date", "phone"))
    return Property(value, {w.lang: Wording(name, (says,), (asks,))})


def world_of_facts(w: World, things: int, properties: int) -> list[list[Fact]]:
    """Of each of some things a few facts; most things are of one kind, and several have the same properties."""
    kind = w.rng.choices(list(KINDS_OF_THINGS), (5, 4, 4, 3, 4))[0]
    shared = [_invented_property(w) for _ in range(3)] if kind == "invented" else list(KINDS_OF_THINGS[kind])
    shared = w.rng.sample(shared, min(len(shared), properties + 1))
    found: list[list[Fact]] = []
    names: set[str] = set()
    while len(found) < things:
        thing = thing_of(w, kind)
        if thing not in names and not any(thing in other or other in thing for other in names):
            names.add(thing)
            of_thing = w.rng.sample(shared, min(len(shared), w.rng.randint(1, properties)))
            found.append([fact(w, thing, prop) for prop in of_thing])
    return found


# ---------------------------------------------------------------- how they are written down


def _lines(facts: list[Fact]) -> str:
    return "\n".join(f"- {fact.sentence}" for fact in facts)


def _file_name(w: World) -> str:
    return either(
        w,
        "[precios|horarios|tienda|datos|notas|folleto|catálogo].[md|txt|pdf]",
        "[prices|opening|shop|facts|notes|leaflet|catalogue].[md|txt|pdf]",
    )


def quoted(number: int, source: str, text: str) -> str:
    """A passage as ``afina`` puts it before a question."""
    return "\n".join([f"> [{number}] {source}", *(f"> {line}" for line in text.splitlines())])


def passages(w: World, groups: list[list[Fact]]) -> list[str]:
    """A passage for each thing, with a file's name and at times a heading."""
    written = []
    for number, group in enumerate(groups, 1):
        source = _file_name(w) + (f", § {capital(group[0].thing)}" if w.rng.random() < 0.6 else "")
        text = " ".join(fact.sentence for fact in group) if w.rng.random() < 0.7 else _lines(group)
        if w.rng.random() < 0.4:
            text = f"{capital(group[0].thing)}\n{text}"
        written.append(quoted(number, source, text))
    return written


def framed(w: World, groups: list[list[Fact]], question: str) -> tuple[str, str]:
    """System message and first user message that show the facts and ask the question."""
    facts = [fact for group in groups for fact in group]
    if w.rng.random() < 0.5:
        w.rng.shuffle(facts)
    style = w.rng.randrange(6)
    if style == 0:
        return "", with_passages(question, passages(w, groups), w.lang)
    text = _lines(facts) if w.rng.random() < 0.3 else " ".join(fact.sentence for fact in facts)
    if style == 1:
        head = either(
            w,
            "[Eres el asistente de una tienda.|Responde con estos datos.|Usa solo estos datos.|Datos:]",
            "[You are the assistant of a shop.|Answer with these facts.|Use only these facts.|Facts:]",
        )
        return f"{head}{w.rng.choice((' ', chr(10)))}{text}", question
    if style == 2:
        head = either(w, "[Contexto|Texto|Datos]:", "[Context|Text|Facts]:")
        tail = either(w, "Pregunta:", "Question:")
        return "", f"{head} {text}\n\n{tail} {question}"
    if style == 3:
        return "", f"{question}\n\n{text}"
    return "", f"{text}{w.rng.choice((' ', chr(10), chr(10) * 2))}{question}"
