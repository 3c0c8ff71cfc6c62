"""What the people of the generated worlds can explain: how to do a job, with what, and one piece of advice."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """Something one wants to do, what one needs for it, and a sentence of advice."""

    task: str
    needs: tuple[str, ...]
    advice: str


def _jobs(rows: str) -> tuple[Job, ...]:
    """Jobs from lines ``task: need, need: advice``."""
    jobs = []
    for row in rows.strip().splitlines():
        task, needs, advice = (part.strip() for part in row.split(":"))
        jobs.append(Job(task, tuple(need.strip() for need in needs.split(",")), advice))
    return tuple(jobs)


JOBS = {
    "es": _jobs("""
colgar un cuadro: un taladro, un taco, un tornillo: Marca el punto con un lápiz antes de hacer el agujero.
pintar una habitación: un rodillo, una brocha, cinta de pintor: Protege el suelo y da dos manos finas.
arreglar un grifo: una llave inglesa, una junta nueva: Cierra el agua antes de empezar.
cambiar una bombilla: una escalera, una bombilla nueva: Apaga la luz y espera a que se enfríe.
cortar una tabla: una sierra, un lápiz, unas gafas: Sujeta bien la madera a la mesa.
pegar una silla: cola blanca, una prensa: Limpia las piezas y deja secar un día entero.
montar una estantería: un destornillador, un nivel, unos tornillos: Comprueba que quede recta antes de apretar.
sellar una ventana: silicona, una espátula: La superficie tiene que estar limpia y seca.
quitar el óxido de una verja: un cepillo de alambre, lija, pintura para metal: Aplica la pintura en capas finas.
cambiar una cerradura: un destornillador, una cerradura nueva: Mide la cerradura vieja antes de comprar.
poner un enchufe: un destornillador, cable, un interruptor: Corta la luz en el cuadro y compruébalo.
desatascar un fregadero: un desatascador, un cubo, unos guantes: Usa agua caliente antes de probar otra cosa.
poner azulejos: una paleta, cemento cola, un nivel: Deja el mismo espacio entre las piezas.
tapar un agujero en la pared: masilla, una espátula, lija fina: Espera a que se seque antes de lijar.
barnizar una mesa: una brocha, barniz, lija: Trabaja en un lugar con aire y sin polvo.
podar un rosal: una tijera de podar, unos guantes: Corta por encima de una yema.
regar el jardín: una manguera, un aspersor: Riega por la mañana o por la tarde.
plantar tomates: una pala, tierra buena, una caña: Ponlos al sol y riega poco a poco.
hacer pan: harina, agua, sal, levadura: Deja reposar la masa dos horas.
hacer una tarta: huevos, harina, azúcar, mantequilla: Precalienta el horno.
hacer una tortilla: huevos, patatas, aceite, sal: Cocina las patatas a fuego lento.
preparar una ensalada: lechuga, tomate, aceite, sal: Lava bien las hojas.
preparar una sopa: agua, verduras, sal: Cuece todo a fuego lento.
bañar a un perro: champú, agua tibia, una toalla: Habla con calma y sécalo bien.
cuidar un gato: agua fresca, comida, una caja de arena: Limpia la caja cada día.
ir de viaje: una maleta, ropa, el billete: Prepara todo la noche anterior.
ir a la playa: una toalla, crema, un sombrero: Bebe mucha agua.
ir a la montaña: unas botas, una mochila, un mapa: Mira el tiempo antes de salir.
arreglar una rueda de bicicleta: un parche, pegamento, una bomba: Busca el agujero con agua.
limpiar una ventana: agua, jabón, un paño: Seca el cristal con papel.
limpiar el suelo: una fregona, un cubo, jabón: Abre las ventanas para que se seque.
coser un botón: hilo, una aguja, unas tijeras: Usa un hilo del mismo color.
envolver un regalo: papel, cinta adhesiva, unas tijeras: Mide el papel antes de cortar.
estudiar para un examen: un cuaderno, un lápiz, tiempo: Descansa un poco cada hora.
escribir una carta: papel, un lápiz, un sobre: Empieza con un saludo.
ahorrar dinero: un plan, un cuaderno, paciencia: Apunta todo lo que gastas.
dormir mejor: una cama cómoda, silencio, poca luz: No mires el teléfono en la cama.
aprender un idioma: un libro, un cuaderno, mucha práctica: Habla un poco cada día.
    """),
    "en": _jobs("""
