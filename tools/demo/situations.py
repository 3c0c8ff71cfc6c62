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
¿Qué broca uso para el hormigón? > Usa una broca de widia con percutor.
Mi taladro huele a quemado, ¿sigo trabajando? > Para ahora mismo y deja que se enfríe.!
Necesito hacer agujeros en cristal sin romperlo. > Usa una broca de lanza y un poco de agua.
¿Merece la pena un taladro sin cable para casa? > Sí, es cómodo para trabajos pequeños.
La broca se ha quedado dentro de la pared. > Gira al revés y tira poco a poco.
¿A qué velocidad taladro una chapa de hierro? > Taladra lento y con una gota de aceite.

herramientas (tornillos): Mide antes de comprar; Trabaja con calma; Ponte gafas
Se me ha pasado la cabeza de un tornillo, ¿cómo lo saco? > Usa un extractor de tornillos.
¿Qué tornillo va bien en pladur? > Pon un tornillo con taco de mariposa.
¿Tornillo o clavo para una caja de madera? > El tornillo sujeta mucho mejor.
No sé qué medida de tuerca tengo. > Trae la tuerca y la comparamos.
Los tornillos de la terraza están llenos de óxido. > Cámbialos por tornillos de acero inoxidable.
¿Cómo evito que un tornillo se afloje con el tiempo? > Usa una arandela de presión.

pintura (pintura): Limpia bien la zona; Protege el suelo; Abre las ventanas; Deja secar un día
Quiero pintar el cuarto del bebé, ¿qué pintura llevo? > Lleva pintura al agua sin olor.
¿Cuántas manos hay que dar a una pared oscura? > Da una imprimación y dos manos.
Se me ha caído pintura fresca en la alfombra. > Quítala ya con agua y un paño.!
¿Rodillo o brocha para las esquinas? > Usa una brocha pequeña en las esquinas.
La pintura vieja se levanta en tiras. > Rasca, lija y aplica un fijador.
¿Cómo guardo la pintura que me sobra? > Cierra bien el bote y guárdalo boca abajo.

agua (grifos): Cierra el agua antes; Limpia bien la zona; Mide antes de comprar
El grifo de la bañera gotea toda la noche. > Cambia la junta del grifo.
Sale muy poca agua del grifo del lavabo. > Limpia el filtro con vinagre.
Se ha roto el mando y el agua no para. > Cierra la llave de paso ya.!
¿Puedo cambiar yo solo un monomando? > Sí, con una llave inglesa y paciencia.
El grifo nuevo baila un poco en su sitio. > Aprieta la tuerca de abajo.
¿Cómo quito la cal del caño? > Deja un paño con vinagre una hora.

agua (tuberías): Cierra el agua antes; Mide antes de comprar; Pide ayuda a alguien
Ha reventado una tubería en el sótano, ¡ayuda! > Corta el agua general y llama a un fontanero.!
Oigo golpes dentro de las tuberías al cerrar. > Instala un reductor de presión.
¿Cómo uno un tubo de cobre con uno de plástico? > Usa un racor de transición.
En invierno se me congelan los tubos de fuera. > Cúbrelos con espuma aislante.
Hay una fuga pequeña bajo el fregadero. > Aprieta la rosca y pon teflón.!
¿Qué diámetro de tubo necesito para la lavadora? > Trae el tubo viejo y lo medimos.

luz (enchufes): Corta la luz antes; Pide ayuda a alguien; Mide antes de comprar
Salen chispas cuando conecto la plancha. > Corta la luz y no uses ese enchufe.!
¿Cuántos aparatos puedo poner en una regleta? > Pon pocos y nunca una estufa.
El enchufe de la pared se sale con el cable. > Cambia las garras o la caja.
¿Me sirve un adaptador inglés aquí? > Sí, lleva un adaptador con toma de tierra.
Un enchufe está negro y caliente. > Desconéctalo y cambia el mecanismo.!
Quiero poner un enchufe con USB junto a la cama. > Elige uno del mismo tamaño de caja.

