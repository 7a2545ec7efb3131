"""Which languages the encoders with short names read, as published, and what that means for the user of this system.

Figures: mean of recall@1, @5 and @10 of pictures found by captions of Crossmodal-3600 (Thapliyal et al., EMNLP 2022),
in percent, as Immich published them for its exports of the same weights (docs/docs/features/searching.md of
immich-app/immich). Figures of one language compare encoders; those of two languages do not compare languages.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from clipsearch.encoders import names
from clipsearch.encoders.names import BUILTINS, PRESETS

WELL = 60.0
"""From this figure on an encoder counts as reading a language well."""

_CLEAR = 5.0
"""A lead that is worth a line of advice."""

_MEASURED = ("default", "multilingual", "best")
_ADVISED = ("default", "multilingual")
"""Both cost the same; `best` costs many times as much and reads few languages better than the better of these."""

# Language: its name, then the figures of _MEASURED; 0 where nothing is published, which is so below 20.
_RECALL = {
    "ar": ("Arabic", 60.70, 59.66, 69.31),
    "bn": ("Bengali", 0, 0, 26.19),
    "cs": ("Czech", 54.31, 61.01, 62.98),
    "da": ("Danish", 67.20, 75.07, 82.30),
    "de": ("German", 84.44, 81.63, 89.81),
    "el": ("Greek", 53.24, 64.69, 60.63),
    "en": ("English", 73.15, 68.33, 75.09),
    "es": ("Spanish", 78.99, 75.01, 83.78),
    "fa": ("Persian", 65.16, 68.55, 76.30),
    "fi": ("Finnish", 40.06, 63.08, 62.28),
    "fil": ("Filipino", 22.69, 0, 34.27),
    "fr": ("French", 82.27, 79.65, 87.60),
    "he": ("Hebrew", 58.49, 72.73, 72.15),
    "hi": ("Hindi", 27.08, 32.06, 34.94),
    "hr": ("Croatian", 53.30, 72.69, 73.20),
    "hu": ("Hungarian", 56.74, 72.50, 73.90),
    "id": ("Indonesian", 77.02, 74.15, 84.99),
    "it": ("Italian", 81.81, 77.31, 87.97),
    "ja": ("Japanese", 55.31, 81.19, 68.29),
    "ko": ("Korean", 67.54, 65.44, 75.06),
    "nl": ("Dutch", 72.72, 70.81, 79.72),
    "no": ("Norwegian", 60.94, 67.81, 75.00),
    "pl": ("Polish", 70.34, 73.69, 80.04),
    "pt": ("Portuguese", 74.82, 73.02, 81.69),
    "ro": ("Romanian", 56.54, 77.92, 73.94),
    "ru": ("Russian", 81.59, 80.56, 87.65),
    "sv": ("Swedish", 64.86, 66.93, 72.06),
    "th": ("Thai", 35.28, 66.03, 45.52),
    "tr": ("Turkish", 64.76, 69.19, 77.01),
    "uk": ("Ukrainian", 63.95, 76.31, 78.33),
    "vi": ("Vietnamese", 77.73, 75.18, 85.86),
    "zh": ("Chinese", 62.56, 72.52, 67.33),
}

# Encoders for which it is not a figure of Crossmodal-3600 that counts: what their text towers were made for.
_BUILTIN = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh")
_BUILT_FOR = {
    "builtin-base": _BUILTIN,
    "builtin-small": _BUILTIN,
    "fast": ("en",),
}

_SAME = {"nb": "no", "nn": "no", "tl": "fil", "iw": "he", "in": "id"}
"""Codes of systems that stand for a language under another code here."""


def reads(name: str) -> tuple[str, ...] | None:
    """Return the codes of the languages that an encoder reads well, sorted; None where nothing is known.

    name: canonical.
    """
    short = _short_name(name)
    if short in _BUILT_FOR:
        return _BUILT_FOR[short]
    if short in _MEASURED:
        return tuple(code for code in _RECALL if _figure(short, code) >= WELL)
    return None


def system_language(environment: Mapping[str, str] | None = None) -> str | None:
    """Return the code of the language that the user reads messages in, as POSIX and gettext name it; None for English.

    environment: that of the process by default. A language that `LANGUAGE` prefers counts only where a locale is set.
    """
    values = os.environ if environment is None else environment
    locale = next((values[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if values.get(key)), "")
    if _code(locale) in ("", "c", "posix"):
        return None
    code = _code(values.get("LANGUAGE", "").partition(":")[0]) or _code(locale)
    code = _SAME.get(code, code)
    return None if code in ("en", "c", "posix") else code


def advise(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Return a line about an encoder that another preset of the system's language clearly beats; None for no need.

    name: canonical, of the encoder of a new library. environment: as for `system_language`.
    """
    language, known = system_language(environment), reads(name)
    if language not in _RECALL or known is None:
        return None
    short = _short_name(name)
    better = max(_ADVISED, key=lambda preset: _figure(preset, language))
    best, own = _figure(better, language), _figure(short, language) if short in _MEASURED else None
    is_enough = language in known if own is None else best < own + _CLEAR
    if best < WELL or is_enough:
        return None
    word = _RECALL[language][0]
    fact = f"does not read {word} well" if language not in known else f"reads {word} less well than {better}"
    switch = names.switch_command(better)
    return f"Your system's language is {word}, and {short} {fact}. To search in {word}: {switch}"


def best_preset(languages: Iterable[str]) -> str | None:
    """Return the preset, of those that cost no more than the default, that reads all these languages well and best.

    languages: codes. None where no preset is known to read each of them well.
    """
    worst = {preset: min((_figure(preset, code) for code in languages), default=0.0) for preset in _ADVISED}
    best = max(_ADVISED, key=lambda preset: worst[preset])
    return best if worst[best] >= WELL else None


def preset_for_system(environment: Mapping[str, str] | None = None) -> str:
    """Return the preset to switch to: `default`, or one of its cost that reads the system's language clearly better.

    environment: as for `system_language`.
    """
    language = system_language(environment)
    best = best_preset([language] if language else [])
    if language is None or best is None or _figure(best, language) < _figure("default", language) + _CLEAR:
        return "default"
    return best


def _short_name(name: str) -> str:
    return next((alias for alias, preset in PRESETS.items() if preset.name == name), name if name in BUILTINS else "")


def _figure(preset: str, language: str) -> float:
    return float(_RECALL[language][1 + _MEASURED.index(preset)]) if language in _RECALL else 0.0


def _code(locale: str) -> str:
    for mark in "_.@-":
        locale = locale.partition(mark)[0]
    return locale.strip().lower()
