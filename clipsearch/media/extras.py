"""Kinds of files that need a package which a plain install lacks: their endings, and the extra that has it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from clipsearch.errors import PictureError
from clipsearch.types import PICTURE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of the package. package: what it is imported as. suffixes: the endings of the files that it reads."""

    name: str
    package: str
    suffixes: frozenset[str]


RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl "
    ".sr2 .srf .srw .x3f".split()
)
FILM_SUFFIXES = frozenset(".mp4 .m4v .mov .3gp .3g2 .mkv .webm .avi .mpg .mpeg .mts .m2ts .wmv .flv".split())
DOCUMENT_SUFFIXES = frozenset({".pdf", ".docx", ".epub", ".html", ".htm", ".xhtml"})

EXTRAS = (
    Extra("raw", "rawpy", RAW_SUFFIXES),
    Extra("jxl", "imagecodecs", frozenset({".jxl"})),
    Extra("svg", "resvg_py", frozenset({".svg"})),
    Extra("documents", "pypdfium2", DOCUMENT_SUFFIXES),
    Extra("video", "av", FILM_SUFFIXES),
)


@cache
def has_extra(name: str) -> bool:
    """Tell whether the package of an extra is installed; it is not loaded."""
    return importlib.util.find_spec(_extra(name).package) is not None


def require_extra(name: str, what: str) -> None:
    """Raise PictureError where an extra is not installed. what: the files that need it, such as `camera RAW files`."""
    if not has_extra(name):
        raise PictureError(
            f"{what} need {_extra(name).package}, which is not installed; run: pip install 'clipsearch[{name}]'"
        )


@cache
def extra_suffixes() -> frozenset[str]:
    """Return the endings of files that are read because the package of an extra is installed."""
    return _union(extra for extra in EXTRAS if has_extra(extra.name))


@cache
def picture_suffixes() -> frozenset[str]:
    """Return the endings of all files that are looked at as pictures here."""
    return PICTURE_SUFFIXES | (extra_suffixes() - DOCUMENT_SUFFIXES)


def missing_extras(passed_over: Mapping[str, int]) -> dict[str, int]:
    """Return how many of the files that were passed over each extra would read that is not installed.

    passed_over: how many have each ending.
    """
    counts = {each.name: sum(passed_over.get(ending, 0) for ending in each.suffixes) for each in EXTRAS}
    return {name: count for name, count in counts.items() if count and not has_extra(name)}


def _extra(name: str) -> Extra:
    return next(extra for extra in EXTRAS if extra.name == name)


def _union(extras: Iterable[Extra]) -> frozenset[str]:
    return frozenset().union(*(extra.suffixes for extra in extras))