luz (luces): Corta la luz antes; Mide antes de comprar; Trabaja con calma
La lámpara del comedor parpadea sin parar. > Cambia la bombilla y revisa el contacto.
¿Qué bombilla gasta menos? > Las bombillas LED gastan muy poco.
Se rompió el cristal de la bombilla en el casquillo. > Corta la luz y usa un alicate.!
Busco una luz para leer por la noche. > Llévate un flexo con luz cálida.
¿Puedo poner un regulador a cualquier LED? > No, tiene que ser un LED regulable.
Las luces del patio se apagan cuando llueve. > Pon cajas y focos para exterior.

casa (puertas): Lija antes un poco; Pide ayuda a alguien; Trabaja con calma
La puerta del dormitorio chirría mucho. > Engrasa las bisagras con aceite.
Desde que llueve, la puerta roza abajo. > Lija el borde y ponle cera.
¿Cómo evito que la puerta dé un portazo? > Pon un tope o un freno.
Entra frío por debajo de la puerta de la calle. > Coloca un burlete con cepillo.
El pomo se ha quedado suelto y da vueltas. > Aprieta el tornillo pequeño del pomo.
Un niño está encerrado y la puerta no abre. > Llama a un cerrajero enseguida.!

casa (ventanas): Limpia bien la zona; Usa guantes; Mide antes de comprar; Deja secar un día
Entra aire por la ventana del salón. > Pon una junta de goma nueva.
Se ha roto el cristal y hay trozos en el suelo. > Usa guantes y tapa el hueco.!
¿Cómo quito restos de cinta en el cristal? > Usa una rasqueta y alcohol.
La persiana ha bajado de golpe y no sube. > Cambia la cinta de la persiana.
Quiero una mosquitera que pueda quitar en invierno. > Lleva una mosquitera con marco fijo por imanes.
La ventana corredera va muy dura. > Limpia el carril y usa silicona en spray.

casa (cerraduras): Mide antes de comprar; Trabaja con calma; Limpia bien la zona
He perdido las llaves de mi casa. > Cambia el bombín hoy mismo.!
La llave entra pero cuesta girarla. > Usa polvo de grafito, nunca aceite.
¿Qué cerradura es buena contra ladrones? > Elige un bombín con antibumping.
Se partió la llave dentro de la cerradura. > Usa un extractor o llama a un cerrajero.!
Quiero un candado para el trastero. > Lleva un candado de arco corto.
¿Hacéis copias de llaves antiguas? > Trae la llave y probamos.

madera (madera): Lija antes un poco; Prueba en un rincón; Deja secar un día; Guarda todo seco
La mesa del jardín está gris y seca. > Lija y aplica aceite de teca.
¿Cómo tapo un arañazo en un mueble oscuro? > Usa cera del mismo color.
Hay agujeritos y serrín en la cómoda de mi abuela. > Aplica un producto contra la carcoma.
¿Barniz mate o con brillo para una escalera? > El mate se raya menos a la vista.
Quiero cortar un tablero en línea recta. > Usa una guía y una sierra fina.
El tablón nuevo se ha doblado con el sol. > Mójalo un poco y ponle peso.

obra (paredes): Lija antes un poco; Deja secar un día; Protege el suelo
Ha salido una grieta larga en el pasillo. > Ábrela un poco y rellena con masilla.
¿Cómo cuelgo un espejo muy pesado? > Usa tacos largos y dos ganchos.
Al quitar el papel pintado se rompió el yeso. > Alisa la zona con masilla.
¿Se puede colgar algo sin hacer agujeros? > Sí, con tiras adhesivas fuertes.
He tocado un cable al taladrar el tabique. > Corta la luz y no lo toques.!
Mi hijo ha dibujado con rotulador en la pared. > Frota con alcohol y un paño suave.

