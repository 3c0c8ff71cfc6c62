"""The words of the generated worlds, in Spanish and English: people, places, things, colours, shops."""

from tools.tiny.grammar import Noun

NOT_THERE = {"es": "No lo encuentro en el texto.", "en": "I do not find it in the text."}


def _words(text: str) -> tuple[str, ...]:
    """The parts of ``Ana; Luis; Marta``."""
    return tuple(" ".join(part.split()) for part in text.split(";"))


def _nouns(rows: str) -> tuple[Noun, ...]:
    """Nouns from ``el martillo=hammer; la sierra=saw``."""
    nouns = []
    for row in _words(rows):
        spanish, english = row.split("=")
        article, _, noun = spanish.partition(" ")
        nouns.append(Noun(noun, english, article == "la"))
    return tuple(nouns)


NAMES = _words("""
    Ana; Luis; Marta; Pablo; Lucía; Diego; Carmen; Javier; Elena; Hugo; Sara; Mario; Irene; Tomás; Nuria; Andrés;
    Rosa; Óscar; Julia; Iván; Laura; Pedro; Inés; Raúl; Clara; Jorge; Silvia; Manuel; Alba; Víctor; Emma; Oliver;
    Alice; Jack; Lily; Harry; Grace; Peter; Mary; Tom; Kate; Sam; Lucy; Ben; Nora; Adam; Ruby; Max; Jane; Leo; Amy;
    Paul; Helen; Oscar; Molly; Simon; Rose; Henry; Anna; Frank; Teresa; Bruno; Olga; Félix; Sonia; Gabriel; Noa;
    Martín; Vera; Simón; Eva; Daniel
""")
CITIES = _words("""
    Madrid; Sevilla; Bilbao; Valencia; Granada; Zaragoza; Málaga; Oviedo; Toledo; Burgos; Cádiz; León; Murcia; Vigo;
    Lima; Bogotá; Quito; Rosario; Córdoba; London; Leeds; Bristol; Oxford; York; Boston; Austin; Denver; Chicago;
    Dublin; Cardiff; Glasgow; Seattle; Portland; Bath; Derby
""")
STREETS = {
    "es": (
        "calle Mayor",
        "calle del Sol",
        "plaza Nueva",
        "calle Real",
        "avenida del Río",
        "calle de la Luna",
        "plaza de España",
        "calle Ancha",
        "avenida de la Paz",
        "calle del Mercado",
        "paseo del Mar",
        "calle de la Fuente",
        "calle Nueva",
        "plaza del Trigo",
    ),
    "en": (
        "High Street",
        "Mill Lane",
        "Station Road",
        "Park Avenue",
        "King Street",
        "Church Lane",
        "Bridge Street",
        "Market Square",
        "River Road",
        "Green Street",
        "Oak Avenue",
        "Castle Street",
        "North Road",
        "Garden Lane",
    ),
}
DAYS = {
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
MONTHS = {
    "es": (
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ),
    "en": (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
}
# masculine, feminine, English
COLOURS = (
    ("rojo", "roja", "red"),
    ("verde", "verde", "green"),
    ("azul", "azul", "blue"),
    ("negro", "negra", "black"),
    ("blanco", "blanca", "white"),
    ("amarillo", "amarilla", "yellow"),
    ("gris", "gris", "grey"),
    ("marrón", "marrón", "brown"),
    ("naranja", "naranja", "orange"),
    ("morado", "morada", "purple"),
    ("rosa", "rosa", "pink"),
    ("dorado", "dorada", "golden"),
)
SIZES = (
    ("grande", "grande", "big"),
    ("pequeño", "pequeña", "small"),
    ("nuevo", "nueva", "new"),
    ("viejo", "vieja", "old"),
    ("bonito", "bonita", "pretty"),
    ("ligero", "ligera", "light"),
    ("pesado", "pesada", "heavy"),
    ("barato", "barata", "cheap"),
    ("caro", "cara", "expensive"),
    ("limpio", "limpia", "clean"),
)
OPPOSITES = (
    ("grande", "pequeño", "big", "small"),
    ("alto", "bajo", "tall", "short"),
    ("frío", "caliente", "cold", "hot"),
    ("día", "noche", "day", "night"),
    ("nuevo", "viejo", "new", "old"),
    ("rápido", "lento", "fast", "slow"),
    ("fácil", "difícil", "easy", "difficult"),
    ("abierto", "cerrado", "open", "closed"),
    ("lleno", "vacío", "full", "empty"),
    ("limpio", "sucio", "clean", "dirty"),
    ("feliz", "triste", "happy", "sad"),
    ("fuerte", "débil", "strong", "weak"),
    ("claro", "oscuro", "light", "dark"),
    ("seco", "mojado", "dry", "wet"),
    ("barato", "caro", "cheap", "expensive"),
    ("ancho", "estrecho", "wide", "narrow"),
    ("duro", "blando", "hard", "soft"),
    ("primero", "último", "first", "last"),
    ("arriba", "abajo", "up", "down"),
    ("sí", "no", "yes", "no"),
)

# Every group: its name in Spanish and English, and its things.
THINGS: dict[tuple[str, str], tuple[Noun, ...]] = {
    ("herramienta", "tool"): _nouns("""
        el martillo=hammer; la sierra=saw; el taladro=drill; el destornillador=screwdriver; el alicate=plier; la llave
        inglesa=wrench; la lima=file; el cincel=chisel; el nivel=level; la cinta métrica=tape measure; la
        brocha=brush; el rodillo=roller; la pala=shovel; el rastrillo=rake; la tijera de podar=pruner; la
        lijadora=sander; la espátula=spatula; el serrucho=handsaw; la paleta=trowel; la grapadora=stapler; la
        escalera=ladder; la carretilla=wheelbarrow; el soplete=torch
    """),
    ("material", "material"): _nouns("""
        el tornillo=screw; el clavo=nail; el taco=wall plug; la tuerca=nut; la arandela=washer; la bisagra=hinge; el
        candado=padlock; la cerradura=lock; el cable=cable; el enchufe=plug; la bombilla=light bulb; el grifo=tap; la
        manguera=hose; el tubo=pipe; la junta=gasket; la broca=drill bit; la cuerda=rope; la cadena=chain; el
        azulejo=tile; el ladrillo=brick; la tabla=board; el interruptor=switch; la cinta adhesiva=adhesive tape; el
        pegamento=glue; la pintura=paint; el barniz=varnish; la silicona=sealant
    """),
    ("fruta", "fruit"): _nouns("""
        la manzana=apple; la pera=pear; el plátano=banana; la naranja=orange; el limón=lemon; la uva=grape; la
        fresa=strawberry; el melón=melon; la cereza=cherry; la ciruela=plum; el kiwi=kiwi; la sandía=watermelon; el
        mango=mango; la mora=blackberry
    """),
    ("verdura", "vegetable"): _nouns("""
        el tomate=tomato; la cebolla=onion; la zanahoria=carrot; la patata=potato; el pepino=cucumber; la
        lechuga=lettuce; el pimiento=pepper; la berenjena=aubergine; el ajo=garlic; la calabaza=pumpkin; el
        calabacín=courgette
    """),
    ("animal", "animal"): _nouns("""
        el perro=dog; el gato=cat; el caballo=horse; la vaca=cow; la oveja=sheep; el pájaro=bird; el conejo=rabbit; la
        tortuga=turtle; el ratón=mouse; el león=lion; el elefante=elephant; la mariposa=butterfly; el burro=donkey; la
        rana=frog; el pato=duck; el zorro=fox
    """),
    ("ropa", "clothing"): _nouns("""
        la camisa=shirt; el abrigo=coat; el zapato=shoe; la bota=boot; el sombrero=hat; la falda=skirt; el
        vestido=dress; la bufanda=scarf; el guante=glove; el calcetín=sock; la chaqueta=jacket; el jersey=jumper; el
        cinturón=belt; la gorra=cap
    """),
    ("mueble", "piece of furniture"): _nouns("""
        la mesa=table; la silla=chair; la cama=bed; el armario=wardrobe; el sofá=sofa; la estantería=bookcase; el
        banco=bench; el escritorio=desk; la cuna=cot; el sillón=armchair; la cómoda=chest of drawers
    """),
    ("comida", "food"): _nouns("""
        el pan=loaf; la tarta=cake; la galleta=biscuit; el queso=cheese; la sopa=soup; el bocadillo=sandwich; la
        tortilla=omelette; el pastel=pie; la ensalada=salad; el helado=ice cream; el bollo=bun; la pizza=pizza; el
        yogur=yogurt
    """),
    ("juguete", "toy"): _nouns("""
        la pelota=ball; la muñeca=doll; el tren=train; la cometa=kite; el puzle=puzzle; el oso de peluche=teddy bear;
        el globo=balloon; el robot=robot; la peonza=spinning top; el patinete=scooter; el tambor=drum
    """),
    ("objeto", "object"): _nouns("""
        el libro=book; el lápiz=pencil; el cuaderno=notebook; la lámpara=lamp; el reloj=clock; la taza=cup; el
        plato=plate; la botella=bottle; la caja=box; la bolsa=bag; el espejo=mirror; la vela=candle; la llave=key; el
        paraguas=umbrella; el teléfono=telephone; la radio=radio; la cámara=camera; el cuchillo=knife; la
        cuchara=spoon; la mochila=backpack; el cuadro=painting; la alfombra=rug; la maceta=flowerpot
    """),
    ("vehículo", "vehicle"): _nouns("""
        la bicicleta=bicycle; el coche=car; el autobús=bus; el barco=boat; el camión=lorry; la moto=motorbike; el
        avión=plane; el tranvía=tram; la furgoneta=van; el tractor=tractor
    """),
    ("flor", "flower"): _nouns("""
        la rosa=rose; el tulipán=tulip; la margarita=daisy; el girasol=sunflower; el clavel=carnation; la
        orquídea=orchid; el lirio=lily; la violeta=violet
    """),
}
EVERYTHING: tuple[Noun, ...] = tuple(noun for group in THINGS.values() for noun in group)
LIVING = ("animal",)

# kind of shop: Spanish with its article, English with its article, and the groups of things it sells
SHOPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("una ferretería", "a hardware store", ("tool", "material")),
    ("una ferretería", "a hardware store", ("tool", "material")),
    ("una frutería", "a greengrocer's", ("fruit", "vegetable")),
    ("una panadería", "a bakery", ("food",)),
    ("una juguetería", "a toy shop", ("toy",)),
    ("una tienda de ropa", "a clothes shop", ("clothing",)),
    ("una tienda de muebles", "a furniture shop", ("piece of furniture",)),
    ("una floristería", "a flower shop", ("flower",)),
    ("una tienda de animales", "a pet shop", ("animal",)),
    ("un mercado", "a market", ("fruit", "vegetable", "food")),
    ("un bazar", "a general store", ("object", "toy", "tool")),
    ("un taller", "a workshop", ("vehicle", "tool")),
)
CAPITALS = (
    ("España", "Madrid", "Spain", "Madrid"),
    ("Francia", "París", "France", "Paris"),
    ("Italia", "Roma", "Italy", "Rome"),
    ("Portugal", "Lisboa", "Portugal", "Lisbon"),
    ("Alemania", "Berlín", "Germany", "Berlin"),
    ("Perú", "Lima", "Peru", "Lima"),
    ("Colombia", "Bogotá", "Colombia", "Bogotá"),
    ("Chile", "Santiago", "Chile", "Santiago"),
    ("Irlanda", "Dublín", "Ireland", "Dublin"),
    ("Grecia", "Atenas", "Greece", "Athens"),
    ("Japón", "Tokio", "Japan", "Tokyo"),
    ("Cuba", "La Habana", "Cuba", "Havana"),
    ("Argentina", "Buenos Aires", "Argentina", "Buenos Aires"),
    ("Austria", "Viena", "Austria", "Vienna"),
    ("Egipto", "El Cairo", "Egypt", "Cairo"),
)