hang a picture: a drill, a wall plug, a screw: Mark the spot with a pencil before you make the hole.
paint a room: a roller, a brush, masking tape: Cover the floor and give it two thin coats.
fix a tap: a wrench, a new gasket: Turn off the water before you start.
change a light bulb: a ladder, a new light bulb: Switch off the light and wait until it is cool.
cut a board: a saw, a pencil, safety glasses: Hold the wood firmly to the table.
glue a chair: wood glue, a clamp: Clean the parts and let it dry for a whole day.
put up a shelf: a screwdriver, a level, some screws: Check that it is straight before you tighten it.
seal a window: sealant, a spatula: The surface has to be clean and dry.
remove rust from a fence: a wire brush, sandpaper, metal paint: Apply the paint in thin layers.
change a lock: a screwdriver, a new lock: Measure the old lock before you buy one.
fit a socket: a screwdriver, cable, a switch: Cut the power at the panel and check it.
unblock a sink: a plunger, a bucket, some gloves: Use hot water before you try anything else.
lay tiles: a trowel, tile cement, a level: Leave the same space between the pieces.
fill a hole in the wall: filler, a spatula, fine sandpaper: Wait until it is dry before you sand it.
varnish a table: a brush, varnish, sandpaper: Work in a place with fresh air and no dust.
prune a rose bush: a pruner, some gloves: Cut just above a bud.
water the garden: a hose, a sprinkler: Water it in the morning or in the evening.
plant tomatoes: a shovel, good soil, a stick: Put them in the sun and water them slowly.
bake bread: flour, water, salt, yeast: Let the dough rest for two hours.
make a cake: eggs, flour, sugar, butter: Heat the oven first.
make an omelette: eggs, potatoes, oil, salt: Cook the potatoes slowly.
prepare a salad: lettuce, tomato, oil, salt: Wash the leaves well.
prepare a soup: water, vegetables, salt: Let everything cook slowly.
wash a dog: shampoo, warm water, a towel: Speak calmly and dry it well.
look after a cat: fresh water, food, a litter box: Clean the box every day.
go on a trip: a suitcase, clothes, the ticket: Prepare everything the night before.
go to the beach: a towel, sun cream, a hat: Drink a lot of water.
go to the mountains: boots, a backpack, a map: Look at the weather before you leave.
repair a bicycle tyre: a patch, glue, a pump: Find the hole with water.
clean a window: water, soap, a cloth: Dry the glass with paper.
clean the floor: a mop, a bucket, soap: Open the windows so that it dries.
sew a button: thread, a needle, scissors: Use thread of the same colour.
wrap a present: paper, adhesive tape, scissors: Measure the paper before you cut.
study for an exam: a notebook, a pencil, time: Rest a little every hour.
write a letter: paper, a pencil, an envelope: Begin with a greeting.
save money: a plan, a notebook, patience: Write down all that you spend.
sleep better: a comfortable bed, silence, little light: Do not look at the phone in bed.
learn a language: a book, a notebook, a lot of practice: Speak a little every day.
    """),
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a thing, what to do about it, and whether it can wait."""

    thing: str
    troubles: tuple[str, ...]
    remedy: str
    advice: str
    urgent: bool


def _faults(rows: str) -> tuple[Fault, ...]:
    """Faults from ``thing: trouble, trouble: remedy: advice``, one a line; a line that is indented goes on with the one above.

    An exclamation mark at the end says urgent.
    """
    faults = []
    for row in re.sub(r"\n +", " ", rows.strip()).splitlines():
        thing, troubles, remedy, advice = (part.strip() for part in row.split(":"))
        faults.append(
            Fault(
                thing, tuple(part.strip() for part in troubles.split(",")), remedy, advice.removesuffix("!"), advice.endswith("!")
            )
        )
    return tuple(faults)


