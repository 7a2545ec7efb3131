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
_MARKS = ",.;:!?()"
_MAKERS = ("canon", "nikon", "fuji", "leica", "olympus", "pentax", "gopro", "iphone", "dji", "sony", "pixel", "galaxy")


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
        before = lower
    return False


def _is_odd(word: str) -> bool:
    """Tell whether a word has a digit, or is of a script without capitals."""
    return any(c.isdigit() for c in word) or (not word.isascii() and any("\u3040" <= c <= "\ud7af" for c in word))
