"""Cameras in the words of a query: what pictures were taken with, and not what they show."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clipsearch.query.understanding.east_asian import find_makers
from clipsearch.query.understanding.names import Known, Named
from clipsearch.query.understanding.runs import Run
from clipsearch.query.understanding.tokens import Token
from clipsearch.query.understanding.vocabulary import (
    ARTICLES,
    CHINESE_MAKERS,
    MAKERS,
    PHOTOS,
    PREPOSITIONS,
    PRODUCTS,
    SCENES,
    TAKEN,
)

_WITH = frozenset("with on by using mit avec con".split())
_OWN = frozenset("my our the a an his her meinem meiner einem einer mon ma un une mi una".split())
_FROM, _MINE = _WITH | {"from", "von", "de"}, frozenset("my our meinem meiner mon mi".split())
_PLACED = frozenset("on in at with mounted attached lying hanging held".split())
"""After a camera: the camera is what the picture shows."""
_HOLDING = PREPOSITIONS | frozenset("holding using wearing selling called named mount mt".split())


def find_cameras(runs: Sequence[Run], tokens: Sequence[Token], text: str, known: Known) -> list[Named]:
    """Return the cameras of the library that took what is asked for; the longest name of each place in the words."""
    found: list[Named] = []
    named: list[Named] = [
        Named(start, end, "camera", CHINESE_MAKERS.get(maker, maker)) for start, end, maker in find_makers(text)
    ]
    is_taken = any(token.lower in TAKEN for token in tokens)
    likely = [run for run in runs if _names_maker(run) or (is_taken and _is_model(run, known))]
    for run in sorted(likely, key=lambda run: (-len(run.words), run.words[0].start)):
        start = _start(run, tokens)
        if start is not None and (start < run.words[0].start or _names_maker(run)):
            named.append(Named(start, run.words[-1].end, "camera", run.text))
    for each in named:
        each = each._replace(name=_in_library(each.name, known))
        is_free = not any(each.start < other.end and other.start < each.end for other in found)
        if is_free and each.name:
            found.append(each)
    return found


def _names_maker(run: Run) -> bool:
    return not run.is_east_asian and any(word.lower in MAKERS for word in run.words)


def _is_model(run: Run, known: Known) -> bool:
    """Tell whether a run is the name of a model in the library, such as "GR III" or "X100"."""
    name = run.text.lower()
    if run.is_east_asian or (len(run.words) == 1 and not any(c.isdigit() for c in name)):
        return False
    return any(f" {name} " in f" {camera.lower()} " for camera in known.cameras())


def _start(run: Run, tokens: Sequence[Token]) -> int | None:
    """Return where the words begin that say what took the pictures; None where the run may be what is seen."""
    at = next(i for i, token in enumerate(tokens) if token.start == run.words[0].start)
    before = [token.lower for token in tokens[max(0, at - 3) : at]]
    for own in (1, 0):  # "taken with my", "taken with"
        lead = before[: len(before) - own] if own else before
        if own and before[-1:] and before[-1] not in _OWN:
            continue
        if len(lead) >= 2 and lead[-1] in _WITH and lead[-2] in TAKEN:
            return tokens[at - own - 2].start
        if own and lead[-1:] and lead[-1] in _FROM and before[-1] in _MINE:
            return tokens[at - own - 1].start
        if own and before[-1:] == ["the"] and len(lead) > 1 and lead[-1] in _WITH and lead[-2] in PHOTOS | SCENES:
            return tokens[at - own - 1].start if any(c.isdigit() for c in run.text) else None
    if not PRODUCTS.isdisjoint(token.lower for token in tokens[at + len(run.words) :][:2]):
        return None
    if at > 1 and run.rest and run.cue in _WITH:  # "photos with canon"
        return tokens[at - 1].start
    return run.words[0].start if _stands_apart(run) else None


def _stands_apart(run: Run) -> bool:
    """Tell whether a run stands beside what is seen, as in "canon sunset": no word makes it something that is seen."""
    if run.cue in ARTICLES | _HOLDING or run.is_possessive:
        return False
    after = run.after.lower if run.after else ""
    is_other_model = re.fullmatch(r"(?=.*\d)(?=.*[a-z])[a-z\d]+", after)
    if is_other_model or after in ARTICLES | _PLACED:
        return False
    has_model = any(any(c.isdigit() for c in word.text) for word in run.words)
    kinds = {MAKERS.get(word.lower) for word in run.words}
    of_photographs = "photo" in kinds or ("both" in kinds and not (PHOTOS | SCENES).isdisjoint({after, run.cue}))
    is_alone = run.before is None and run.after is None and run.is_first
    at_edge = run.before is None or (run.after is None and not run.is_article_near)
    return at_edge and (has_model or (of_photographs and not is_alone))


def _in_library(name: str, known: Known) -> str:
    """Return the text by which the filter finds the cameras with this name: the name, or its model; "" without any."""
    cameras = [camera.lower() for camera in known.cameras()]
    makers = [word for word in name.lower().split() if word in MAKERS]
    model = " ".join(word for word in name.split() if word.lower() not in MAKERS)
    if any(name.lower() in camera for camera in cameras):
        return name
    with_model = [camera for camera in cameras if model and any(c.isdigit() for c in model) and model.lower() in camera]
    if with_model:
        return model if all(maker in camera for camera in with_model for maker in makers) else ""
    if not any(c.isdigit() for c in model):
        return ""
    alike = [camera for camera in cameras if _squeeze(model) in _squeeze(camera)]
    is_one = len(alike) == 1 and all(maker in alike[0] for maker in makers)
    return known.cameras()[cameras.index(alike[0])] if is_one else ""


def _squeeze(name: str) -> str:
    """Return the letters and digits of a name: "X-T4" is also called "xt4", and "Z 6" "z6"."""
    return "".join(filter(str.isalnum, name.lower()))