FAULTS = {
    "es": _faults("""
la puerta: chirría, roza el suelo, no cierra bien, hace ruido:
    engrasa las bisagras y aprieta los tornillos: Mira primero las bisagras.
la ventana: deja pasar aire, no cierra, está atascada: pon una junta de goma y ajusta el cierre: Limpia antes el marco.
el grifo: gotea, pierde agua, hace mucho ruido, sale flojo: cambia la junta y limpia el filtro: Cierra la llave de paso.!
la tubería: tiene una fuga, pierde agua, está rota, suena mucho:
    corta el agua y usa cinta de teflón o una abrazadera: Pon un cubo debajo.!
la cisterna: no para de llenarse, no descarga, pierde agua: ajusta el flotador y revisa la goma: Levanta la tapa con cuidado.
el desagüe: está atascado, huele mal, traga despacio: usa agua caliente y un desatascador: Evita mezclar productos.
el enchufe: no funciona, hace chispas, se calienta, está suelto:
    corta la luz y cambia el mecanismo: No lo toques con las manos mojadas.!
la bombilla: parpadea, se ha fundido, da poca luz: cambia la bombilla por una del mismo tipo: Espera a que se enfríe.
el interruptor: no responde, hace ruido, está flojo: aprieta los cables o pon un interruptor nuevo: Baja el diferencial antes.
la pared: tiene una grieta, tiene humedad, tiene un agujero, está sucia:
    rellena con masilla, lija y pinta: Deja secar bien cada capa.
el techo: tiene una mancha, tiene goteras, se descascarilla:
    busca la entrada de agua y usa pintura impermeable: Protege los muebles.!
el suelo: cruje, está rayado, tiene una baldosa suelta: usa un adhesivo para suelos y cera: Barre bien antes de empezar.
la silla: cojea, está rota, se mueve mucho: encola las patas y sujeta con una prensa: Quita antes la cola vieja.
la mesa: está rayada, tiene manchas, cojea: lija la madera y aplica barniz: Trabaja siempre en el sentido de la veta.
el cajón: se atasca, no abre, se sale de la guía: frota cera en las guías y revisa los tornillos: Vacía el cajón.
la cerradura: está dura, no gira, se ha roto: usa polvo de grafito o cambia el bombín: No fuerces la llave.!
el candado: está oxidado, no abre, perdió la llave: usa aceite y un cepillo pequeño: Ten paciencia.
la persiana: no baja, está torcida, se ha roto la cinta: cambia la cinta y revisa el eje: Sujeta bien el rollo.
la valla: está oxidada, se ha caído, se mueve con el viento:
    lija el metal y pon pintura antióxido: Mira si los postes están firmes.
la manguera: tiene un agujero, pierde presión, está doblada: corta la parte mala y pon un racor: Recógela a la sombra.
el césped: está amarillo, crece poco, tiene hierbas: riega por la mañana y usa abono: Corta un poco cada semana.
el taladro: no gira, huele a quemado, pierde fuerza: revisa las escobillas y deja que se enfríe: Desenchufa la máquina.
la sierra: no corta bien, se dobla, está oxidada: afila la hoja o pon una nueva: Usa guantes fuertes.
el radiador: no calienta, hace ruido, gotea: abre el purgador y deja salir el aire: Ten un vaso a mano.
la bicicleta: hace ruido, tiene la rueda pinchada, no frena bien: engrasa la cadena y ajusta los frenos: Límpiala con un trapo.
    """),
    "en": _faults("""
the door: squeaks, drags on the floor, does not close well, makes a noise:
    oil the hinges and tighten the screws: Look at the hinges first.
the window: lets air in, does not close, is stuck: fit a rubber seal and adjust the catch: Clean the frame first.
the tap: drips, leaks, makes a lot of noise, runs slowly: change the washer and clean the filter: Turn off the stop valve.!
the pipe: has a leak, is broken, knocks at night: cut the water and use thread tape or a clamp: Put a bucket under it.!
the cistern: keeps filling, does not flush, leaks: adjust the float and check the rubber: Lift the lid carefully.
the drain: is blocked, smells bad, empties slowly: use hot water and a plunger: Never mix products.
the socket: does not work, gives sparks, gets hot, is loose:
    cut the power and replace the fitting: Do not touch it with wet hands.!
the light bulb: flickers, is burnt out, gives little light: change it for one of the same type: Wait until it is cool.
the switch: does not respond, makes a noise, is loose: tighten the wires or fit a new switch: Turn the main switch off first.
the wall: has a crack, is damp, has a hole, is dirty: fill it with filler, sand it and paint it: Let every layer dry well.
the ceiling: has a stain, is leaking, is peeling: find where the water comes in and use waterproof paint: Cover the furniture.!
the floor: creaks, is scratched, has a loose tile: use a floor adhesive and wax: Sweep well before you start.
the chair: wobbles, is broken, moves a lot: glue the legs and hold them with a clamp: Remove the old glue first.
the table: is scratched, has stains, wobbles: sand the wood and apply varnish: Always work along the grain.
the drawer: sticks, does not open, comes off its rail: rub wax on the rails and check the screws: Empty the drawer.
the lock: is stiff, does not turn, is broken: use graphite powder or change the cylinder: Do not force the key.!
the padlock: is rusty, does not open, has lost its key: use oil and a small brush: Be patient.
the blind: does not come down, is crooked, has a broken strap: change the strap and check the axle: Hold the roll firmly.
the fence: is rusty, has fallen down, moves in the wind: sand the metal and use rust paint: See if the posts are firm.
the hose: has a hole, loses pressure, is bent: cut off the bad part and fit a connector: Store it in the shade.
the lawn: is yellow, grows slowly, is full of weeds: water it in the morning and use fertiliser: Cut a little every week.
the drill: does not turn, smells of burning, loses power: check the brushes and let it cool: Unplug the machine.
the saw: does not cut well, bends, is rusty: sharpen the blade or fit a new one: Wear strong gloves.
the radiator: does not get warm, makes a noise, drips: open the bleed valve and let the air out: Keep a cup at hand.
the bicycle: makes a noise, has a flat tyre, does not brake well: oil the chain and adjust the brakes: Clean it with a cloth.
    """),
}