obra (suelos): Limpia bien la zona; Mide antes de comprar; Deja secar un día
El parqué cruje junto a la ventana. > Pon talco entre las tablas.
¿Puedo poner vinilo encima de las baldosas? > Sí, si el suelo está liso y seco.
Se ha levantado una tabla del suelo flotante. > Quítala y pega una nueva.
La moto ha dejado una mancha de aceite en el garaje. > Echa arena de gato y frota con jabón.
¿Qué le doy al mármol para que brille? > Usa cera especial para mármol.
El suelo está mojado y hay un enchufe cerca. > Corta la luz antes de entrar.!

obra (azulejos): Limpia bien la zona; Ponte gafas; Trabaja con calma; Mide antes de comprar
Se ha caído un azulejo de la ducha. > Pégalo con cemento cola.
Las juntas del baño están negras. > Límpialas con lejía suave y cepillo.
¿Cómo hago un agujero redondo en un azulejo? > Usa una corona de diamante.
¿Puedo pintar los azulejos viejos? > Sí, con esmalte para azulejos.
Al cortar, las piezas se me rompen. > Marca primero y usa una cortadora manual.
¿Qué llana elijo para el cemento cola? > Elige una llana con dientes.

herramientas (pegamentos): Limpia bien la zona; Usa guantes; Deja secar un día
¿Con qué pego la suela de un zapato? > Usa cola de contacto.
Me he pegado dos dedos con pegamento rápido. > Usa agua tibia con jabón, sin tirar.!
Se rompió el asa de una taza de cerámica. > Pégala con resina de dos componentes.
¿Sirve la silicona para pegar un espejo? > Sí, pero que sea silicona neutra.
La cola blanca no seca con este frío. > Lleva la pieza a un lugar cálido.
¿Cómo quito restos de adhesivo del coche? > Usa un poco de aceite y un trapo.

jardín (jardín): Usa guantes; Guarda todo seco; Trabaja con calma
¿Cuándo se poda el limonero? > Pódalo al final del invierno.
La manguera tiene una raja cerca del grifo. > Corta ese trozo y pon un racor.
El césped se ha puesto amarillo por partes. > Riega menos y echa abono.
Hay un avispero enorme junto al columpio. > No te acerques y llama a un experto.!
¿Qué pongo para que no salgan malas hierbas? > Coloca una malla bajo la grava.
Me voy dos semanas y nadie regará mis macetas. > Instala un riego por goteo.

agua (humedad): Limpia bien la zona; Abre las ventanas; Usa guantes; Deja secar un día
Hay moho detrás del armario. > Límpialo y usa pintura antimoho.
El sótano huele a cerrado todo el año. > Pon un deshumidificador.
Gotea agua del techo encima de la cama. > Quita la cama y avisa al vecino.!
¿Cómo sé si la mancha viene de fuera? > Mira si crece cuando llueve.
Los cristales amanecen llenos de agua. > Ventila diez minutos cada mañana.
La base de la fachada se deshace. > Aplica un mortero contra el agua.

herramientas (herramientas): Limpia bien la zona; Guarda todo seco; Trabaja con calma
¿Qué caja básica me llevo para mi primer piso? > Lleva martillo, alicate y destornilladores.
El serrucho ya no corta nada. > Afila los dientes o cambia la hoja.
Se me ha soltado la cabeza del martillo. > No lo uses y cambia el mango.!
¿Para qué quiero yo una llave Allen? > Sirve para montar muebles y bicis.
Mis alicates están duros de tanto óxido. > Déjalos en aceite una noche.
¿Nivel de burbuja o nivel láser? > El de burbuja basta en casa.

