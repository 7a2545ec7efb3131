"""Words by which a query is understood: what stands before a name, and what only looks like one."""

from __future__ import annotations

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar januari janvier enero gennaio janeiro",
            "february feb februar février fevrier febrero febbraio fevereiro",
            "march mar märz maerz mars marzo março",
            "april apr avril abril aprile",
            "may mai mayo maggio maio",
            "june jun juni juin junio giugno junho",
            "july jul juli juillet julio luglio julho",
            "august aug août aout agosto",
            "september sep sept septembre septiembre settembre setembro",
            "october oct oktober okt octobre octubre ottobre outubro",
            "november nov novembre noviembre novembro",
            "december dec dezember dez décembre decembre diciembre dicembre dezembro",
        ),
        1,
    )
    for name in names.split()
}
DOUBTFUL_MONTHS = frozenset(
    {"may", "march", "mars", "mar", "jan", "sep", "dec", "nov", "mai", "june", "april", "august"}
)
"""Names of people, plants and steps too: without a year they are a month only where they are written with a capital."""

SEASONS = {
    **dict.fromkeys(("spring", "frühling", "frühjahr", "printemps", "primavera"), "spring"),
    **dict.fromkeys(("summer", "sommer", "été", "ete", "verano", "estate", "verão"), "summer"),
    **dict.fromkeys(("autumn", "fall", "herbst", "automne", "otoño", "autunno", "outono"), "autumn"),
    **dict.fromkeys(("winter", "hiver", "invierno", "inverno"), "winter"),
}

TODAY = {
    **dict.fromkeys(("today", "heute", "aujourd'hui", "hoy", "oggi", "hoje"), 0),
    **dict.fromkeys(("yesterday", "gestern", "ayer", "ieri", "ontem"), 1),
    **dict.fromkeys(("vorgestern", "anteayer"), 2),
}
"""Days before today."""

UNITS = {
    name: unit
    for unit, names in {
        "day": "day days tag tage tagen jour jours día días dia dias",
        "part of a day": "morning afternoon evening",
        "week": "week weeks woche wochen semaine semaines semana semanas settimana",
        "weekend": "weekend wochenende",
        "month": "month months monat monate monaten mois mes meses mese mês",
        "year": "year years jahr jahre jahren année années an ans año años anno ano",
    }.items()
    for name in names.split()
}
SPANS = {name: unit for name, unit in UNITS.items() if unit in ("day", "week", "month", "year")}
"""Units that are counted."""

WEEKDAYS = {
    name: number
    for number, names in enumerate(
        (
            "monday montag lundi lunes",
            "tuesday dienstag mardi martes",
            "wednesday mittwoch mercredi miércoles miercoles",
            "thursday donnerstag jeudi jueves",
            "friday freitag vendredi viernes",
            "saturday samstag sonnabend samedi sábado sabado",
            "sunday sonntag dimanche domingo",
        )
    )
    for name in names.split()
}
LAST = (
    "last past letzten letzte letztes letzter vergangenen vergangenes letztem vergangene vergangener "
    "últimos últimas ultimos ultimas".split()
)
THIS = "this diesen dieses diese diesem esta este cette ce".split()
AFTER = "dernier dernière derniers dernières pasado pasada scorso scorsa passado".split()
TWICE = "vorletzte vorletzten vorletztes vorletzter".split()
"""What stands before or after a unit of time, a season or a weekday."""

DECADES = {"fifties": 1950, "sixties": 1960, "seventies": 1970, "eighties": 1980, "nineties": 1990}

NUMBERS = {
    name: number
    for number, names in enumerate(
        (
            "one a einem einer ein eine un une una uno",
            "two zwei deux dos",
            "three drei trois tres",
            "four vier quatre cuatro",
            "five fünf cinq cinco",
            "six sechs seis",
            "seven sieben sept siete",
            "eight acht huit ocho",
            "nine neun neuf nueve",
            "ten zehn dix diez",
        ),
        1,
    )
    for name in names.split()
} | {"twelve": 12}

PERSON_CUES = frozenset("with of by and & mit von und avec de d et con y e com und".split())
PLACE_CUES = frozenset("in from at near around to em aus bei nach à au aux en dans d de del da desde di".split())
OF = frozenset("of d de del di von".split())
"""They stand between many things: before a place they count where nothing but "photos" stands before them."""

