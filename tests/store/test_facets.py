"""Facets are what counting item by item gives, under any filter."""

import os
from collections import Counter
from datetime import datetime

import numpy as np
import pytest

from clipsearch import Facets, Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store import tags
from clipsearch.store.library import Library
from clipsearch.store.records import Encoded, FileRecord
from clipsearch.store.tags import TagSource
from clipsearch.types import EncoderPin, Modality, PictureInfo
from tests.support.contents import hash_of

FOLDERS = ("", "a", "a/b", "a/b/c", "a_b", "Ä%20", "z/z/z")
CAMERAS = (None, "Canon A", "Canon B", "Leica")
TAGS = ("beach", "Beach", "snow", "dog")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    rng = np.random.default_rng(0)
    library = Library.create(tmp_path_factory.mktemp("facets") / "library")
    library.pin(EncoderPin("made-up", "0" * 40, 8))
    with library.writer() as writer:
        roots = [writer.add_root("", folder).root_id for folder in ("/photos", "/more/photos")]
        encoded = []
        for i in range(120):
            taken = None if i % 7 == 0 else datetime(2020 + int(rng.integers(3)), int(rng.integers(1, 13)), 5)
            picture = PictureInfo(10, 10, taken, CAMERAS[int(rng.integers(4))])
            folder = FOLDERS[int(rng.integers(len(FOLDERS)))]
            file = FileRecord(roots[i % 2], f"{folder}/{i}.jpg".lstrip("/"), 1, 1)
            row = rng.standard_normal((1, 8)).astype(np.float32)
            row /= np.linalg.norm(row)
            encoded.append(Encoded(file, hash_of(f"picture {i}"), Modality.IMAGE, row, picture=picture))
        writer.commit(encoded)
        connection, _ = writer.storage
        with connection.begin():
            for i in range(1, 121):
                tags.set_tags(connection, i, [TAGS[each] for each in rng.integers(0, 4, 2)], TagSource.FILE)
    with SearchEngine(library) as opened:
        opened.delete([item.key for item in opened.items() if item.id % 11 == 0])
        yield opened


def counted(engine, wanted):
    months, cameras, folders, kinds = Counter(), Counter(), Counter(), Counter()
    for item in engine.items(wanted):
        kinds[str(item.modality)] += 1
        if item.picture.taken_at:
            months[f"{item.picture.taken_at:%Y-%m}"] += 1
        if item.picture.camera:
            cameras[item.picture.camera] += 1
        root = "/photos" if item.path.startswith("/photos/") else "/more/photos"
        folder = os.path.dirname(item.path)
        while True:
            folders[folder] += 1
            if folder == root:
                break
            folder = os.path.dirname(folder)
    by_tag = {name: engine.count(wanted & Filter(tags=(name,))) for name in ("beach", "snow", "dog")}
    return months, cameras, folders, {name: number for name, number in by_tag.items() if number}, kinds


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(cameras=("canon",)),
        Filter(folders=("/photos/a",)),
        Filter(tags=("snow",)) & ~Filter(taken_from=datetime(2021, 1, 1)),
        Filter(tags=("nothing",)),
    ],
    ids=str,
)
def test_facets_are_exact(engine, wanted):
    found = engine.facets(wanted)
    months, cameras, folders, by_tag, kinds = counted(engine, wanted)
    assert found.total == engine.count(wanted)
    assert dict(found.months) == months and list(found.months) == sorted(found.months, reverse=True)
    assert dict(found.cameras) == cameras and dict(found.folders) == folders
    assert {name.lower(): number for name, number in found.tags} == by_tag
    assert dict(found.modalities) == kinds
    for folder, number in found.folders:
        assert number == engine.count(wanted & Filter(folders=(folder,)))


def test_the_most_frequent_come_first(engine):
    whole, cut = engine.facets(), engine.facets(limit=2)
    assert cut.folders == whole.folders[:2] and len(cut.cameras) == 2 and cut.months == whole.months
    assert [number for _, number in whole.cameras] == sorted((n for _, n in whole.cameras), reverse=True)


def test_an_empty_library_has_none(tmp_path):
    with SearchEngine(Library.create(tmp_path / "library"), may_be_empty=True) as engine:
        assert engine.facets() == Facets(0)
