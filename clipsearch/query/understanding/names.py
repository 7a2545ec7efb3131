"""Names in the words of a query: of places, tags and cameras that the library has, where they can be nothing else.

Runs of words that stand where a name may stand are looked up, a bounded number of them; no list of the library is read
but that of its places, and of its cameras where the words name a maker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

from clipsearch.query.understanding.gate import FAMILIAR_PLACES, FIRST_NAMES
from clipsearch.query.understanding.runs import Run
from clipsearch.query.understanding.tokens import Token
from clipsearch.query.understanding.vocabulary import (
    ARTICLES,
    GENERIC,
    OF,
    ORDINARY,
    PERSON_CUES,
    PLACE_CUES,
    PREPOSITIONS,
    SCENES,
)
from clipsearch.words import fold_tag

_AND = frozenset("and und et y & or oder ou o vs versus".split())
_ELSEWHERE = frozenset("made born based set hours minutes miles km kilometers kilometres far".split())
"""Before "in" or "from" and a place: not where the picture was taken."""

_GOODS = frozenset(
    "wine coffee tea cheese chocolate beer rum cigars ham oranges postcard postcards letter letters greetings souvenir "
    "souvenirs magnet mug jacket shoes bag scarf hat dress leather carpet rug spices pottery gift gifts present "
    "package train flight bus plane ship team band girl boy guy man woman people".split()
)
"""Before "from" and a place: what comes from a place need not be there."""

_TO = frozenset(("to", "nach"))
_LEAVING, _ARRIVING = frozenset("from von aus de desde".split()), _TO | {"à", "a", "au", "aux"}
_TRAVEL = frozenset(
    "trip trips visit journey holiday holidays vacation travel travels excursion tour moving moved reise urlaub "
    "fahrt ausflug".split()
)
"""Before "to" and a place: the picture was taken there. After other words it may show the way."""

_DOING = frozenset(
    "eating drinking playing running sleeping dancing singing baking laughing smiling swimming skiing surfing hiking "
    "sitting standing wearing holding riding blowing opening".split()
)
"""After a first name in lower case: what a person does."""

_NOT_WITH = frozenset("to from for like as about against vs versus".split())
"""Before the name of a person: it need not be in the picture."""

_OF_COUNTRIES = {"istanbul": "turkey", "beijing": "china", "shanghai": "china", "chengdu": "china", "havana": "cuba"}
"""City -> country whose name is also a word: after the city and a comma it means the country in lower case too."""

_STATES = frozenset(
    "texas georgia florida ohio ontario kentucky tennessee maine illinois idaho indiana alabama "
    "michigan missouri".split()
)
"""States that have cities with the names of familiar ones, as in "Paris, Texas"."""

_IDIOMS = {("noah", "ark"), ("adam", "apple"), ("murphy", "law"), ("victoria", "secret"), ("tom", "diner")}
_SELF = frozenset("me i us mom mum dad my the a".split())

_PARTS_OF_PLACES = frozenset(
    "northern southern eastern western central north south east west upper lower downtown inner outer greater rural "
    "old new ancient medieval modern little vs versus past like".split()
)
"""Before a place: only a part of it is meant."""

_WORKS = frozenset(
    "statue sculpture bust figurine poster movie film book song album concert musical comic doll opera ballet".split()
)
"""After a name: kinds of works that have such names."""

_OTHER_NAMES = frozenset(
    "air fc ac inter real atletico bayern borussia team miss hotel bank radio university little made visit".split()
)
"""Before a place in lower case: the place is part of another name."""
_NOT_BEFORE = (GENERIC - _AND) | _OTHER_NAMES
_SIGHTS = SCENES | frozenset("canals architecture street".split())
"""What is seen of a place, behind it or before "of" it."""
_BEHIND_PLACES = ((GENERIC | _AND) - ARTICLES - {"for"}) | _SIGHTS
_FAMILIAR = FAMILIAR_PLACES | FIRST_NAMES


class PlaceNamed(Protocol):
    """A place of the library by what it is called."""

    @property
    def field(self) -> str:
        """What it is: `country`, `region` or `city`."""

    @property
    def is_main(self) -> bool:
        """Whether the name can hardly be anything else in lower case too."""


class Known(Protocol):
    """What names a library has."""

    def tags(self, names: Iterable[str]) -> Mapping[str, str]:
        """Return the tags that are called so: by the folded name, the tag as it is written."""

    def places(self, name: str) -> Sequence[PlaceNamed]:
        """Return the places that are called so."""

    def cameras(self) -> Sequence[str]:
        """Return the names of all cameras."""

    def has_taken(self, start: datetime, end: datetime) -> bool:
        """Tell whether anything was taken in a year."""


class Named(NamedTuple):
    """A name that was found: what it is of, and where it stands with the words that lead to it."""

    start: int
    end: int
    kind: Literal["place", "tag", "camera"]
    name: str


def find_names(runs: Sequence[Run], tokens: Sequence[Token], known: Known) -> list[Named]:
    """Return the places and tags that runs name, none of which overlap; the longest and the first ones win."""
    likely = [run for run in runs if not run.is_east_asian and _may_be_name(run)]
    tags = known.tags({fold_tag(run.text) for run in likely})
    found: list[Named] = []
    of: list[Run] = []
    for run in sorted(likely, key=lambda run: (-len(run.words), run.words[0].start)):
        if any(each.start < run.words[-1].end and run.words[0].start < each.end for each in found):
            continue
        listed = {each.kind: each.name.lower() for each in found if each.end == run.start and run.comma}
        is_place = _is_place(run, known, listed.get("place", ""))
        is_tag = _is_tag(run, tags.get(fold_tag(run.text)), "tag" in listed)
        if is_place and is_tag:
            is_place, is_tag = run.cue in PLACE_CUES - PERSON_CUES, run.cue in PERSON_CUES - PLACE_CUES
        if is_place or is_tag:
            kind: Literal["place", "tag"] = "place" if is_place else "tag"
            found.append(Named(_start(run, kind), _end(run), kind, run.text))
            of.append(run)
    if _is_way(of) or _is_namesake(tokens, known):
        return []
    return [
        each
        for each, run in zip(found, of, strict=True)
        if not (_is_half_of_list(run, each.kind, tokens, found) or _is_title(run, tokens))
        and not (each.kind == "place" and _is_aim(run))
    ]


def _may_be_name(run: Run) -> bool:
    """Tell whether it is worth looking up."""
    first, rest = run.words[0].lower, run.words[1:]
    is_led = first in PREPOSITIONS or (first in ARTICLES and not rest)  # "Las Vegas" is a name
    if is_led or (run.cue in ARTICLES and not run.has_article):
        return False
    leads = run.is_possessive or run.is_first or run.cue in PERSON_CUES | PLACE_CUES
    leads = leads or run.words[0].lower in _FAMILIAR
    return run.is_capital or leads or len(run.words) > 1 or run.after is None


def _is_place(run: Run, known: Known, city_before: str) -> bool:
    """Tell whether a run can only be a place of the library; city_before: one, and a comma, stand before it."""
    is_familiar = run.text.lower() in FAMILIAR_PLACES and run.cue not in _NOT_BEFORE
    ends_title = is_familiar and run.after is None and run.further is not None  # "Big Ben London", not "Jack London"
    if (run.is_part_of_name and not ends_title) or run.is_possessive or run.cue in _PARTS_OF_PLACES:
        return False
    if _is_elsewhere(run):
        return False
    if run.after is None and _OF_COUNTRIES.get(city_before) == run.text.lower():
        return bool(known.places(run.text))
    has_cue = run.cue in PLACE_CUES and (run.cue not in OF or run.rest or run.is_capital)
    if run.is_ordinary and not ((has_cue or city_before) and run.is_capital and run.cue not in OF):
        return False
    places = known.places(run.text)
    if not places:
        return False
    if not run.is_capital and not any(place.is_main for place in places):
        return False
    if has_cue or (run.cue in OF and (run.rest or (run.further is not None and run.further.lower in _SIGHTS))):
        return True
    ends = run.after is None or run.after.lower in _BEHIND_PLACES
    if run.has_article:
        return ends and any(place.field == "country" for place in places)
    return (run.is_capital or is_familiar) and ends and run.cue not in OF


def _is_way(runs: Sequence[Run]) -> bool:
    """Tell whether the names are the two ends of a route, as in "from Madrid to Paris"."""
    cues = [run.cue for run in sorted(runs, key=lambda run: run.words[0].start)]
    return any(first in _LEAVING and second in _ARRIVING for first, second in pairwise(cues))


def _is_namesake(tokens: Sequence[Token], known: Known) -> bool:
    """Tell whether the words name a city in another country, as in "Paris, Texas"."""
    return any(
        state.lower in _STATES
        and state.gap.strip() == ","
        and city.lower in FAMILIAR_PLACES
        and (state.lower == "georgia" or not known.places(state.text))
        for city, state in pairwise(tokens)
    )


def _is_aim(run: Run) -> bool:
    """Tell whether "to" before a place says where something leads, as in "road to Oslo" but not in "a trip to Oslo"."""
    return run.cue in _TO and (run.further is None or run.further.lower not in _TRAVEL)


def _is_elsewhere(run: Run) -> bool:
    further = run.further.lower if run.further else ""
    return further in _ELSEWHERE or (run.cue == "from" and further in _GOODS)


def _is_title(run: Run, tokens: Sequence[Token]) -> bool:
    """Tell whether a run is the title of a work, as in "Berlin by Lou Reed" and "David statue"."""
    if run.after is None or run.after.lower != "by":
        return run.after is not None and run.after.lower in _WORKS
    maker = next((token.lower for token in tokens if token.start >= run.after.end), "the")
    return maker not in ARTICLES | ORDINARY


def _is_half_of_list(run: Run, kind: str, tokens: Sequence[Token], found: Sequence[Named]) -> bool:
    """Tell whether "and" joins a name to a word that was not found, as in "Tom and Jerry"."""
    first = next(i for i, token in enumerate(tokens) if token.start == run.words[0].start)
    beyond = first + len(run.words) + run.is_possessive
    pairs = []
    if run.before is not None and run.cue in _AND and first > 1:
        pairs.append(tokens[first - 2])
    if run.after is not None and run.after.lower in _AND and beyond + 1 < len(tokens):
        pairs.append(tokens[beyond + 1])
    if beyond + 1 < len(tokens) and tokens[beyond].gap.strip() == "," and tokens[beyond + 1].lower in _AND:
        pairs.append(tokens[beyond])  # "Tom, Dick and Harry"
    others = [each for each in pairs if not any(name.start <= each.start < name.end for name in found)]
    if kind == "tag":
        return any((each.is_capital or not run.is_capital) and each.lower not in _SELF for each in others)
    return run.cue not in PLACE_CUES and bool(others)


def _is_tag(run: Run, tag: str | None, after_tag: bool) -> bool:
    """Tell whether a run can only be a tag that is a name; after_tag: one and a comma stand before."""
    if tag is None or not all(word[:1].isupper() for word in tag.split()) or run.is_part_of_name:
        return False
    is_idiom = run.is_possessive and run.after is not None and (run.text.lower(), run.after.lower) in _IDIOMS
    if is_idiom or (run.cue in _NOT_WITH and not run.rest):
        return False
    if len(run.words) > 1:
        return True
    ends = run.after is None or run.is_possessive or run.after.lower in GENERIC | (_DOING if run.is_first else set())
    if not run.is_capital:
        starts = run.is_first and (run.after is None or run.after.lower not in ARTICLES | OF)
        leads = run.is_possessive or (run.cue in PERSON_CUES - OF) or (run.cue in OF and run.rest)
        leads = leads or starts or after_tag
        return leads and ends and not run.is_ordinary and run.words[0].lower in FIRST_NAMES
    if run.is_possessive or run.cue in PERSON_CUES or (after_tag and ends):
        return True
    return not run.is_ordinary


def _start(run: Run, kind: str) -> int:
    """Return where the words begin that lead to a name."""
    cues = PLACE_CUES if kind == "place" else PERSON_CUES
    if kind == "place" and run.has_article and run.further is not None:
        return run.further.start
    leads = run.before is not None and run.cue in cues
    return run.before.start if leads and run.before is not None else run.words[0].start


def _end(run: Run) -> int:
    return run.words[-1].end + (2 if run.is_possessive else 0)