# topic: (Spanish name, English name, Spanish sentences, English sentences); for classification
TOPICS = (
    (
        "deporte",
        "sport",
        (
            "El equipo ganó el partido por {n} a 1.",
            "{name} corre {n} kilómetros cada mañana.",
            "La carrera empieza a las {n}.",
            "El portero paró {n} tiros.",
        ),
        (
            "The team won the match {n} to 1.",
            "{name} runs {n} kilometres every morning.",
            "The race starts at {n}.",
            "The goalkeeper stopped {n} shots.",
        ),
    ),
    (
        "cocina",
        "cooking",
        (
            "{name} hizo una sopa con {n} tomates.",
            "Pon el horno a media potencia durante {n} minutos.",
            "La receta lleva {n} huevos y harina.",
            "Corta la cebolla en trozos pequeños.",
        ),
        (
            "{name} made a soup with {n} tomatoes.",
            "Bake it in the oven for {n} minutes.",
            "The recipe needs {n} eggs and flour.",
            "Cut the onion into small pieces.",
        ),
    ),
    (
        "tiempo",
        "weather",
        (
            "Mañana va a llover en {city}.",
            "Hace mucho frío y hay {n} grados.",
            "En {city} hace sol y calor.",
            "El viento sopla fuerte desde hace {n} días.",
        ),
        (
            "Tomorrow it will rain in {city}.",
            "It is very cold, only {n} degrees.",
            "In {city} it is sunny and warm.",
            "The wind has been strong for {n} days.",
        ),
    ),
    (
        "viajes",
        "travel",
        (
            "El tren a {city} sale a las {n}.",
            "{name} va a {city} en avión.",
            "El hotel de {city} tiene {n} habitaciones.",
            "Necesito un billete para {city}.",
        ),
        (
            "The train to {city} leaves at {n}.",
            "{name} is flying to {city}.",
            "The hotel in {city} has {n} rooms.",
            "I need a ticket to {city}.",
        ),
    ),
    (
        "música",
        "music",
        (
            "{name} toca la guitarra desde hace {n} años.",
            "El concierto de {city} fue muy largo.",
            "La canción dura {n} minutos.",
            "{name} canta en un coro.",
        ),
        (
            "{name} has played the guitar for {n} years.",
            "The concert in {city} was very long.",
            "The song lasts {n} minutes.",
            "{name} sings in a choir.",
        ),
    ),
    (
        "bricolaje",
        "home repair",
        (
            "{name} puso {n} tornillos en la pared.",
            "El grifo gotea desde hace {n} días.",
            "Hay que lijar la puerta y pintarla.",
            "La bisagra de la ventana está rota.",
        ),
        (
            "{name} put {n} screws in the wall.",
            "The tap has been dripping for {n} days.",
            "The door must be sanded and painted.",
            "The hinge of the window is broken.",
        ),
    ),
    (
        "salud",
        "health",
        (
            "A {name} le duele la cabeza.",
            "El médico pidió {n} días de descanso.",
            "{name} toma una pastilla cada {n} horas.",
            "Hay que lavarse bien las manos.",
        ),
        (
            "{name} has a headache.",
            "The doctor ordered {n} days of rest.",
            "{name} takes a pill every {n} hours.",
            "You have to wash your hands well.",
        ),
    ),
)

PRAISE = {
    "es": (
        "Me encanta {thing}.",
        "{Thing} funciona muy bien.",
        "Estoy muy [contento|contenta] con {thing}.",
        "El servicio fue [excelente|muy amable].",
        "{Thing} llegó pronto y [me gusta mucho|es genial].",
        "Volveré a comprar aquí, [gracias|todo perfecto].",
    ),
    "en": (
        "I love {thing}.",
        "{Thing} works very well.",
        "I am very happy with {thing}.",
        "The service was [excellent|very kind].",
        "{Thing} came quickly and is [great|perfect].",
        "I will buy here again, [thanks|all perfect].",
    ),
}
BLAME = {
    "es": (
        "No me gusta {thing}.",
        "{Thing} no funciona.",
        "Estoy muy [enfadado|enfadada] con {thing}.",
        "El servicio fue [horrible|muy malo].",
        "{Thing} llegó tarde y [no vale nada|está fatal].",
        "No volveré a comprar aquí, [qué pena|todo mal].",
    ),
    "en": (
        "I do not like {thing}.",
        "{Thing} does not work.",
        "I am very angry about {thing}.",
        "The service was [horrible|very bad].",
        "{Thing} came late and is [broken|dirty].",
        "I will not buy here again, [what a pity|all wrong].",
    ),
}