seguridad (seguridad): Pide ayuda a alguien; Trabaja con calma; Ponte gafas; Usa guantes
¿Qué mascarilla llevo para lijar? > Lleva una mascarilla contra el polvo fino.
Huele a gas en la cocina. > Abre, sal de casa y llama.!
Me ha entrado cemento en un ojo. > Lávalo con agua y ve al médico.!
¿Cada cuánto se cambia un extintor? > Mira la fecha y revísalo cada año.
Tengo que subir al tejado yo solo. > Usa un arnés y busca ayuda.!
¿Qué guantes protegen de los cortes? > Elige guantes de malla fina.

herramientas (metal): Ponte gafas; Usa guantes; Lija antes un poco
La verja de la entrada está oxidada. > Cepíllala y pon pintura antióxido.
¿Cómo corto una cadena gruesa? > Usa una radial con disco fino.
¿Se puede pegar aluminio sin soldar? > Sí, con un adhesivo de metal.
Salta chispa y hay serrín alrededor. > Para y limpia el serrín ya.!
El tirador de latón ha perdido el brillo. > Frótalo con limón y sal.
Necesito doblar una varilla sin partirla. > Caliéntala y dóblala poco a poco.

agua (baño): Cierra el agua antes; Limpia bien la zona; Deja secar un día
La cisterna no deja de llenarse. > Ajusta el flotador de la cisterna.
El váter se desborda y no sé qué hacer. > Cierra la llave y usa un desatascador.!
¿Cómo cambio la silicona de la bañera? > Corta la vieja, limpia y aplica otra.
El desagüe de la ducha traga despacio. > Saca los pelos y echa agua caliente.
La mampara tiene marcas blancas de cal. > Frota con vinagre y aclara.
¿Qué toallero va sin taladrar? > Lleva uno con ventosas fuertes.

casa (cocina): Limpia bien la zona; Trabaja con calma; Mide antes de comprar
La campana ya no aspira el humo. > Lava o cambia los filtros.
El cajón de los cubiertos se atasca. > Limpia las guías y ponles cera.
¿Con qué sello la encimera y la pared? > Usa silicona contra el moho.
La puerta de un armario está caída. > Ajusta los tornillos de la bisagra.
El fregadero está atascado de grasa. > Echa agua muy caliente y jabón.
Se ha prendido aceite en la sartén. > Tápala y nunca uses agua.!

obra (tejados): Pide ayuda a alguien; Trabaja con calma; Usa guantes
Se ha movido una teja con el viento. > Colócala y fíjala con espuma.
El canalón está lleno de hojas. > Vacíalo y pon una rejilla.
Entra agua por la chimenea cuando hay tormenta. > Cubre la zona con una lona.!
¿Qué uso para sellar una claraboya? > Usa cinta de butilo.
La escalera de mano resbala en el patio. > Ponle tacos de goma nuevos.
¿Cómo aíslo la buhardilla del calor? > Coloca paneles de corcho.

madera (estanterías): Mide antes de comprar; Trabaja con calma; Pide ayuda a alguien
La balda se dobla con tantos libros. > Añade un soporte en el centro.
¿Qué escuadras necesito para el garaje? > Elige escuadras de hierro grandes.
Quiero una repisa sin soportes a la vista. > Usa soportes ocultos de varilla.
La estantería del niño puede volcar. > Fíjala a la pared hoy mismo.!
Me sobra un hueco raro junto a la columna. > Mide y cortamos una tabla a medida.
¿Sirve la pared de yeso para baldas con platos? > Sí, con tacos especiales para yeso.

casa (limpieza): Prueba en un rincón; Usa guantes; Abre las ventanas; Limpia bien la zona
¿Cómo limpio la parrilla de la barbacoa? > Caliéntala y usa un cepillo duro.
He mezclado lejía y amoniaco sin querer. > Sal y abre todo, es peligroso.!
Las sillas de plástico se han puesto amarillas. > Frota con bicarbonato y agua.
¿Qué quita el cemento seco de las baldosas? > Usa un desincrustante suave.
El acero de la nevera tiene huellas. > Pasa un paño con vinagre.
Hay resina de pino en el capó. > Ablándala con alcohol y un trapo.
""")

ENGLISH = _topics("""
tools (drills): Wear safety glasses; Work slowly; Test it in a corner
Which bit do I need for a brick wall? > Use a masonry bit with hammer action.
Smoke is coming out of my drill! > Stop now and unplug it.!
I want to make a clean hole in plywood. > Put a piece of wood behind it.
Is a cordless drill good enough for a beginner? > Yes, it is fine for small jobs.
My bit keeps slipping on the metal plate. > Make a small dent first.
How do I know how deep I have drilled? > Put some tape on the bit.

