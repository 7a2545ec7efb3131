"""Kinds of files that need a package which a plain install lacks: their endings, and the extra that has it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from clipsearch.errors import PictureError


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
DOCUMENT_SUFFIXES = frozenset({".pdf", ".docx", ".epub", ".html", ".htm", ".xhtml"})

EXTRAS = (
    Extra("raw", "rawpy", RAW_SUFFIXES),
    Extra("jxl", "imagecodecs", frozenset({".jxl"})),
    Extra("svg", "resvg_py", frozenset({".svg"})),
    Extra("documents", "pypdfium2", DOCUMENT_SUFFIXES),
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
def extra_pictures() -> frozenset[str]:
    """Return those of `extra_suffixes` that are of pictures."""
    return extra_suffixes() - DOCUMENT_SUFFIXES


def missing_extra(suffix: str) -> str | None:
    """Return the extra that would read files of an ending; None where none would, or where it is installed."""
    return next((each.name for each in EXTRAS if suffix in each.suffixes and not has_extra(each.name)), None)


def _extra(name: str) -> Extra:
    return next(extra for extra in EXTRAS if extra.name == name)


def _union(extras: Iterable[Extra]) -> frozenset[str]:
    return frozenset().union(*(extra.suffixes for extra in extras))
