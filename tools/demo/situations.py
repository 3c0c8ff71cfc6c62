"""What customers of Lola's hardware store ask, and what she says: 25 subjects of 9 departments."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Situation:
    """A customer's question, the one sentence that answers it, and whether it cannot wait."""

    question: str
    answer: str
    urgent: bool


@dataclass(frozen=True)
class Topic:
    """One subject: the department that answers it, the tips that suit it, and its situations, all in one language."""

    department: str
    tips: tuple[str, ...]
    situations: tuple[Situation, ...]


def _topics(text: str) -> tuple[Topic, ...]:
    """Topics from blocks: ``department (subject): tip; tip`` and then lines ``question > answer``.

    An exclamation mark at the end says urgent.
    """
    topics = []
    for block in text.strip().split("\n\n"):
        head, *lines = (line.strip() for line in block.splitlines())
        name, tips = head.split(": ")
        situations = []
        for line in lines:
            question, answer = line.split(" > ")
            situations.append(Situation(question, answer.removesuffix("!"), answer.endswith("!")))
        topics.append(Topic(name.partition(" (")[0], tuple(f"{tip.strip()}." for tip in tips.split(";")), tuple(situations)))
    return tuple(topics)


SPANISH = _topics("""
herramientas (taladros): Ponte gafas; Trabaja con calma; Prueba en un rincón
¿Qué broca uso para el hormigón? > Usa un taladro y una broca nueva.
Mi taladro huele a quemado, ¿sigo trabajando? > Para ahora mismo y llama a un experto.!
Necesito hacer agujeros en cristal sin romperlo. > Usa un taladro y una broca nueva.
¿Merece la pena un taladro sin cable para casa? > Sí, es una buena idea.
La broca se ha quedado dentro de la pared. > Pon un poco de aceite.
¿A qué velocidad taladro una chapa de hierro? > Pon un poco de aceite.

herramientas (tornillos): Mide antes de comprar; Trabaja con calma; Ponte gafas
Se me ha pasado la cabeza de un tornillo, ¿cómo lo saco? > Usa un taladro y una broca nueva.
¿Qué tornillo va bien en pladur? > Usa tornillos largos y tacos.
¿Tornillo o clavo para una caja de madera? > Usa tornillos largos y tacos.
No sé qué medida de tuerca tengo. > Ven a la tienda y lo miramos.
Los tornillos de la terraza están llenos de óxido. > Lija el óxido y pinta el metal.
¿Cómo evito que un tornillo se afloje con el tiempo? > Aprieta con una llave inglesa.

pintura (pintura): Limpia bien la zona; Protege el suelo; Abre las ventanas; Deja secar un día
Quiero pintar el cuarto del bebé, ¿qué pintura llevo? > Usa buena pintura y un rodillo.
¿Cuántas manos hay que dar a una pared oscura? > Usa buena pintura y un rodillo.
Se me ha caído pintura fresca en la alfombra. > Limpia todo con agua y jabón.!
¿Rodillo o brocha para las esquinas? > Usa buena pintura y un rodillo.
La pintura vieja se levanta en tiras. > Rellena con masilla y lija.
¿Con qué pinto el techo de la sala? > Usa buena pintura y un rodillo.

agua (grifos): Cierra el agua antes; Limpia bien la zona; Mide antes de comprar
El grifo de la bañera gotea toda la noche. > Cambia la junta por una nueva.
Sale muy poca agua del grifo del lavabo. > Usa un paño y un poco de vinagre.
Se ha roto el mando y el agua no para. > Cierra el agua ahora mismo.!
¿Puedo cambiar yo solo un monomando? > Sí, es una buena idea.
El grifo nuevo baila un poco en su sitio. > Aprieta con una llave inglesa.
¿Cómo quito la cal del caño? > Usa un paño y un poco de vinagre.

agua (tuberías): Cierra el agua antes; Mide antes de comprar; Pide ayuda a alguien
Ha reventado una tubería en el sótano, ¡ayuda! > Cierra el agua ahora mismo.!
Oigo golpes dentro de las tuberías al cerrar. > Ven a la tienda y lo miramos.
¿Cómo uno un tubo de cobre con uno de plástico? > Aprieta con una llave inglesa.
En invierno se me congelan los tubos de fuera. > Ven a la tienda y lo miramos.
Hay una fuga pequeña bajo el fregadero. > Cierra el agua ahora mismo.!
¿Qué diámetro de tubo necesito para la lavadora? > Ven a la tienda y lo miramos.

luz (enchufes): Corta la luz antes; Pide ayuda a alguien; Mide antes de comprar
Salen chispas cuando conecto la plancha. > Corta la luz y no toques nada.!
¿Puedo enchufar una estufa en la regleta? > No, es mejor no hacerlo.
El enchufe de la pared se sale con el cable. > Corta la luz y no toques nada.
¿Me sirve un adaptador inglés aquí? > Sí, es una buena idea.
Un enchufe está negro y caliente. > Corta la luz y no toques nada.!
Quiero poner un enchufe con USB junto a la cama. > Sí, es una buena idea.

luz (luces): Corta la luz antes; Mide antes de comprar; Trabaja con calma
La lámpara del comedor parpadea sin parar. > Cambia la bombilla por una nueva.
¿Qué bombilla gasta menos? > Ven a la tienda y lo miramos.
Se rompió el cristal de la bombilla en el casquillo. > Corta la luz y no toques nada.!
Busco una luz para leer por la noche. > Ven a la tienda y lo miramos.
¿Puedo poner un regulador a cualquier LED? > No, es mejor no hacerlo.
Las luces del patio se apagan cuando llueve. > Corta la luz y no toques nada.

casa (puertas): Lija antes un poco; Pide ayuda a alguien; Trabaja con calma
La puerta del dormitorio chirría mucho. > Pon un poco de aceite.
Desde que llueve, la puerta roza abajo. > Lija la madera y aplica barniz.
¿Cómo evito que la puerta dé un portazo? > Ven a la tienda y lo miramos.
Entra frío por debajo de la puerta de la calle. > Usa silicona y una espátula.
El pomo se ha quedado suelto y da vueltas. > Aprieta con una llave inglesa.
Un niño está encerrado y la puerta no abre. > Para ahora mismo y llama a un experto.!

casa (ventanas): Limpia bien la zona; Usa guantes; Mide antes de comprar; Deja secar un día
Entra aire por la ventana del salón. > Cambia la junta por una nueva.
Se ha roto el cristal y hay trozos en el suelo. > Usa guantes y gafas.!
¿Cómo quito restos de cinta en el cristal? > Usa un paño y un poco de vinagre.
La persiana ha bajado de golpe y no sube. > Ven a la tienda y lo miramos.
Quiero una mosquitera que pueda quitar en invierno. > Sí, es una buena idea.
La ventana corredera va muy dura. > Pon un poco de aceite.

casa (cerraduras): Mide antes de comprar; Trabaja con calma; Limpia bien la zona
He perdido las llaves de mi casa. > Cambia la cerradura por una nueva.!
La llave entra pero cuesta girarla. > Pon un poco de aceite.
¿Qué cerradura es buena contra ladrones? > Cambia la cerradura por una nueva.
Se partió la llave dentro de la cerradura. > Para ahora mismo y llama a un experto.!
Quiero un candado para el trastero. > Sí, es una buena idea.
¿Hacéis copias de llaves antiguas? > Sí, es una buena idea.

madera (madera): Lija antes un poco; Prueba en un rincón; Deja secar un día; Guarda todo seco
La mesa del jardín está gris y seca. > Lija la madera y aplica barniz.
¿Cómo tapo un arañazo en un mueble oscuro? > Lija la madera y aplica barniz.
Hay agujeritos y serrín en la cómoda de mi abuela. > Ven a la tienda y lo miramos.
¿Barniz mate o con brillo para una escalera? > Lija la madera y aplica barniz.
Quiero cortar un tablero en línea recta. > Usa una sierra con hoja nueva.
El tablón nuevo se ha doblado con el sol. > Ven a la tienda y lo miramos.

obra (paredes): Lija antes un poco; Deja secar un día; Protege el suelo
Ha salido una grieta larga en el pasillo. > Rellena con masilla y lija.
¿Cómo cuelgo un espejo muy pesado? > Usa tornillos largos y tacos.
Al quitar el papel pintado se rompió el yeso. > Rellena con masilla y lija.
¿Se puede colgar algo sin hacer agujeros? > Sí, es una buena idea.
He tocado un cable al taladrar el tabique. > Corta la luz y no toques nada.!
Mi hijo ha dibujado con rotulador en la pared. > Limpia todo con agua y jabón.

obra (suelos): Limpia bien la zona; Mide antes de comprar; Deja secar un día
El parqué cruje junto a la ventana. > Usa cola y una prensa.
¿Puedo poner vinilo encima de las baldosas? > Sí, es una buena idea.
Se ha levantado una tabla del suelo flotante. > Usa cola y una prensa.
La moto ha dejado una mancha de aceite en el garaje. > Limpia todo con agua y jabón.
¿Qué le doy al mármol para que brille? > Limpia todo con agua y jabón.
El suelo está mojado y hay un enchufe cerca. > Corta la luz y no toques nada.!

obra (azulejos): Limpia bien la zona; Ponte gafas; Trabaja con calma; Mide antes de comprar
Se ha caído un azulejo de la ducha. > Usa cola y una prensa.
Las juntas del baño están negras. > Limpia todo con agua y jabón.
¿Cómo hago un agujero redondo en un azulejo? > Usa un taladro y una broca nueva.
¿Puedo pintar los azulejos viejos? > Sí, es una buena idea.
Al cortar, las piezas se me rompen. > Ven a la tienda y lo miramos.
¿Qué llana elijo para el cemento cola? > Ven a la tienda y lo miramos.

herramientas (pegamentos): Limpia bien la zona; Usa guantes; Deja secar un día
¿Con qué pego la suela de un zapato? > Usa cola y una prensa.
Me he pegado dos dedos con pegamento rápido. > Limpia todo con agua y jabón.!
Se rompió el asa de una taza de cerámica. > Usa cola y una prensa.
¿Sirve la silicona para pegar un espejo? > Sí, es una buena idea.
La cola blanca no seca con este frío. > Ven a la tienda y lo miramos.
¿Cómo quito restos de adhesivo del coche? > Usa un paño y un poco de vinagre.

jardín (jardín): Usa guantes; Guarda todo seco; Trabaja con calma
¿Cuándo se poda el limonero? > Usa una tijera de podar.
La manguera tiene una raja cerca del grifo. > Cambia la junta por una nueva.
El césped se ha puesto amarillo por partes. > Riega por la mañana.
Hay un avispero enorme junto al columpio. > Para ahora mismo y llama a un experto.!
¿Qué pongo para que no salgan malas hierbas? > Usa un rastrillo y guantes.
Me voy dos semanas y nadie regará mis macetas. > Riega por la mañana.

agua (humedad): Limpia bien la zona; Abre las ventanas; Usa guantes; Deja secar un día
Hay moho detrás del armario. > Abre las ventanas y deja secar.
El sótano huele a cerrado todo el año. > Abre las ventanas y deja secar.
Gotea agua del techo encima de la cama. > Cierra el agua ahora mismo.!
¿Cómo sé si la mancha viene de fuera? > Ven a la tienda y lo miramos.
Los cristales amanecen llenos de agua. > Abre las ventanas y deja secar.
La base de la fachada se deshace. > Rellena con masilla y lija.

herramientas (herramientas): Limpia bien la zona; Guarda todo seco; Trabaja con calma
¿Qué caja básica me llevo para mi primer piso? > Ven a la tienda y lo miramos.
El serrucho ya no corta nada. > Usa una sierra con hoja nueva.
Se me ha soltado la cabeza del martillo. > Ven a la tienda y lo miramos.!
No encuentro una llave Allen de mi medida. > Ven a la tienda y lo miramos.
Mis alicates están duros de tanto óxido. > Pon un poco de aceite.
¿Merece la pena comprar un nivel láser? > Sí, es una buena idea.

seguridad (seguridad): Pide ayuda a alguien; Trabaja con calma; Ponte gafas; Usa guantes
¿Qué mascarilla llevo para lijar? > Usa guantes y gafas.
Huele a gas en la cocina. > Para ahora mismo y llama a un experto.!
Me ha entrado cemento en un ojo. > Para ahora mismo y llama a un experto.!
¿Cada cuánto se cambia un extintor? > Ven a la tienda y lo miramos.
Tengo que subir al tejado yo solo. > No, es mejor no hacerlo.!
¿Qué guantes protegen de los cortes? > Usa guantes y gafas.

herramientas (metal): Ponte gafas; Usa guantes; Lija antes un poco
La verja de la entrada está oxidada. > Lija el óxido y pinta el metal.
¿Cómo corto una cadena gruesa? > Usa una sierra con hoja nueva.
¿Se puede pegar aluminio sin soldar? > Sí, es una buena idea.
Salta chispa y hay serrín alrededor. > Para ahora mismo y llama a un experto.!
El tirador de latón ha perdido el brillo. > Usa un paño y un poco de vinagre.
Necesito doblar una varilla sin partirla. > Ven a la tienda y lo miramos.

agua (baño): Cierra el agua antes; Limpia bien la zona; Deja secar un día
La cisterna no deja de llenarse. > Cambia la junta por una nueva.
El váter se desborda y no sé qué hacer. > Cierra el agua ahora mismo.!
¿Cómo cambio la silicona de la bañera? > Usa silicona y una espátula.
El desagüe de la ducha traga despacio. > Usa agua caliente y un desatascador.
La mampara tiene marcas blancas de cal. > Usa un paño y un poco de vinagre.
¿Qué toallero va sin taladrar? > Ven a la tienda y lo miramos.

casa (cocina): Limpia bien la zona; Trabaja con calma; Mide antes de comprar
La campana ya no aspira el humo. > Limpia todo con agua y jabón.
El cajón de los cubiertos se atasca. > Pon un poco de aceite.
¿Con qué sello la encimera y la pared? > Usa silicona y una espátula.
La puerta de un armario está caída. > Aprieta con una llave inglesa.
El fregadero está atascado de grasa. > Usa agua caliente y un desatascador.
Se ha prendido aceite en la sartén. > Para ahora mismo y llama a un experto.!

obra (tejados): Pide ayuda a alguien; Trabaja con calma; Usa guantes
Se ha movido una teja con el viento. > Usa silicona y una espátula.
El canalón está lleno de hojas. > Usa guantes y gafas.
Entra agua por la chimenea cuando hay tormenta. > Para ahora mismo y llama a un experto.!
¿Qué uso para sellar una claraboya? > Usa silicona y una espátula.
La escalera de mano resbala en el patio. > Ven a la tienda y lo miramos.
¿Cómo aíslo la buhardilla del calor? > Ven a la tienda y lo miramos.

madera (estanterías): Mide antes de comprar; Trabaja con calma; Pide ayuda a alguien
La balda se dobla con tantos libros. > Usa tornillos largos y tacos.
¿Qué escuadras necesito para el garaje? > Usa tornillos largos y tacos.
Quiero una repisa sin soportes a la vista. > Sí, es una buena idea.
La estantería del niño puede volcar. > Usa tornillos largos y tacos.!
Me sobra un hueco raro junto a la columna. > Usa una sierra con hoja nueva.
¿Sirve la pared de yeso para baldas con platos? > Usa tornillos largos y tacos.

casa (limpieza): Prueba en un rincón; Usa guantes; Abre las ventanas; Limpia bien la zona
¿Cómo limpio la parrilla de la barbacoa? > Limpia todo con agua y jabón.
He mezclado lejía y amoniaco sin querer. > Para ahora mismo y llama a un experto.!
Las sillas de plástico se han puesto amarillas. > Limpia todo con agua y jabón.
¿Qué quita el cemento seco de las baldosas? > Usa un paño y un poco de vinagre.
El acero de la nevera tiene huellas. > Usa un paño y un poco de vinagre.
Hay resina de pino en el capó. > Limpia todo con agua y jabón.
""")