tools (screws): Measure before you buy; Work slowly; Wear safety glasses
The head of this screw is completely worn. > Use a screw extractor.
What holds best in old soft wood? > Use longer screws with a coarse thread.
I lost the bolt of my garden chair. > Bring the nut and we will match it.
Do I need to drill before I put in a screw? > Yes, a small pilot hole helps.
Screws outside turn brown after a month. > Choose stainless steel screws.
What are those plastic plugs for? > They hold the screw in the wall.

paint (paint): Clean the area well; Cover the floor; Open the windows; Let it dry for a day
Which paint is best for a damp kitchen? > Choose a washable kitchen paint.
My brush is as hard as a stone. > Soak it in warm thinner.
How long until I can paint a second coat? > Wait about four hours.
A whole tin fell over on the stairs. > Stop it with rags at once.!
How can I paint straight lines? > Use masking tape and press it well.
The new white still shows the old red. > Use a primer before the white.

water (taps): Turn off the water first; Clean the area well; Measure before you buy
My kitchen tap will not stop dripping. > Change the washer inside the tap.
The handle came off and water is everywhere! > Close the main valve now.!
Why is the hot side so weak? > Clean the filter and the valve.
Can I fit an outdoor tap myself? > Yes, with a wall plate and tape.
There is white crust around the spout. > Wrap it in vinegar for an hour.
Which tap fits a very small basin? > Choose a short single tap.

water (pipes): Turn off the water first; Measure before you buy; Ask somebody for help
A pipe burst behind the washing machine! > Turn off the main water now.!
The pipes bang when I flush. > Fit a pressure reducer.
How do I join two plastic tubes? > Use a push fitting of the same size.
Will my garden pipe survive the frost? > Cover it with foam and empty it.
I see green stains on the copper. > Clean it and look for a leak.
Water is dripping through the cellar light. > Cut power and water at once.!

power (sockets): Cut the power first; Ask somebody for help; Measure before you buy
My socket makes a buzzing noise. > Stop using it and check the wires.!
Can I plug a heater into an extension lead? > No, use a wall socket.
How do I add a socket in the shed? > Use outdoor cable and a box.
The plug of my lamp is cracked. > Fit a new plug of that type.
My toddler puts fingers in the sockets. > Fit safety covers today.!
Which timer turns the lights on for me? > Take a simple plug timer.

power (lights): Cut the power first; Measure before you buy; Work slowly
The light in the hall keeps flickering. > Change the bulb and check the contact.
Which bulb gives a cosy light? > Choose a warm LED bulb.
The garden lamp filled up with rain. > Replace it with an outdoor lamp.
I smell burning near the ceiling lamp. > Turn off the power right now.!
Can I dim the bulbs I already have? > Only if the box says dimmable.
What do I need for a lamp over the table? > Take a hook, cable and a holder.

home (doors): Sand it a little first; Ask somebody for help; Work slowly
The bathroom door squeaks every night. > Put oil on the hinges.
My door sticks in wet weather. > Sand the edge and wax it.
How do I stop the cold under the front door? > Fit a brush strip.
The handle hangs down and feels loose. > Tighten the small screw on its side.
My grandmother is locked in her bathroom. > Call a locksmith at once.!
Our dog has scratched the whole door. > Fill, sand and paint it again.

