"""What Lola's documents say: products with price, aisle and stock, and notes on the shop. No training example says any of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A sentence of a document, a customer's question for it, and the words that a right answer holds."""

    sentence: str
    question: str
    value: str


@dataclass(frozen=True)
class Document:
    """A file of the shop: its name, its title, an opening line, and what can be asked."""

    name: str
    title: str
    opening: str
    facts: tuple[Known, ...]

    def text(self) -> str:
        return "\n\n".join((f"# {self.title}", " ".join((self.opening, *(fact.sentence for fact in self.facts))))) + "\n"


def _notes(text: str) -> tuple[Document, ...]:
    """From blocks: ``file | title | opening line`` and then lines ``sentence | question | value``."""
    found = []
    for block in text.strip().split("\n\n"):
        head, *lines = (line.strip() for line in block.splitlines())
        name, title, opening = (part.strip() for part in head.split("|"))
        facts = tuple(Known(*(part.strip() for part in line.split("|"))) for line in lines)
        found.append(Document(name, title, opening, facts))
    return tuple(found)


_SAID = {  # for each column of a product: sentences and questions, of which the product's place in the list takes one
    "es": (
        (
            ("{X} cuesta {v}.", "El precio {of} es {v}."),
            ("¿Cuánto cuesta {x}?", "¿Qué precio tiene {x}?", "Hola, ¿cuánto vale {x}?"),
        ),
        (
            ("{X} está en el pasillo {v}.", "Encontrarás {x} en el pasillo {v}."),
            ("¿En qué pasillo está {x}?", "¿Dónde está {x}?"),
        ),
        (
            ("Quedan {v} unidades {of}.", "{Of} hay {v} unidades."),
            ("¿Cuántas unidades quedan {of}?", "¿Cuántas unidades hay {of}?"),
        ),
    ),
    "en": (
        (
            ("{X} costs {v}.", "The price of {x} is {v}."),
            ("How much is {x}?", "What does {x} cost?", "Hello, what is the price of {x}?"),
        ),
        (("{X} is in aisle {v}.", "You will find {x} in aisle {v}."), ("In which aisle is {x}?", "Where do I find {x}?")),
        (
            ("There are {v} pieces left of {x}.", "Of {x} we have {v} pieces."),
            ("How many pieces are left of {x}?", "How many do you have of {x}?"),
        ),
    ),
}


def said(lang: str, thing: str, column: int, value: str, turn: int) -> Known:
    """The fact of a product: its price, aisle or stock (``column``), worded in the way whose turn it is."""
    says, asks = _SAID[lang][column]
    slots = {"x": thing, "X": _capital(thing), "v": value, "of": _of(thing), "Of": _capital(_of(thing))}
    return Known(says[turn % len(says)].format(**slots), asks[turn % len(asks)].format(**slots), value)


def _products(text: str, lang: str) -> tuple[Document, ...]:
    """From blocks: ``file | title | opening line`` and then lines ``thing | price | aisle | stock``."""
    found = []
    turn = 0
    for block in text.strip().split("\n\n"):
        head, *lines = (line.strip() for line in block.splitlines())
        name, title, opening = (part.strip() for part in head.split("|"))
        facts = []
        for line in lines:
            thing, *values = (part.strip() for part in line.split("|"))
            facts += [said(lang, thing, column, value, turn) for column, value in enumerate(values)]
            turn += 1
        found.append(Document(name, title, opening, tuple(facts)))
    return tuple(found)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _of(thing: str) -> str:
    return f"del {thing.removeprefix('el ')}" if thing.startswith("el ") else f"de {thing}"