ARTICLES = frozenset(
    "a an the my our your his her their this that these those some one der die das ein eine einen mein meine le la les "
    "l un une des mon ma el los las una mi il lo gli um uma".split()
)
PREPOSITIONS = (
    PERSON_CUES
    | PLACE_CUES
    | frozenset("on during by without for under over after before im am vor während".split())
    | frozenset("sur sous sin sobre bei when while at".split())
)

TURNS = frozenset(
    "without no not never but except excluding minus outside beyond far or nor than before after since until till "
    "older newer between ohne nicht kein keine außer oder vor nach seit bis zwischen sans pas sauf hors ou avant après "
    "depuis entre sin fuera excepto menos antes después desde hasta".split()
)
"""Words that turn what follows into its opposite, another period, or one of several: it is left in the words then."""

EAST_ASIAN_TURNS = (
    "不是",
    "不在",
    "没有",
    "沒有",
    "除了",
    "以前",
    "之前",
    "以后",
    "以後",
    "之后",
    "之後",
    "或",
    "还是",
    "還是",
)

PHOTOS = frozenset(
    "photo photos picture pictures pic pics image images shot shots snapshot snapshots photograph photographs "
    "taken aufgenommen prise prises tomada tomadas foto fotos bild bilder aufnahme aufnahmen photographie "
    "photographies imagen imágenes fotografía "
    "fotografías immagini show me all everything".split()
)
GENERIC = PHOTOS | frozenset("i we took find".split()) | ARTICLES | PREPOSITIONS
"""What a query is left with that asks for nothing but the filter."""

TAKEN = frozenset(
    "taken shot captured photographed made recorded aufgenommen pris prise prises tomadas tomada tomado".split()
)

SCENES = frozenset(
    "sunset sunsets sunrise sunrises landscape landscapes mountains streets beaches selfie selfies portrait "
    "portraits wildlife nightlife panorama night sky trip trips vacation holiday holidays honeymoon roadtrip".split()
)
"""What people take pictures of: a place or a maker of cameras beside it says where, or by what, they were taken."""

MAKERS = {
    "canon": "photo", "nikon": "photo", "fujifilm": "photo", "fuji": "photo", "leica": "photo", "olympus": "photo",
    "pentax": "photo", "gopro": "photo", "hasselblad": "photo", "ricoh": "photo", "minolta": "photo",
    "iphone": "photo", "dji": "photo", "lumix": "photo", "ilce": "photo",
    "coolpix": "photo", "powershot": "photo", "sony": "both", "samsung": "both", "huawei": "both", "xiaomi": "both",
    "panasonic": "both", "motorola": "both", "oneplus": "both", "kodak": "both", "nokia": "both", "pixel": "both",
    "apple": "other", "google": "other", "lg": "other", "galaxy": "other", "eos": "other",
}  # fmt: skip
"""Makers of cameras, and names of their cameras. Those of `both` and `other` make much else, or mean
something else; the former count beside a word of PHOTOS or SCENES too."""

CHINESE_MAKERS = {
    "佳能": "canon", "尼康": "nikon", "索尼": "sony", "富士": "fuji", "苹果": "apple", "华为": "huawei",
    "小米": "xiaomi", "三星": "samsung", "徕卡": "leica", "莱卡": "leica", "大疆": "dji", "松下": "panasonic",
    "奥林巴斯": "olympus", "宾得": "pentax", "理光": "ricoh", "谷歌": "google", "哈苏": "hasselblad",
    "蘋果": "apple", "華為": "huawei", "徠卡": "leica", "奧林巴斯": "olympus", "賓得": "pentax", "哈蘇": "hasselblad",
}  # fmt: skip

PRODUCTS = frozenset(
    "logo logos camera cameras lens lenses strap bag box store shop ad ads advert advertisement sign case "
    "charger cable battery phone phones smartphone screen box manual poster headphones tv laptop watch product "
    "ball balls cannon disto mount drone gimbal stand holder adapter copier printer scanner binoculars scope "
    "microscope projector monitor mons "
    "packaging building ink toner cartridge cartridges law apple apples headquarters "
    "office t-shirt cap sticker film tripod flash "
    "body kit pro max user icon geosystems microsystems".split()
)
"""After the name of a maker, what is seen, and not what took the picture."""

