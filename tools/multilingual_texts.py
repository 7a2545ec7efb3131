"""The texts that train_multilingual.py fits on: in English with a teacher, and translations of some of them.

captions: of the photographs that the projection was fitted on. names, definitions: of the 21,841 classes of ImageNet,
as timm has them. examples: sentences of WordNet 3.0. generic: the queries that clipsearch ships. things: the names of
emoji in Unicode's CLDR, the same thing in each language. phrases: captions in nine languages, made of translated
phrases (multilingual_phrases.py).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from multilingual_phrases import make_captions

from clipsearch.encoders.builtin.multilingual import LANGUAGES

LATIN = ("de", "es", "fr", "it", "nl", "pl", "pt", "tr")
"""Those of LANGUAGES in Latin letters, without English."""


@dataclass(frozen=True)
class Texts:
    """English texts by source; translated: of some sources, the same texts by language, with English; keywords: of
    things, by language."""

    english: dict[str, list[str]]
    translated: dict[str, dict[str, list[str]]]
    keywords: dict[str, list[str]]


def read_texts(annotations: Path, wordnet: Path) -> Texts:
    """Read all but the captions.

    annotations: the folder `annotations` of the npm package cldr-annotations-full. wordnet: the folder that holds
    data.noun, as in Debian's package wordnet-base.
    """
    tables = {language: _annotations(annotations / language / "annotations.json") for language in LANGUAGES}
    rows = [
        {language: table[sign]["tts"][0] for language, table in tables.items() if "tts" in table.get(sign, {})}
        for sign, entry in tables["en"].items()
        if "tts" in entry
    ]
    things = {language: [row.get(language, row["en"]) for row in rows if len(row) > 10] for language in LANGUAGES}
    keywords = {language: _keywords(table) for language, table in tables.items()}
    translated = {"things": things, "phrases": make_captions()}
    names, definitions = _classes()
    english = {
        "names": names,
        "definitions": definitions,
        "generic": _generic_queries(),
        "examples": _examples(wordnet),
        **{source: texts["en"] for source, texts in translated.items()},
    }
    return Texts(english, translated, keywords)


def _annotations(path):
    return json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]


def _keywords(table):
    return sorted({word for entry in table.values() for word in [*entry.get("default", []), *entry.get("tts", [])]})


def _classes():
    from timm.data import ImageNetInfo

    described = [text.split(": ", 1) for text in ImageNetInfo("imagenet22k").label_descriptions(detailed=True)]
    return [parts[0].split(",")[0] for parts in described], [parts[-1] for parts in described]


def _generic_queries():
    lines = resources.files("clipsearch.query").joinpath("generic_queries.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _examples(folder):
    found = set()
    for kind in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{kind}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):
                found.update(text.strip() for text in re.findall(r'"([^"]{8,120})"', line.partition("|")[2]))
    return sorted(found)
