"""Captions in nine languages that mean the same, put together at random from translated phrases.

A synchronous grammar (Aho and Ullman 1969): one derivation, the word order of each language. The phrases of
multilingual_phrases.txt are everyday words for people, animals, clothes, actions and places. They were written without
looking at the sentences and words of benchmarks/.
"""

from __future__ import annotations

import random
from pathlib import Path

LANGUAGES = ("en", "zh", "es", "de", "ja", "fr", "ru", "ko", "pt")

COUNT = 12000
"""Captions in each language."""

_AND = {"en": "and", "es": "y", "de": "und", "fr": "et", "ru": "и", "pt": "e"}
_ABSENT = dict.fromkeys(LANGUAGES, "")
_HANGUL = 0xAC00
_FINALS = 28
"""Hangul syllables with one beginning and vowel; the first of them has no final consonant."""


def make_captions(count=COUNT, seed=0):
    """Return captions by language; those at one place of the lists mean the same."""
    rng, phrases = random.Random(seed), read_phrases()
    rows = [_caption(phrases, rng) for _ in range(count)]
    return {language: [row[language] for row in rows] for language in LANGUAGES}


def read_phrases():
    """Return by kind a list of dicts, phrase by language."""
    kinds = {}
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind = kinds.setdefault(line.strip("[]"), [])
        elif not line.startswith("#"):
            kind.append(dict(zip(LANGUAGES, line.split("|"), strict=True)))
    return kinds


def _caption(phrases, rng):
    """A thing at a place, or who does what, where; a few with a second one who does it too."""
    choice = rng.random()
    place = rng.choice(phrases["places"]) if rng.random() < 0.7 else _ABSENT
    if choice < 0.1:
        thing = rng.choice(phrases["things"])
        return {language: _at(language, _noun(language, thing, _ABSENT), place[language]) for language in LANGUAGES}
    animal, both = choice < 0.35, choice > 0.93
    who = rng.choice(phrases["animals" if animal else "people"])
    action = rng.choice(phrases["animal actions" if animal else "actions"])
    described = not animal and rng.random() < 0.5
    description = rng.choice(phrases["descriptions"]) if described else _ABSENT
    other = rng.choice(phrases[rng.choice(["animals", "people"])])
    several = both or who["en"].startswith("+")
    caption = {}
    for language in LANGUAGES:
        subject = _noun(language, who, description)
        if both:
            subject = _and(language, subject, _noun(language, other, _ABSENT))
        caption[language] = _clause(language, subject, _verb(action[language], several), place[language])
    return caption


def _noun(language, phrase, description):
    name, description = phrase[language].removeprefix("+"), description[language]
    if language == "zh":
        return name.replace("^", f"{description}的" if description else "")
    if language == "ja":
        return description + name
    return f"{description} {name}".strip() if language == "ko" else f"{name} {description}".strip()


def _verb(phrase, several):
    one, _, more = phrase.partition("/")
    if several or not more:
        return more or one
    rest = more.partition(" ")[2]
    return one if " " in one or not rest else f"{one} {rest}"


def _and(language, one, other):
    if language in ("zh", "ja"):
        return one + ("和" if language == "zh" else "と") + other
    if language == "ko":
        return f"{one}{'과' if (ord(one[-1]) - _HANGUL) % _FINALS else '와'} {other}"
    return f"{one} {_AND[language]} {other}"


def _clause(language, subject, action, place):
    if language == "zh":
        return subject + place + action
    if language == "ja":
        return place + action + subject
    parts = (place, action, subject) if language == "ko" else (subject, action, place)
    return " ".join(part for part in parts if part)


def _at(language, thing, place):
    """Name a thing by its place: the particle of an action becomes that of a noun."""
    if not place:
        return thing
    if language == "zh":
        return f"{place.removeprefix('在')}的{thing}"
    if language == "ja":
        return f"{place[:-1]}の{thing}"
    return f"{place.removesuffix('에서').removesuffix('에')}의 {thing}" if language == "ko" else f"{thing} {place}"