home (windows): Clean the area well; Wear gloves; Measure before you buy; Let it dry for a day
There is a draught from my bedroom window. > Fit a new rubber seal.
A ball broke the shop window just now. > Keep people away and cover it.!
What removes stickers from glass? > Use a scraper and alcohol.
The blind came down and will not go up. > Change the strap of the blind.
Can I keep mosquitoes out without drilling? > Yes, use a net with magnets.
My sliding window is very hard to move. > Clean the rail and spray silicone.

home (locks): Measure before you buy; Work slowly; Clean the area well
Somebody stole my keys this morning. > Change the cylinder today.!
The key turns only after many tries. > Use graphite powder, never oil.
Which padlock survives the sea air? > Choose a brass padlock.
Half of my key is stuck inside. > Use an extractor or call a locksmith.!
I need a lock for a letter box. > Take a small cam lock.
Are number locks any good for a bike? > They are fine with a thick chain.

wood (wood): Sand it a little first; Test it in a corner; Let it dry for a day; Store it dry
My garden bench looks grey and dry. > Sand it and use teak oil.
How do I hide a dent in the oak floor? > Use wax of the same colour.
Tiny holes and dust in an old chair, what is it? > It is woodworm, so treat it soon.
Which saw is best for curves? > Use a jigsaw with a thin blade.
The board I bought is not flat any more. > Wet it and put weight on it.
Oil or varnish for a cutting board? > Use food safe oil.

building (walls): Sand it a little first; Let it dry for a day; Cover the floor
A long crack runs across my living room. > Open it a little and fill it.
How can I hang a heavy mirror safely? > Use long plugs and two hooks.
The plaster came off with the wallpaper. > Smooth it with filler.
May I hang pictures without any holes? > Yes, use strong sticky strips.
I drilled into a cable and the light went out. > Leave the power off and call us.!
Crayon on the wall, please help. > Rub it gently with soap.

building (floors): Clean the area well; Measure before you buy; Let it dry for a day
My wooden floor creaks at night. > Put talc between the boards.
Could vinyl go on top of old tiles? > Yes, if they are flat and dry.
One plank of the laminate has come up. > Remove it and glue a new one.
There is an oil stain in my garage. > Cover it with sand, then scrub.
How do I make marble shine again? > Use a wax made for marble.
The cellar floor is under water. > Cut the power before you go in.!

building (tiles): Clean the area well; Wear safety glasses; Work slowly; Measure before you buy
A tile fell off in the shower. > Fix it with tile cement.
The grout has turned black. > Scrub it with mild bleach.
I need a round hole in a tile. > Use a diamond hole saw.
Is it possible to paint ugly tiles? > Yes, with tile enamel.
They always crack when I cut them. > Score first and use a tile cutter.
How much should I leave between two tiles? > Leave a gap of two millimetres.

tools (glues): Clean the area well; Wear gloves; Let it dry for a day
What glue holds leather on wood? > Use contact glue.
I glued my fingers together! > Use warm soapy water, do not pull.!
The handle of my teapot broke. > Use a two part resin.
Can I stick a mirror with sealant? > Yes, with neutral sealant.
The wood glue never gets hard in winter. > Work in a warmer room.
How do I get old tape marks off my desk? > Use a little oil and a cloth.

garden (garden): Wear gloves; Store it dry; Work slowly
When should I prune my roses? > Prune them at the end of winter.
There is a split in my hose. > Cut that part and fit a connector.
Moss is taking over the lawn. > Rake it out and add lime.
A branch is about to fall on the path. > Close the path and call an expert.!
How do I keep weeds out of the gravel? > Put a fabric under the gravel.
Who waters my pots while I am on holiday? > Set up a drip system.

water (damp): Clean the area well; Open the windows; Wear gloves; Let it dry for a day
Black spots behind the wardrobe worry me. > Clean them and use mould paint.
My cellar smells musty all year. > Set up a dehumidifier.
Water is running down the bedroom wall. > Move the bed and call your neighbour.!
How do I find where the wet comes from? > See if it grows when it rains.
Every morning the glass is covered in drops. > Air the room for ten minutes.
The paint near the ground falls off. > Use a waterproof mortar.