DOCUMENTS: dict[str, tuple[Document, ...]] = {
    "es": _products(
        """
        taladros.md | Taladros | Los probamos todos en el taller.
        el taladro Brío | 64,90 € | 4 | 12
        el taladro Coloso | 129 € | 4 | 3

        sierras.md | Sierras | La hoja de repuesto va aparte.
        la sierra Tajo | 18,50 € | 5 | 21
        la sierra de calar Onda | 74,90 € | 5 | 6

        martillos.md | Martillos | Todos con mango de fresno.
        el martillo Roble | 13,20 € | 5 | 34
        la maza Toro | 22,75 € | 5 | 9

        niveles.md | Medir y nivelar | Pide que te lo enseñemos antes de comprar.
        el nivel láser Alba | 47,60 € | 6 | 8
        la cinta métrica Palmo | 6,40 € | 6 | 52

        destornilladores.md | Destornilladores | Se venden sueltos y en juego.
        el destornillador Vera | 4,35 € | 3 | 60
        el juego de puntas Trébol | 15,80 € | 3 | 17

        llaves.md | Llaves y alicates | Hay medidas en milímetros y en pulgadas.
        la llave inglesa Norte | 16,90 € | 3 | 14
        el alicate Cangrejo | 9,70 € | 3 | 25

        pinturas.md | Pinturas | Mezclamos el color en el momento.
        la pintura blanca Nieve | 27,50 € | 8 | 40
        la pintura azul Marina | 31,25 € | 8 | 11

        barnices.md | Barnices | Todos sirven para interior y exterior.
        el barniz mate Encina | 19,90 € | 8 | 16
        el barniz brillante Ámbar | 21,40 € | 8 | 7

        rodillos.md | Rodillos y brochas | Lávalos el mismo día.
        el rodillo Nube | 7,95 € | 9 | 33
        la brocha ancha Pincelín | 5,15 € | 9 | 48

        colas.md | Colas y siliconas | Lee la etiqueta: cada una pega una cosa.
        la cola blanca Lapa | 3,85 € | 9 | 71
        la silicona transparente Gota | 6,60 € | 9 | 29

        grifos.md | Grifos | Montarlos lleva una hora.
        el grifo de cocina Cascada | 58,30 € | 11 | 5
        el grifo de lavabo Perla | 42,80 € | 11 | 13

        tubos.md | Tubos y desagües | Los cortamos a medida.
        el tubo flexible Serpiente | 8,25 € | 11 | 38
        el desatascador Remolino | 11,60 € | 12 | 19

        bombillas.md | Bombillas y lámparas | Las viejas se reciclan en la entrada.
        la bombilla Luciérnaga | 2,95 € | 14 | 120
        la lámpara de mesa Faro | 34,40 € | 14 | 4

        enchufes.md | Enchufes y regletas | Todos llevan toma de tierra.
        la regleta Ciempiés | 12,15 € | 14 | 22
        el enchufe doble Gemelo | 5,80 € | 15 | 45

        cerraduras.md | Cerraduras y candados | Traen dos llaves.
        la cerradura Fortín | 49,20 € | 2 | 10
        el candado Bulldog | 14,65 € | 2 | 27

        tornillos.md | Tornillos y tacos | Se venden también por unidades.
        la caja de tornillos Rosca | 3,45 € | 1 | 90
        la caja de tacos Topo | 4,05 € | 1 | 66

        jardin.md | Jardín | En otoño hay rebajas.
        la tijera de podar Garza | 23,90 € | 17 | 15
        la manguera Boa | 29,30 € | 17 | 8

        macetas.md | Macetas y tierra | La tierra está fuera, bajo el toldo.
        la maceta de barro Luna | 10,75 € | 18 | 31
        el saco de tierra Huerta | 7,20 € | 18 | 44

        seguridad.md | Seguridad | Todo con certificado europeo.
        el casco Cúpula | 17,35 € | 7 | 18
        el extintor Duende | 38,60 € | 7 | 6

        escaleras.md | Escaleras | Las llevamos a casa.
        la escalera plegable Cigüeña | 84,50 € | 19 | 2
        el taburete Rana | 26,10 € | 19 | 11
        """,
        "es",
    )
    + _notes(
        """
        horario.md | Horario de la tienda | Este es el horario de este año.
        La ferretería Lola abre a las 8:15. | ¿A qué hora abre la ferretería Lola? | 8:15
        La ferretería Lola cierra a las 20:45. | ¿A qué hora cierra la ferretería Lola? | 20:45
        La ferretería Lola no abre el domingo. | ¿Qué día no abre la ferretería Lola? | domingo

        contacto.md | Dónde estamos | Se aparca bien por la tarde.
        La dirección de la ferretería Lola es calle del Olmo, 73. | ¿Cuál es la dirección de la ferretería Lola? | Olmo, 73
        El teléfono de la ferretería Lola es 916 348 205. | ¿Qué teléfono tiene la ferretería Lola? | 916 348 205

        personas.md | Quién es quién | Somos cuatro desde el verano.
        La dueña de la ferretería Lola es Lola Berzal. | ¿Quién es la dueña de la ferretería Lola? | Berzal
        La persona que lleva el taller de madera es Nicanor Rubiales. | ¿Quién lleva el taller de madera? | Nicanor
        El jefe del almacén es Úrsula Peñalver. | ¿Quién es el jefe del almacén? | Úrsula

        curso-de-pintura.md | El curso de pintura | Se hace en la trastienda.
        El curso de pintura es el 14 de marzo. | ¿En qué fecha es el curso de pintura? | 14 de marzo
        El curso de pintura cuesta 35 €. | ¿Cuánto cuesta el curso de pintura? | 35
        Hay 9 plazas para el curso de pintura. | ¿Cuántas plazas hay para el curso de pintura? | 9

        curso-de-soldadura.md | El curso de soldadura | Traed manga larga.
        El curso de soldadura es el 6 de mayo. | ¿En qué fecha es el curso de soldadura? | 6 de mayo
        El curso de soldadura lo da Fermín Arche. | ¿Quién da el curso de soldadura? | Fermín
        El curso de soldadura dura 150 minutos. | ¿Cuánto dura el curso de soldadura? | 150

        llaves-copia.md | Copias de llaves | Esperas cinco minutos.
        La copia de una llave normal cuesta 2,80 €. | ¿Cuánto cuesta la copia de una llave normal? | 2,80
        La copia de una llave de seguridad cuesta 17,50 €. | ¿Cuánto cuesta la copia de una llave de seguridad? | 17,50

        alquiler.md | Alquiler de máquinas | Se deja una fianza.
        El alquiler de la lijadora cuesta 16 € al día. | ¿Cuánto cuesta el alquiler de la lijadora? | 16
        El alquiler de la hormigonera cuesta 28 € al día. | ¿Cuánto cuesta el alquiler de la hormigonera? | 28

        reparto.md | Reparto a domicilio | Avisamos antes de salir.
        El reparto a domicilio cuesta 5,90 €. | ¿Cuánto cuesta el reparto a domicilio? | 5,90
        La furgoneta de reparto sale a las 16:30. | ¿A qué hora sale la furgoneta de reparto? | 16:30

        devoluciones.md | Devoluciones | Hace falta el tique.
        El plazo de devolución es de 45 días. | ¿Cuál es el plazo de devolución? | 45
        La garantía de las herramientas Brío es de 4 años. | ¿Cuánto dura la garantía de las herramientas Brío? | 4 años

        club.md | El club de clientes | Apuntarse es gratis.
        El descuento del club es del 7 por ciento. | ¿Cuál es el descuento del club? | 7
        La cena del club es el 22 de noviembre. | ¿Cuándo es la cena del club? | 22 de noviembre
        """
    ),
    "en": _products(
        """
        drills.md | Drills | We test them all in the workshop.
        the Swift drill | 64.90 € | 4 | 12
        the Titan drill | 129 € | 4 | 3

        saws.md | Saws | The spare blade is sold apart.
        the Keen saw | 18.50 € | 5 | 21
        the Ripple jigsaw | 74.90 € | 5 | 6

        hammers.md | Hammers | They all have an ash handle.
        the Oak hammer | 13.20 € | 5 | 34
        the Bull mallet | 22.75 € | 5 | 9

        measuring.md | Measuring | Ask us to show you before you buy.
        the Dawn laser level | 47.60 € | 6 | 8
        the Inchworm tape measure | 6.40 € | 6 | 52

        screwdrivers.md | Screwdrivers | Sold one by one and as a set.
        the Robin screwdriver | 4.35 € | 3 | 60
        the Clover bit set | 15.80 € | 3 | 17

        wrenches.md | Wrenches and pliers | There are metric and imperial ones.
        the North wrench | 16.90 € | 3 | 14
        the Crab pliers | 9.70 € | 3 | 25

        paints.md | Paints | We mix the colour while you wait.
        the white paint Snow | 27.50 € | 8 | 40
        the blue paint Harbour | 31.25 € | 8 | 11

        varnishes.md | Varnishes | All are good for inside and outside.
        the matt varnish Acorn | 19.90 € | 8 | 16
        the glossy varnish Amber | 21.40 € | 8 | 7

        rollers.md | Rollers and brushes | Wash them on the same day.
        the Cloud roller | 7.95 € | 9 | 33
        the Badger brush | 5.15 € | 9 | 48

        glues.md | Glues and sealants | Read the label: each one holds something else.
        the white glue Limpet | 3.85 € | 9 | 71
        the clear sealant Drop | 6.60 € | 9 | 29

        taps.md | Taps | Fitting one takes an hour.
        the kitchen tap Cascade | 58.30 € | 11 | 5
        the basin tap Pearl | 42.80 € | 11 | 13

        pipes.md | Pipes and drains | We cut them to length.
        the flexible pipe Adder | 8.25 € | 11 | 38
        the Whirl plunger | 11.60 € | 12 | 19

        bulbs.md | Bulbs and lamps | Old ones are recycled at the door.
        the Firefly bulb | 2.95 € | 14 | 120
        the Beacon table lamp | 34.40 € | 14 | 4

        sockets.md | Sockets and leads | They are all earthed.
        the Centipede lead | 12.15 € | 14 | 22
        the Twin socket | 5.80 € | 15 | 45

        locks.md | Locks and padlocks | They come with two keys.
        the Bastion lock | 49.20 € | 2 | 10
        the Bulldog padlock | 14.65 € | 2 | 27

        screws.md | Screws and wall plugs | Also sold one by one.
        the Spiral box of screws | 3.45 € | 1 | 90
        the Mole box of wall plugs | 4.05 € | 1 | 66

        garden.md | Garden | There is a sale in autumn.
        the Heron pruner | 23.90 € | 17 | 15
        the Boa hose | 29.30 € | 17 | 8

        pots.md | Pots and soil | The soil is outside, under the awning.
        the clay pot Moon | 10.75 € | 18 | 31
        the soil bag Meadow | 7.20 € | 18 | 44

        safety.md | Safety | All with a European certificate.
        the Dome helmet | 17.35 € | 7 | 18
        the Imp fire extinguisher | 38.60 € | 7 | 6

        ladders.md | Ladders | We bring them to your home.
        the folding ladder Stork | 84.50 € | 19 | 2
        the Frog stool | 26.10 € | 19 | 11
        """,
        "en",
    )
    + _notes(
        """
        opening.md | Opening hours | These are the hours of this year.
        Lola's store opens at 8:15. | When does Lola's store open? | 8:15
        Lola's store closes at 20:45. | When does Lola's store close? | 20:45
        Lola's store does not open on Sunday. | On what day does Lola's store not open? | Sunday

        contact.md | Where we are | It is easy to park in the afternoon.
        The address of Lola's store is 73 Elm Street. | What is the address of Lola's store? | 73 Elm
        The phone number of Lola's store is 916 348 205. | What is the phone number of Lola's store? | 916 348 205

        people.md | Who is who | There are four of us since summer.
        The owner of Lola's store is Lola Berwick. | Who is the owner of Lola's store? | Berwick
        The person who leads the wood workshop is Nathan Ruby. | Who leads the wood workshop? | Nathan
        The boss of the warehouse is Ursula Penrose. | Who is the boss of the warehouse? | Ursula

        painting-course.md | The course on painting | It is held in the back room.
        The course on painting is on 14 March. | When is the course on painting? | 14 March
        The course on painting costs 35 €. | How much is the course on painting? | 35
        There are 9 seats for the course on painting. | How many seats are there for the course on painting? | 9

        welding-course.md | The course on welding | Wear long sleeves.
        The course on welding is on 6 May. | When is the course on welding? | 6 May
        The course on welding is led by Fergus Archer. | Who leads the course on welding? | Fergus
        The course on welding takes 150 minutes. | How long does the course on welding take? | 150

        key-copies.md | Copies of keys | You wait five minutes.
        The copy of a normal key costs 2.80 €. | How much is the copy of a normal key? | 2.80
        The copy of a security key costs 17.50 €. | How much is the copy of a security key? | 17.50

        rental.md | Machines to rent | We take a deposit.
        Renting the sander costs 16 € a day. | What does renting the sander cost? | 16
        Renting the concrete mixer costs 28 € a day. | What does renting the concrete mixer cost? | 28

        delivery.md | Home delivery | We call before we set off.
        Home delivery costs 5.90 €. | How much is home delivery? | 5.90
        The delivery van leaves at 16:30. | When does the delivery van leave? | 16:30

        returns.md | Returns | Bring your receipt.
        The time for returns is 45 days. | What is the time for returns? | 45
        The warranty of the Swift tools is 4 years. | How long is the warranty of the Swift tools? | 4 years

        club.md | The customers' club | Joining is free.
        The discount of the club is 7 per cent. | What is the discount of the club? | 7
        The dinner of the club is on 22 November. | When is the dinner of the club? | 22 November
        """
    ),
}
