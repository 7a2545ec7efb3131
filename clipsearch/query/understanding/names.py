"""Names in the words of a query: of places, tags and cameras that the library has, where they can be nothing else.

Runs of words that stand where a name may stand are looked up, a bounded number of them; no list of the library is read
but that of its places, and of its cameras where the words name a maker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

from clipsearch.query.understanding.tokens import Token
from clipsearch.query.understanding.vocabulary import (
    ARTICLES,
    FIRST_NAMES,
    GENERIC,
    OF,
    ORDINARY,
    PERSON_CUES,
    PLACE_CUES,
    PREPOSITIONS,
)
from clipsearch.words import fold_tag

_MOST_WORDS, _MOST_CHARACTERS = 5, 8
"""Of a name: words, or characters of Chinese, Japanese or Korean."""

MAX_RUNS = 400
"""Runs of words of one query that are looked up."""

_AND = frozenset("and und et y & or oder ou o".split())
_ELSEWHERE = frozenset("made born based set hours minutes miles km kilometers kilometres far".split())
"""Before "in" or "from" and a place: not where the picture was taken."""

_TO = frozenset(("to", "nach"))
_LEAVING, _ARRIVING = frozenset("from von aus de desde".split()), _TO | {"à", "a", "au", "aux"}
_TRAVEL = frozenset(
    "trip trips visit journey holiday holidays vacation travel travels excursion tour moving moved reise urlaub "
    "fahrt ausflug".split()
)
"""Where "to" and a place stand behind one of these, the picture was taken there; else it may show the way."""

_NOT_WITH = frozenset("to from for like as about against vs versus".split())
"""Before the name of a person: it need not be in the picture."""

_SELF = frozenset("me i us mom mum dad my the a".split())

_PARTS_OF_PLACES = frozenset(
    "northern southern eastern western central north south east west upper lower downtown inner outer greater rural "
    "old new ancient medieval modern little vs versus past like".split()
)
"""Before a place: what is meant is not all of it, and may be elsewhere."""

_BREAKS = ",;:.!?()[]/|，。、；：！？（）"


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


@dataclass(frozen=True, slots=True)
class Run:
    """Words that follow each other, and what stands around them.

    words: their tokens. before, after: the tokens beside them; None where something that was lifted, a mark or nothing
    is. further: the token before `before`. is_first: nothing stands before. rest: whether only words such as
    "photos of" stand before.
    """

    text: str
    words: Sequence[Token]
    before: Token | None
    after: Token | None
    further: Token | None
    is_first: bool
    rest: bool
    is_possessive: bool

    @property
    def is_capital(self) -> bool:
        """Whether all words begin with a capital, but small ones such as "de"."""
        return all(word.is_capital or word.lower in PREPOSITIONS for word in self.words) and self.words[0].is_capital

    @property
    def cue(self) -> str:
        """The word before, in lower case."""
        return self.before.lower if self.before else ""

    @property
    def start(self) -> int:
        """Where what stands before it ends."""
        return self.words[0].start - len(self.words[0].gap)

    @property
    def comma(self) -> bool:
        """Whether only a comma stands before it."""
        return self.words[0].gap.strip() == ","

    @property
    def is_article_near(self) -> bool:
        """Whether an article is one of the two words before."""
        return any(each is not None and each.lower in ARTICLES for each in (self.before, self.further))

    @property
    def has_article(self) -> bool:
        """Whether "in the" or its like leads to it, as to the names of some countries."""
        return self.cue in ARTICLES and self.further is not None and self.further.lower in PLACE_CUES - OF

    @property
    def is_east_asian(self) -> bool:
        """Whether it is of characters of Chinese, Japanese or Korean."""
        return self.words[0].is_east_asian

    @property
    def is_ordinary(self) -> bool:
        """Whether it is a word too."""
        return len(self.words) == 1 and self.words[0].lower in ORDINARY

    @property
    def is_part_of_name(self) -> bool:
        """Whether a word with a capital beside it makes it part of another name, such as "Paris Hilton"."""
        before = self.before is not None and self.before.is_capital and not _leads(self.before)
        return before or (self.after is not None and self.after.is_capital)


def find_runs(tokens: Sequence[Token], lifted: Sequence[tuple[int, int]], text: str) -> list[Run]:
    """Return the runs of words that may be names; lifted: parts of the text that are taken already."""
    found: list[Run] = []
    free = [all(token.end <= start or end <= token.start for start, end in lifted) for token in tokens]
    generic = True
    for i, first in enumerate(tokens):
        if not free[i]:
            continue
        most = _MOST_CHARACTERS if first.is_east_asian else _MOST_WORDS
        for j in range(i, min(i + most, len(tokens))):
            if not free[j] or tokens[j].is_east_asian != first.is_east_asian or (j > i and _breaks(tokens[j], first)):
                break
            after = j + 1
            is_possessive = after < len(tokens) and tokens[after].lower == "s" and tokens[after].gap in ("'", "’")
            after += is_possessive
            found.append(
                Run(
                    text[first.start : tokens[j].end], tokens[i : j + 1], _beside(tokens, free, i - 1, first.gap),
                    _beside(tokens, free, after, tokens[after].gap if after < len(tokens) else ""),
                    _beside(tokens, free, i - 2, tokens[i - 1].gap), i == 0, generic, is_possessive,
                )
            )  # fmt: skip
            if len(found) == MAX_RUNS:
                return found
        generic = generic and first.lower in GENERIC
    return found


def find_names(runs: Sequence[Run], tokens: Sequence[Token], known: Known) -> list[Named]:
    """Return the places and tags that runs name, none of which overlap; the longest and the first ones win."""
    likely = [run for run in runs if not run.is_east_asian and _may_be_name(run)]
    tags = known.tags({fold_tag(run.text) for run in likely})
    found: list[Named] = []
    of: list[Run] = []
    for run in sorted(likely, key=lambda run: (-len(run.words), run.words[0].start)):
        if any(each.start < run.words[-1].end and run.words[0].start < each.end for each in found):
            continue
        after_place = any(each.kind == "place" and each.end == run.start and run.comma for each in found)
        is_place, is_tag = _is_place(run, known, after_place), _is_tag(run, tags.get(fold_tag(run.text)), found)
        if is_place and is_tag:
            is_place, is_tag = run.cue in PLACE_CUES - PERSON_CUES, run.cue in PERSON_CUES - PLACE_CUES
        if is_place or is_tag:
            kind: Literal["place", "tag"] = "place" if is_place else "tag"
            found.append(Named(_start(run, kind), _end(run), kind, run.text))
            of.append(run)
    if _is_way(of):
        return []
    return [
        each
        for each, run in zip(found, of, strict=True)
        if not _is_half_of_list(run, each.kind, tokens, found) and not (each.kind == "place" and _is_aim(run))
    ]


def _may_be_name(run: Run) -> bool:
    """Tell whether it is worth looking up."""
    if run.words[0].lower in ARTICLES | PREPOSITIONS or (run.cue in ARTICLES and not run.has_article):
        return False
    leads = run.is_possessive or run.cue in PERSON_CUES | PLACE_CUES
    return run.is_capital or leads or len(run.words) > 1 or run.after is None


def _is_place(run: Run, known: Known, after_place: bool) -> bool:
    """Tell whether a run can only be a place of the library; after_place: one and a comma stand before it."""
    if run.is_part_of_name or run.is_possessive or run.cue in _PARTS_OF_PLACES or _is_elsewhere(run):
        return False
    has_cue = run.cue in PLACE_CUES and (run.cue not in OF or run.rest or run.is_capital)
    if run.is_ordinary and not ((has_cue or after_place) and run.is_capital and run.cue not in OF):
        return False
    places = known.places(run.text)
    if not places:
        return False
    if not run.is_capital and not any(place.is_main for place in places):
        return False
    if has_cue or (run.cue in OF and run.rest):
        return True
    ends = run.after is None or run.after.lower in (PREPOSITIONS | GENERIC | _AND) - ARTICLES
    if run.has_article:
        return ends and any(place.field == "country" for place in places)
    return run.is_capital and ends and run.cue not in OF


def _is_way(runs: Sequence[Run]) -> bool:
    """Tell whether names say from where to where something goes: the picture may be of neither."""
    cues = [run.cue for run in sorted(runs, key=lambda run: run.words[0].start)]
    return any(first in _LEAVING and second in _ARRIVING for first, second in pairwise(cues))


def _is_aim(run: Run) -> bool:
    """Tell whether "to" before a place says where something leads, as in "road to Oslo" but not in "a trip to Oslo"."""
    return run.cue in _TO and (run.further is None or run.further.lower not in _TRAVEL)


def _is_elsewhere(run: Run) -> bool:
    return run.further is not None and run.further.lower in _ELSEWHERE


def _is_half_of_list(run: Run, kind: str, tokens: Sequence[Token], found: Sequence[Named]) -> bool:
    """Tell whether "and" joins a name to what is none, as in "Tom and Jerry", and "Florence and the Machine"."""
    first = next(i for i, token in enumerate(tokens) if token.start == run.words[0].start)
    beyond = first + len(run.words) + 2 * run.is_possessive - run.is_possessive
    pairs = []
    if run.before is not None and run.cue in _AND and first > 1:
        pairs.append(tokens[first - 2])
    if run.after is not None and run.after.lower in _AND and beyond + 1 < len(tokens):
        pairs.append(tokens[beyond + 1])
    others = [each for each in pairs if not any(name.start <= each.start < name.end for name in found)]
    if kind == "tag":
        return any((each.is_capital or not run.is_capital) and each.lower not in _SELF for each in others)
    return run.cue not in PLACE_CUES and bool(others)


def _is_tag(run: Run, tag: str | None, found: Sequence[Named]) -> bool:
    """Tell whether a run can only be a tag that is a name, such as that of a person."""
    if tag is None or not all(word[:1].isupper() for word in tag.split()) or run.is_part_of_name:
        return False
    if run.cue in _NOT_WITH and not run.rest:
        return False
    if len(run.words) > 1:
        return True
    if not run.is_capital:
        leads = run.is_possessive or (run.cue in PERSON_CUES - OF) or (run.cue in OF and run.rest)
        ends = run.after is None or run.is_possessive or run.after.lower in PREPOSITIONS | GENERIC
        return leads and ends and not run.is_ordinary and run.words[0].lower in FIRST_NAMES
    if run.is_possessive or run.cue in PERSON_CUES:
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


def _leads(token: Token) -> bool:
    return token.lower in PREPOSITIONS | GENERIC


def _breaks(token: Token, first: Token) -> bool:
    """Tell whether a name cannot go on at a word."""
    return token.gap.strip(" -.'’") != "" if not first.is_east_asian else token.gap != ""


def _beside(tokens: Sequence[Token], free: Sequence[bool], place: int, gap: str) -> Token | None:
    """Return the token at an index; None if it is lifted, does not exist, or follows a punctuation mark."""
    if not 0 <= place < len(tokens) or not free[place]:
        return None
    is_short = gap.strip() == "." and len(tokens[place].text) <= 3  # as in "St. Olav"
    return None if any(c in _BREAKS for c in gap) and not is_short else tokens[place]