ENGLISH = _topics("""
tools (drills): Wear safety glasses; Work slowly; Test it in a corner
Which bit do I need for a brick wall? > Use a drill and a new drill bit.
Smoke is coming out of my drill! > Stop now and call an expert.!
I want to make a clean hole in plywood. > Use a drill and a new drill bit.
Is a cordless drill good enough for a beginner? > Yes, it is a good idea.
My bit keeps slipping on the metal plate. > Put a little oil on it.
How do I know how deep I have drilled? > Come to the shop and we will look at it.

tools (screws): Measure before you buy; Work slowly; Wear safety glasses
The head of this screw is completely worn. > Use a drill and a new drill bit.
What holds best in old soft wood? > Use long screws and wall plugs.
I lost the bolt of my garden chair. > Come to the shop and we will look at it.
Do I need to drill before I put in a screw? > Yes, it is a good idea.
Screws outside turn brown after a month. > Sand the rust and paint the metal.
The towel rail fell off the plaster. > Use long screws and wall plugs.

paint (paint): Clean the area well; Cover the floor; Open the windows; Let it dry for a day
Which paint is best for a damp kitchen? > Use good paint and a roller.
My brush is as hard as a stone. > Clean it with water and soap.
How long until I can paint a second coat? > Open the windows and let it dry.
A whole tin fell over on the stairs. > Clean it with water and soap.!
How can I paint straight lines? > Use good paint and a roller.
The new white still shows the old red. > Use good paint and a roller.

water (taps): Turn off the water first; Clean the area well; Measure before you buy
My kitchen tap will not stop dripping. > Change the gasket for a new one.
The handle came off and water is everywhere! > Turn off the water now.!
Why is the hot side so weak? > Use a cloth and a little vinegar.
Can I fit an outdoor tap myself? > Yes, it is a good idea.
There is white crust around the spout. > Use a cloth and a little vinegar.
Which tap fits a very small basin? > Come to the shop and we will look at it.

water (pipes): Turn off the water first; Measure before you buy; Ask somebody for help
A pipe burst behind the washing machine! > Turn off the water now.!
The pipes bang when I flush. > Tighten it with a wrench.
How do I join two plastic tubes? > Come to the shop and we will look at it.
Will my garden pipe survive the frost? > No, it is better not to do it.
I see green stains on the copper. > Change the gasket for a new one.
Water is dripping through the cellar light. > Cut the power and touch nothing.!

power (sockets): Cut the power first; Ask somebody for help; Measure before you buy
My socket makes a buzzing noise. > Cut the power and touch nothing.!
Can I plug a heater into an extension lead? > No, it is better not to do it.
How do I add a socket in the shed? > Come to the shop and we will look at it.
The plug of my lamp is cracked. > Cut the power and touch nothing.
My toddler puts fingers in the sockets. > Come to the shop and we will look at it.!
Which timer turns the lights on for me? > Come to the shop and we will look at it.

power (lights): Cut the power first; Measure before you buy; Work slowly
The light in the hall keeps flickering. > Change the light bulb for a new one.
Which bulb gives a cosy light? > Come to the shop and we will look at it.
The garden lamp filled up with rain. > Cut the power and touch nothing.
I smell burning near the ceiling lamp. > Cut the power and touch nothing.!
Can I dim the bulbs I already have? > No, it is better not to do it.
What do I need for a lamp over the table? > Come to the shop and we will look at it.

home (doors): Sand it a little first; Ask somebody for help; Work slowly
The bathroom door squeaks every night. > Put a little oil on it.
My door sticks in wet weather. > Sand the wood and apply varnish.
How do I stop the cold under the front door? > Use sealant and a spatula.
The handle hangs down and feels loose. > Tighten it with a wrench.
My grandmother is locked in her bathroom. > Stop now and call an expert.!
Our dog has scratched the whole door. > Sand the wood and apply varnish.

home (windows): Clean the area well; Wear gloves; Measure before you buy; Let it dry for a day
There is a draught from my bedroom window. > Change the gasket for a new one.
A ball broke the shop window just now. > Use gloves and safety glasses.!
What removes stickers from glass? > Use a cloth and a little vinegar.
The blind came down and will not go up. > Come to the shop and we will look at it.
Can I keep mosquitoes out without drilling? > Yes, it is a good idea.
My sliding window is very hard to move. > Put a little oil on it.

home (locks): Measure before you buy; Work slowly; Clean the area well
Somebody stole my keys this morning. > Change the lock for a new one.!
The key turns only after many tries. > Put a little oil on it.
Which padlock survives the sea air? > Come to the shop and we will look at it.
Half of my key is stuck inside. > Stop now and call an expert.!
I need a lock for a letter box. > Change the lock for a new one.
Are number locks any good for a bike? > Yes, it is a good idea.

wood (wood): Sand it a little first; Test it in a corner; Let it dry for a day; Store it dry
My garden bench looks grey and dry. > Sand the wood and apply varnish.
How do I hide a dent in the oak floor? > Fill it with filler and sand it.
Tiny holes and dust in an old chair, what is it? > Come to the shop and we will look at it.
Which saw is best for curves? > Use a saw with a new blade.
The board I bought is not flat any more. > Come to the shop and we will look at it.
Oil or varnish for a cutting board? > Sand the wood and apply varnish.

building (walls): Sand it a little first; Let it dry for a day; Cover the floor
A long crack runs across my living room. > Fill it with filler and sand it.
How can I hang a heavy mirror safely? > Use long screws and wall plugs.
The plaster came off with the wallpaper. > Fill it with filler and sand it.
May I hang pictures without any holes? > Yes, it is a good idea.
I drilled into a cable and the light went out. > Cut the power and touch nothing.!
Crayon on the wall, please help. > Clean it with water and soap.

building (floors): Clean the area well; Measure before you buy; Let it dry for a day
My wooden floor creaks at night. > Use glue and a clamp.
Could vinyl go on top of old tiles? > Yes, it is a good idea.
One plank of the laminate has come up. > Use glue and a clamp.
There is an oil stain in my garage. > Clean it with water and soap.
How do I make marble shine again? > Clean it with water and soap.
The cellar floor is under water. > Cut the power and touch nothing.!

building (tiles): Clean the area well; Wear safety glasses; Work slowly; Measure before you buy
A tile fell off in the shower. > Use glue and a clamp.
The grout has turned black. > Clean it with water and soap.
I need a round hole in a tile. > Use a drill and a new drill bit.
Is it possible to paint ugly tiles? > Yes, it is a good idea.
They always crack when I cut them. > Come to the shop and we will look at it.
How much should I leave between two tiles? > Come to the shop and we will look at it.

tools (glues): Clean the area well; Wear gloves; Let it dry for a day
What glue holds leather on wood? > Use glue and a clamp.
I glued my fingers together! > Clean it with water and soap.!
The handle of my teapot broke. > Use glue and a clamp.
Can I stick a mirror with sealant? > Yes, it is a good idea.
The wood glue never gets hard in winter. > Open the windows and let it dry.
How do I get old tape marks off my desk? > Use a cloth and a little vinegar.

garden (garden): Wear gloves; Store it dry; Work slowly
When should I prune my roses? > Use a pruner.
There is a split in my hose. > Change the gasket for a new one.
Moss is taking over the lawn. > Use a rake and gloves.
A branch is about to fall on the path. > Stop now and call an expert.!
How do I keep weeds out of the gravel? > Use a rake and gloves.
Who waters my pots while I am on holiday? > Water it in the morning.

water (damp): Clean the area well; Open the windows; Wear gloves; Let it dry for a day
Black spots behind the wardrobe worry me. > Open the windows and let it dry.
My cellar smells musty all year. > Open the windows and let it dry.
Water is running down the bedroom wall. > Turn off the water now.!
How do I find where the wet comes from? > Come to the shop and we will look at it.
Every morning the glass is covered in drops. > Open the windows and let it dry.
The paint near the ground falls off. > Fill it with filler and sand it.

tools (tools): Clean the area well; Store it dry; Work slowly
What should be in my first toolbox? > Come to the shop and we will look at it.
My handsaw does not bite any more. > Use a saw with a new blade.
The head of the hammer is loose. > Come to the shop and we will look at it.!
Is a hex key worth buying? > Yes, it is a good idea.
My pliers are stiff with rust. > Put a little oil on it.
Bubble level or laser, which one? > Come to the shop and we will look at it.

safety (safety): Ask somebody for help; Work slowly; Wear safety glasses; Wear gloves
Which mask do I wear for sanding? > Use gloves and safety glasses.
I can smell gas in the corridor. > Stop now and call an expert.!
Paint thinner got into my eye. > Stop now and call an expert.!
How often do I test a smoke alarm? > Come to the shop and we will look at it.
My ladder has a broken step. > Stop now and call an expert.!
What shoes do I wear on a building site? > Use gloves and safety glasses.

tools (metal): Wear safety glasses; Wear gloves; Sand it a little first
My iron gate is full of rust. > Sand the rust and paint the metal.
How do I cut a thick chain? > Use a saw with a new blade.
Can you glue aluminium? > Yes, it is a good idea.
Sparks are landing on the sawdust! > Stop now and call an expert.!
My brass knob lost its shine. > Use a cloth and a little vinegar.
I have to bend a steel rod. > Come to the shop and we will look at it.

water (bathroom): Turn off the water first; Clean the area well; Let it dry for a day
My toilet tank never stops filling. > Change the gasket for a new one.
The toilet is overflowing right now! > Turn off the water now.!
How do I renew the sealant of the bath? > Use sealant and a spatula.
The shower drains too slowly. > Use hot water and a plunger.
White marks on my shower door, any idea? > Use a cloth and a little vinegar.
Which towel rail needs no screws? > Come to the shop and we will look at it.

home (kitchen): Clean the area well; Work slowly; Measure before you buy
The hood does not pull the smoke any more. > Clean it with water and soap.
My cutlery drawer gets stuck. > Put a little oil on it.
How do I seal the gap behind the worktop? > Use sealant and a spatula.
One cupboard door hangs crooked. > Tighten it with a wrench.
The sink is blocked with grease. > Use hot water and a plunger.
My pan of oil is on fire! > Stop now and call an expert.!

building (roofs): Ask somebody for help; Work slowly; Wear gloves
The storm moved one of my tiles up there. > Use sealant and a spatula.
The gutter is full of leaves. > Use gloves and safety glasses.
Rain comes in beside the chimney. > Stop now and call an expert.!
What seals a skylight? > Use sealant and a spatula.
My ladder slides on the wet patio. > Come to the shop and we will look at it.
The attic is too hot in summer. > Come to the shop and we will look at it.

wood (shelves): Measure before you buy; Work slowly; Ask somebody for help
My shelf bends under the books. > Use long screws and wall plugs.
Which brackets carry car tyres? > Use long screws and wall plugs.
I would like a shelf with no visible support. > Yes, it is a good idea.
The bookcase could fall on my son. > Use long screws and wall plugs.!
There is an odd gap beside the fridge. > Use a saw with a new blade.
Do plaster walls hold plates and cups? > Use long screws and wall plugs.

home (cleaning): Test it in a corner; Wear gloves; Open the windows; Clean the area well
How do I clean a greasy barbecue? > Clean it with water and soap.
I mixed bleach with ammonia by mistake. > Stop now and call an expert.!
My plastic chairs have turned yellow. > Clean it with water and soap.
What takes dry cement off the steps? > Use a cloth and a little vinegar.
There are finger marks on my steel fridge. > Use a cloth and a little vinegar.
Pine resin dropped on my car. > Clean it with water and soap.
""")
