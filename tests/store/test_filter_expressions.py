"""Filters in SQL against brute force in Python: 10,000 items, 200 random expressions."""

from __future__ import annotations

import math
import random
import re
import unicodedata
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import pytest
from sqlalchemy import text

from clipsearch.filtering import Filter, from_values, to_values
from clipsearch.store.filters import matching_rows
from clipsearch.store.records import CollectionRecord, Encoded, FileRecord, RecordBlock, Scope
from clipsearch.store.tags import TagSource, set_tags
from clipsearch.types import Item, Modality, Passage
from tests.support.contents import DIM, hash_of, new_library

ITEMS, TEXTS = 10_000, 400
SOURCES = ["/photos/2023", "/photos/2024", "/photos/2024/Ålesund"]
FOLDERS = ["/photos", "/photos/2024", "/photos/2024/Ålesund", "/notes", "/notes/sub", "/"]
ENDINGS = ["jpg", "JPEG", "png", "heic", "heif", "tif", "jpgx", "txt"]
CAMERAS = ["Canon EOS 5D", "canon powershot", "NIKON D70", "徕卡 Q2"]
WORDS = ["dog", "Dogs", "café", "beach-ball", "海滩", "一只狗在海滩上", "DOG's", "ёлка", "บ้านริมทะเล", "run"]
ASKED = [
    "dog",
    "DOG",
    "do*",
    "cafe",
    "海滩",
    "滩",
    "狗在",
    "滩海",
    "ball",
    '"dog run"',
    '"beach ball" dog',
    "елка",
    "ทะเล",
]
TAGS = ["cat", "Black Cat", "Straße", "Été", "dog"]
WRITTEN = ["CAT", "black  cat", "STRASSE", " e\u0301TE\u0301", "Dog", "ca", "cat, dog", "%"]
PLACES = [(48.85, 2.35), (90, 0), (-90, 30), (89.9, 179), (89.9, -1), (0, 180), (0.1, -179.9), (-17, 179.5), (0, 0)]
START = datetime(2022, 1, 1)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Records of a collection, and texts; one in twenty is deleted."""
    chance = random.Random(1)
    made = new_library(tmp_path_factory.mktemp("expressions") / "lib")
    vectors = np.zeros((ITEMS - TEXTS, DIM), np.float16)
    vectors[:, 0] = 1
    with made.writer() as opened:
        for source, rows in zip(SOURCES, np.array_split(vectors, len(SOURCES)), strict=True):
            records = [record(chance, number) for number in range(len(rows))]
            root = opened.add_collection(made.base, source)
            opened.commit_records(root, RecordBlock(records, {Modality.IMAGE: rows}))
        root = opened.add_root(made.base, "/notes").root_id
        opened.commit([note(chance, root, number) for number in range(TEXTS)])
        connection, _ = opened.storage
        with connection.begin():
            values = [{"id": number, **seen(chance)} for number in range(1, len(vectors) + 1)]
            where = "camera = :camera, latitude = :latitude, longitude = :longitude WHERE id = :id AND width > 0"
            connection.execute(text(f"UPDATE items SET {where}"), values)
        with connection.begin():
            for number in range(1, ITEMS + 1, 2):
                for source in TagSource:
                    set_tags(connection, number, chance.sample(TAGS, chance.choice([0, 1, 2])), source)
        kept = [FileRecord(root, note_path(number), 1, 1) for number in range(TEXTS) if number % 20]
        opened.ledger.note(kept, retry_failed=False)
        opened.ledger.find_missing([Scope(root)], [])
        opened.remove_missing()
    yield made
    made.close()


def record(chance: random.Random, number: int) -> CollectionRecord:
    name = f"{number}.{chance.choice(ENDINGS)}"
    caption = " ".join(chance.choices(WORDS, k=chance.randrange(4))) or None
    if chance.random() < 0.2:
        return CollectionRecord(name, caption)
    taken = START + timedelta(hours=chance.randrange(24 * 900)) if chance.random() < 0.7 else None
    return CollectionRecord(name, caption, chance.choice([640, 641, 1024]), chance.choice([480, 641, 1024]), taken)


def note_path(number: int) -> str:
    return f"{'sub/' * (number % 3)}{number}.md"


def note(chance: random.Random, root: int, number: int) -> Encoded:
    passages = tuple(Passage(" ".join(chance.choices(WORDS, k=2)), i + 1, i + 1) for i in range(1 + number % 2))
    vectors = np.ones((len(passages), DIM), np.float32)
    return Encoded(
        FileRecord(root, note_path(number), 1, 1), hash_of(f"note {number}"), Modality.TEXT, vectors, passages=passages
    )


def seen(chance: random.Random) -> dict[str, object]:
    """A camera and a place, or none; half of the places lie close to those that are asked for."""
    camera = chance.choice(CAMERAS) if chance.random() < 0.6 else None
    if chance.random() < 0.3:
        return {"camera": camera, "latitude": None, "longitude": None}
    north, east = chance.choice(PLACES)
    if chance.random() < 0.5:
        north, east = max(-90, min(90, north + chance.gauss(0, 0.5))), east + chance.gauss(0, 0.5)
    else:
        north, east = chance.uniform(-90, 90), chance.uniform(-180, 180)
    return {"camera": camera, "latitude": north, "longitude": (east + 180) % 360 - 180}


# --- Random expressions


def leaf(chance: random.Random) -> Filter:
    days = sorted(START + timedelta(days=chance.randrange(900)) for _ in range(2))
    some = {
        "ids": lambda: frozenset(chance.sample(range(ITEMS + 100), 2000)),
        "folders": lambda: tuple(chance.sample(FOLDERS, chance.choice([1, 2]))),
        "taken_from": lambda: days[0],
        "taken_until": lambda: days[1] + timedelta(1),
        "cameras": lambda: tuple(chance.sample(["canon", "EOS", "徕卡", "NIKON D7", "%"], 2)),
        "min_width": lambda: chance.choice([640, 641, 1025]),
        "min_height": lambda: chance.choice([0, 481, 1024]),
        "types": lambda: tuple(chance.sample(["image", "text", "jpeg", "jpg", "png", "heic", "TIFF", "md", "txt"], 2)),
        "orientation": lambda: chance.choice(["landscape", "portrait", "square"]),
        "near": lambda: (*chance.choice(PLACES), chance.choice([5, 60, 300, 3000, 12_000, 20_100])),
        "tags": lambda: tuple(chance.sample(WRITTEN, chance.choice([1, 2]))),
        "caption": lambda: " ".join(chance.sample(ASKED, chance.choice([1, 1, 2]))),
    }
    return Filter(**{name: some[name]() for name in chance.sample(sorted(some), chance.choice([1, 1, 2, 3]))})


def expression(chance: random.Random, depth: int) -> Filter:
    if depth == 0 or chance.random() < 0.3:
        return leaf(chance)
    one = expression(chance, depth - 1)
    return ~one if chance.random() < 0.4 else one & expression(chance, depth - 1)


# --- What they mean


def brute(wanted: Filter, known: list[Item], texts: list[str], tags: list[set[str]]) -> np.ndarray:
    """Which items a filter allows: bool (items,)."""
    holds = [*of_any(wanted), *map(of_picture, of_pictures(wanted))]
    allowed = np.array([all(each(item) for each in holds) for item in known], bool)
    if wanted.caption is not None:
        phrases = [(spaced(phrase or word), word.endswith("*")) for phrase, word in QUOTED.findall(wanted.caption)]
        allowed &= [all(f" {p}" in t if begins else f" {p} " in t for p, begins in phrases) for t in texts]
    if wanted.tags:
        allowed &= [bool(own & set(map(plain_tag, wanted.tags))) for own in tags]
    for part in wanted.all_of:
        allowed &= brute(part, known, texts, tags)
    for part in wanted.none_of:
        allowed &= ~brute(part, known, texts, tags)
    return allowed


def of_any(wanted: Filter):
    """The conditions on an item of any kind."""
    if wanted.ids is not None:
        yield lambda item: item.id in wanted.ids
    if wanted.folders:
        yield lambda item: any(item.path.startswith(folder.rstrip("/") + "/") for folder in wanted.folders)
    if wanted.types:
        yield lambda item: any(is_of_type(item, kind) for kind in wanted.types)


def of_pictures(wanted: Filter):
    """The conditions on what a picture says of itself."""
    if wanted.taken_from is not None:
        yield lambda seen: seen.taken_at is not None and seen.taken_at >= wanted.taken_from
    if wanted.taken_until is not None:
        yield lambda seen: seen.taken_at is not None and seen.taken_at < wanted.taken_until
    if wanted.min_width is not None:
        yield lambda seen: seen.width >= wanted.min_width
    if wanted.min_height is not None:
        yield lambda seen: seen.height >= wanted.min_height
    if wanted.cameras:
        yield lambda seen: any(name.lower() in (seen.camera or "").lower() for name in wanted.cameras)
    if wanted.orientation is not None:
        names = {1: "landscape", -1: "portrait", 0: "square"}
        yield lambda seen: names[int(np.sign(seen.width - seen.height))] == wanted.orientation
    if wanted.near is not None:
        yield lambda seen: seen.latitude is not None and distance(seen, wanted.near) <= wanted.near[2]


def of_picture(holds):
    return lambda item: item.picture is not None and holds(item.picture)


QUOTED = re.compile(r'"([^"]*)"|(\S+)')


def spaced(words: str) -> str:
    """Lower case without accents, one space between words; what is not Latin or Cyrillic, by the character."""
    plain = unicodedata.normalize("NFKC", words).lower().replace("é", "e")
    return " ".join(re.findall(r"[a-z0-9\u0400-\u04ff]+|[\u0e00-\u0e7f\u4e00-\u9fff]", plain))


def plain_tag(tag: str) -> str:
    return " ".join(unicodedata.normalize("NFC", tag).lower().replace("ß", "ss").split())


def is_of_type(item: Item, kind: str) -> bool:
    if kind in ("image", "text"):
        return item.modality == kind
    same = {"jpeg": "jpg", "jfif": "jpg", "heif": "heic", "tiff": "tif", "avifs": "avif", "apng": "png"}
    same |= dict.fromkeys(("jpe", "jif", "jfi", "pjpeg", "pjp"), "jpg")
    same |= dict.fromkeys(("heics", "heifs", "hif"), "heic")
    ending, kind = item.path.rpartition(".")[2].lower(), kind.lower()
    return same.get(ending, ending) == same.get(kind, kind)


def distance(seen, place) -> float:
    """Kilometres along the great circle, by the chord between two points of the unit sphere."""
    chord = math.dist(on_sphere(seen.latitude, seen.longitude), on_sphere(*place[:2]))
    return 6371.0088 * 2 * math.asin(min(chord / 2, 1))


@cache
def on_sphere(latitude: float, longitude: float) -> tuple[float, float, float]:
    north, east = math.radians(latitude), math.radians(longitude)
    return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)


def items_by_row(library, modality: Modality) -> dict[int, Item]:
    with library.read() as snapshot:
        live = snapshot.live(modality)
        rows = range(len(snapshot.rows(modality))) if live is None else np.flatnonzero(live).tolist()
        return {row: match.item for row, match in snapshot.matches(modality, list(rows)).items()}


def full_texts(library) -> dict[int, str]:
    with library.query() as connection:
        said: dict[int, str] = {}
        query = text("SELECT item_id, coalesce(caption, text, '') FROM vectors JOIN items ON items.id = item_id")
        for number, part in connection.execute(query):
            said[number] = f"{said.get(number, '')} {part}"
    return {number: f" {spaced(words)} " for number, words in said.items()}


def all_tags(library) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    with library.query() as connection:
        for number, tag in connection.execute(text("SELECT item_id, tag FROM tags")):
            found.setdefault(number, set()).add(plain_tag(tag))
    return found


@pytest.mark.slow
def test_two_hundred_expressions_allow_what_brute_force_allows(library):
    chance = random.Random(20)
    found = {modality: items_by_row(library, modality) for modality in Modality}
    assert sum(len(each) for each in found.values()) > 9900
    said = full_texts(library)
    known = {m: (np.array(list(rows)), list(rows.values())) for m, rows in found.items()}
    texts = {m: [said[item.id] for item in listed] for m, (_, listed) in known.items()}
    tagged = all_tags(library)
    tags = {m: [tagged.get(item.id, set()) for item in listed] for m, (_, listed) in known.items()}
    telling = 0
    for _ in range(200):
        wanted = expression(chance, 2)
        assert from_values(to_values(wanted)) == wanted
        with library.query() as connection:
            answers = {m: matching_rows(connection, m, wanted, library.base) for m in Modality}
        for modality, (rows, listed) in known.items():
            expected = np.sort(rows[brute(wanted, listed, texts[modality], tags[modality])])
            assert answers[modality].tolist() == expected.tolist(), wanted
            telling += 0 < len(expected) < len(rows)
    assert telling > 120, "most of them allow all or nothing"


def test_the_laws_of_and_and_not():
    one, two, three = Filter(cameras=("x",)), Filter(min_width=1), Filter(caption="a b")
    assert ~~one == one and ~~(one & two) == one & two
    assert (one & two) & three == one & (two & three)
    assert hash(one & ~two) == hash(Filter(cameras=["x"]) & ~Filter(min_width=1))