ORDINARY = frozenset(
    # names of people
    "may rose mark lily grace summer april june august daisy ruby pearl amber hope faith joy dawn iris violet jasmine "
    "ivy jack bill will rob art frank drew chase hunter robin sky angel jade olive ginger heather holly poppy cherry "
    "candy melody harmony penny sunny star rocky luna shadow smokey rosemary basil clay cliff dean dale glen heath "
    "lane reed stone wood "
    "woods page rich rusty sandy scarlet sienna savannah crystal destiny eve fern flora gene guy herb honey hazel "
    "jewel josh kit lance mason miles misty nick norm pat patience peach peg pierce prince princess ray river rock "
    "rusty sage skip sterling sunshine trinity victory willow winter autumn spring wren buddy chance colt cookie coco "
    "duke king queen major marina mercy miracle sergeant pepper bear tiger lion leo brooklyn dallas "
    "christian roman carol noel taylor tyler parker baker cook porter archer fisher cooper miller bell bush brooks "
    "grant wade randy bunny kitty teddy barbie ken santa jesus viola opal coral forest moses dolly polly jenny earl "
    "baron bishop knight carter virginia carolina "
    # places
    "turkey china chile jordan chad mali guinea georgia jersey nice bath reading orange cork phoenix cologne split "
    "mobile essen buffalo hamburg champagne bordeaux burgundy cuba panama java bali brest lens tours "
    "victoria lincoln washington columbia adelaide denver houston austin jackson madison charlotte aurora "
    "salem eugene surrey kent rugby derby dover deal hull poole rye wells ware sandwich barking tring ayr oman "
    "niger togo benin lima male rim bergen halle stein worms speyer singen siegen fulda weimar san santa best ede "
    "goes hoorn lisse oss battle hope bend erie gary independence normal orlando troy ithaca providence eureka "
    "concord liberty paradise monaco malta cyprus ham man mull skye iona bar budva pest nancy lorient nantes die "
    "grasse rust gap hook flint mold barry street boring snow looe march au aa ii y o are hell bo ash port ford "
    "bristol berkeley manchester "
    # what people keyword
    "adult airplane airport animal animals apple architecture art baby bag ball beach bed beer bench bicycle bike bird "
    "birds birthday black blue boat boats body book books bottle box boy boys bread breakfast bridge brown building "
    "buildings bus butterfly cake camera camping candle car cars castle cat cats celebration chair cheese child "
    "children christmas church city clock clothes cloud clouds coast coffee color colors concert cooking couple cow "
    "crowd cup dance dancing day deer desert dessert dinner dog dogs door drink duck easter eating evening face fall "
    "family farm farmer fashion father festival field fire fireworks fish fishing flower flowers fog food football "
    "forest friends fruit fun game garden girl girls glass glasses gold grass green group guitar hair halloween hand "
    "hands happy harbor hat hike hiking hill history holiday holidays home horse horses hospital hotel house houses "
    "ice insect island kid kids kitchen lake lamp landscape leaf leaves light lights lunch macro man map market "
    "meeting mirror moon morning mother motorcycle mountain mountains museum music nature night ocean office old "
    "outdoor outdoors painting paper park party path people person pet pets phone piano picnic pink plane plant "
    "plants plate playground pool portrait portraits potato pumpkin rabbit rain rainbow red restaurant road rocks "
    "roof room run running sail sailing salad sand school screenshot sculpture sea sheep ship shoes shop shopping "
    "sign skateboard skiing sleeping smile snow soccer sofa sport sports square squirrel stairs statue storm street "
    "student sun sunflower sunrise sunset surf surfing swimming table tea teacher team temple tennis tent toy train "
    "travel tree trees trip truck tulip turtle umbrella vacation vegetables village vintage wall water waterfall "
    "wedding weekend white wildlife window windows wine woman women work workshop yellow yoga zoo "
    # German nouns, which have a capital
    "abend auto baum bäume berg berge bild blume blumen boot brücke brot buch burg dorf ente erde essen fahrrad feld "
    "fenster feuer fisch fluss frau frauen freunde garten geburtstag gras haus häuser herbst himmel hochzeit hund "
    "hunde hut insel junge kaffee katze katzen kerze kind kinder kirche kleid kuchen kuh küche küste licht mann meer "
    "mond morgen musik mädchen nacht nebel natur park pferd regen schaf schiff schloss schnee schule see sommer sonne "
    "spiegel stadt strand straße stuhl tier tiere tisch torte turm urlaub vogel vögel wald wand wasser weihnachten "
    "wein wiese winter wolke wolken zug".split()
)
"""Words that are names too: they count as one only after "with", "in" and their like, and with a capital."""
