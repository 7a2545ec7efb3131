"""A cheap test whether the words of a query may say more than what is to be seen: most do not, and cost no more."""

from __future__ import annotations

MAX_LENGTH = 300
"""Characters: a longer text is a description, and is taken as it stands."""

_NEGATES = frozenset(
    "without no not neither w/o ohne kein keine keinen keiner keinem sans pas aucun aucune sin ningún ninguna "
    "ningun".split()
)
"""One of these words, or one of _CHINESE_NEGATES, is in every sentence that says what is not there."""
_CHINESE_NEGATES = "没沒无不"

_TELLING = frozenset(
    "yesterday today last past ago gestern heute letzten letzte letztes letzter vergangenen hier aujourd'hui ayer hoy "
    "pasado pasada dernier dernière this diesen diesem dieses before vorletzten vorletztes vorletzter vorgestern "
    "anteayer hace últimos últimas ultimos ultimas derniers dernières ans mois jours nineties eighties seventies "
    "sixties fifties uk usa".split()
)
_BEFORE_NAMES = frozenset(
    "in from at near with of by mit von aus à au aux en de del con avec dans desde und and around to".split()
)
_NO_NAMES = frozenset(
    "a an the my our your his her their its this that these those some one two three der die das dem den ein eine "
    "einen einem einer le la les un une des el los las una no front and snow water sand rain fog it them blue red "
    "green black white yellow brown bed grass bloom trees love flight sunlight motion".split()
)
FIRST_NAMES = frozenset(
    # the more frequent ones of several languages that are no words of them
    "adam alex alexander alice alicia amanda amy ana andrea andreas andrew andy angela anna anne annie anthony antonio "
    "arthur barbara beatriz ben benjamin bernd brian brigitte camille carla carlos carmen caroline catherine charles "
    "chloe chris christian christina christine christopher claire clara claudia daniel daniela david deborah dennis "
    "diana diego donald edward elena eleonora elisabeth elizabeth ella ellen emily emma eric erika ethan eva fatima "
    "felix fernando florian francesca francesco franz frederic gabriel giulia greta hanna hannah hans heidi "
    "heinz helen helena helga henri henry ines ingrid isabel isabella jacob james jan jane janet javier jean jeff "
    "jennifer jens jessica jim joan joe johanna john johannes jonas jonathan jorge jose josef joseph josé juan judith "
    "julia julian julie julien jürgen karen karin karl kate katharina katherine kathrin kathy katie kevin klaus "
    "larry laura lauren lea lena leon leonie linda lisa lorenzo louis louise luca lucas lucia lucie lucy lucía luis "
    "lukas maggie manuel marco margaret maria marie mario marion marta martha martin martina mary mateo matteo "
    "matthew matthias max maximilian megan mia michael michelle miguel mike mohamed mohammed monica monika moritz "
    "natalie nicholas nicolas nicole nina noah nora oliver olivia oscar pablo patricia patrick paul paula pedro "
    "peter philip philipp pierre rachel raphael rebecca renate richard rita robert roberto ronald ryan sabine samuel "
    "sandra sara sarah sebastian simon sofia sonja sophia sophie stefan stefanie stephanie stephen steven susan "
    "susanne teresa theo theresa thomas tim tina tobias tom tony ursula uwe valentina vanessa victor vincent walter "
    "werner wolfgang yasmin yvonne".split()
)
"""In lower case they count as a tag's name after "with", or "of" behind "photos", before "'s", or at the beginning."""

FAMILIAR_PLACES = frozenset(
    # countries, regions and cities that are hardly anything else
    "spain france italy germany portugal greece japan thailand vietnam india australia iceland norway sweden finland "
    "denmark ireland scotland wales switzerland austria croatia hungary poland netherlands belgium morocco egypt kenya "
    "tanzania namibia brazil argentina peru mexico canada indonesia malaysia philippines nepal israel korea taiwan "
    "russia romania bulgaria slovenia estonia cambodia colombia ecuador bolivia tuscany sicily sardinia andalusia "
    "bavaria provence hawaii florida phuket crete santorini mallorca ibiza tenerife madeira patagonia hokkaido tibet "
    "paris london berlin munich rome venice milan naples madrid barcelona seville lisbon amsterdam brussels vienna "
    "prague budapest krakow warsaw copenhagen stockholm oslo helsinki reykjavik dublin edinburgh athens istanbul "
    "dubrovnik zurich geneva moscow tokyo kyoto osaka beijing shanghai chengdu taipei seoul bangkok hanoi singapore "
    "dubai mumbai delhi kathmandu sydney melbourne auckland queenstown marrakech cairo nairobi boston chicago seattle "
    "miami vancouver toronto montreal havana".split()
) | {
    "usa", "uk", "new york", "new york city", "san francisco", "los angeles",
    "las vegas", "new orleans", "hong kong", "cape town", "rio de janeiro",
    "mexico city", "buenos aires", "south africa", "new zealand", "sri lanka", "south korea", "costa rica",
}  # fmt: skip
"""In lower case they count as places at the end of the words, or where only such words follow as after a capital."""

_MARKS = ",.;:!?()"
_MAKERS = (
    "canon",
    "nikon",
    "fuji",
    "leica",
    "olympus",
    "pentax",
    "gopro",
    "iphone",
    "dji",
    "sony",
    "pixel",
    "galaxy",
    "samsung",
    "huawei",
    "xiaomi",
    "lumix",
    "panasonic",
    "kodak",
    "hasselblad",
    "ricoh",
    "coolpix",
    "powershot",
)


def may_mean_more(text: str) -> bool:
    """Tell whether it is worth a look what a text says beside what is seen: a filter, or what is not there."""
    return may_hold_filter(text) or may_negate(text)


def may_negate(text: str) -> bool:
    """Tell whether it is worth a look what a text says is not there."""
    if len(text) > MAX_LENGTH or '"' in text or text.lstrip().startswith("text:"):
        return False
    return not _NEGATES.isdisjoint(text.lower().replace(",", " ").split()) or any(c in text for c in _CHINESE_NEGATES)


def may_hold_filter(text: str) -> bool:
    """Tell whether it is worth a look what a text says beside what is seen: a date, a name, a place, a camera."""
    if len(text) > MAX_LENGTH or '"' in text or text.lstrip().startswith("text:"):
        return False
    before = ""
    for number, word in enumerate(text.split()):
        lower = word.lower().strip(_MARKS).removesuffix("'s").removesuffix("’s")
        is_name = word != word.lower() and len(word) > 1 and not (number == 0 and lower in _NO_NAMES)
        if lower in _TELLING or word.endswith(("'s", "’s")) or is_name or lower.startswith(_MAKERS) or _is_odd(word):
            return True
        if before in _BEFORE_NAMES and lower not in _NO_NAMES:
            return True
        if lower in FAMILIAR_PLACES or f"{before} {lower}" in FAMILIAR_PLACES or (not number and lower in FIRST_NAMES):
            return True
        before = lower
    return False


def _is_odd(word: str) -> bool:
    """Tell whether a word has a digit, or is of a script without capitals."""
    return any(c.isdigit() for c in word) or (not word.isascii() and any("\u3040" <= c <= "\ud7af" for c in word))