tools (tools): Clean the area well; Store it dry; Work slowly
What should be in my first toolbox? > Take a hammer, pliers and screwdrivers.
My handsaw does not bite any more. > Sharpen it or change the blade.
The head of the hammer is loose. > Stop using it and change the handle.!
What is a hex key good for? > It is for furniture and bikes.
My pliers are stiff with rust. > Leave them in oil overnight.
Bubble level or laser, which one? > A bubble level is enough at home.

safety (safety): Ask somebody for help; Work slowly; Wear safety glasses; Wear gloves
Which mask do I wear for sanding? > Wear a fine dust mask.
I can smell gas in the corridor. > Open up, leave and call for help.!
Paint thinner got into my eye. > Rinse it and see a doctor.!
How often do I test a smoke alarm? > Press the button every month.
My ladder has a broken step. > Do not climb it, buy a new one.!
What shoes do I wear on a building site? > Wear shoes with steel toes.

tools (metal): Wear safety glasses; Wear gloves; Sand it a little first
My iron gate is full of rust. > Brush it and use rust paint.
How do I cut a thick chain? > Use a grinder with a thin disc.
Can you glue aluminium? > Yes, with a metal adhesive.
Sparks are landing on the sawdust! > Stop and clear the dust.!
My brass knob lost its shine. > Rub it with lemon and salt.
I have to bend a steel rod. > Heat it and bend it slowly.

water (bathroom): Turn off the water first; Clean the area well; Let it dry for a day
My toilet tank never stops filling. > Adjust the float in the tank.
The toilet is overflowing right now! > Close the valve and use a plunger.!
How do I renew the sealant of the bath? > Cut it out, clean and seal again.
The shower drains too slowly. > Take out the hair and use hot water.
White marks on my shower door, any idea? > Rub it with vinegar and rinse.
Which towel rail needs no screws? > Take one with strong suction cups.

home (kitchen): Clean the area well; Work slowly; Measure before you buy
The hood does not pull the smoke any more. > Wash or change the filters.
My cutlery drawer gets stuck. > Clean the rails and wax them.
How do I seal the gap behind the worktop? > Use sealant against mould.
One cupboard door hangs crooked. > Adjust the screws of the hinge.
The sink is blocked with grease. > Use very hot water and soap.
My pan of oil is on fire! > Cover it and never use water.!

building (roofs): Ask somebody for help; Work slowly; Wear gloves
The storm moved one of my tiles up there. > Put it back and fix it with foam.
The gutter is full of leaves. > Empty it and fit a grid.
Rain comes in beside the chimney. > Cover it with a sheet today.!
What seals a skylight? > Use butyl tape.
My ladder slides on the wet patio. > Fit new rubber feet.
The attic is too hot in summer. > Put up cork panels.

wood (shelves): Measure before you buy; Work slowly; Ask somebody for help
My shelf bends under the books. > Add a bracket in the middle.
Which brackets carry car tyres? > Choose large iron brackets.
I would like a shelf with no visible support. > Use hidden rods.
The bookcase could fall on my son. > Fix it to the wall today.!
There is an odd gap beside the fridge. > Measure it and we cut a board.
Do plaster walls hold plates and cups? > Yes, with plugs for plaster.

home (cleaning): Test it in a corner; Wear gloves; Open the windows; Clean the area well
How do I clean a greasy barbecue? > Heat it and use a hard brush.
I mixed bleach with ammonia by mistake. > Get out and open everything.!
My plastic chairs have turned yellow. > Rub them with baking soda.
What takes dry cement off the steps? > Use a mild cement remover.
There are finger marks on my steel fridge. > Wipe it with vinegar.
Pine resin dropped on my car. > Soften it with alcohol.
""")
