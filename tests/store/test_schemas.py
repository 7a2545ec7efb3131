"""Libraries of every earlier schema: they are read as they are, and gain checksums at the next write."""

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.store.migrations import MIGRATIONS
from clipsearch.types import Modality
from tests.support.cli import run_cli
from tests.support.libraries import counts, index
from tests.support.state import tree_digest

pytestmark = pytest.mark.sqlite

FOLDER = Path(__file__).parent / "schemas"
VERSIONS = range(1, len(MIGRATIONS))
CAPTIONED = 4
"""The schema from which a text beside a picture is its caption."""

SEALED = 5
"""The schema from which every row has a checksum."""


SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python before 3.11.4 has no filters, later ones warn without."""


@pytest.fixture(params=VERSIONS, ids=lambda version: f"schema {version}")
def old(request, tmp_path):
    """A library of four photographs, one that was deleted, and two texts, as a clipsearch of that schema wrote it."""
    with tarfile.open(FOLDER / f"v{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, **SAFELY)
    return request.param, tmp_path / ".clipsearch"


def version_of(library):
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        return int(db.execute("SELECT value FROM settings WHERE key = 'schema_version'").fetchone()[0])


def missing_checksums(library):
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        (rows,) = db.execute("SELECT count(*) FROM vectors WHERE checksum IS NULL").fetchone()
        return rows + sum(
            db.execute(f"SELECT count(*) FROM {table} WHERE digest IS NULL").fetchone()[0]
            for table in ("items", "roots", "tags", "settings", "segments")
        )


def answers(library, encoder):
    """What a library says: hits and items, without the text beside a picture, which is what schemas differ in."""
    with SearchEngine(Library(library), encoder=encoder) as engine:
        pictures = engine.search("a red boat", k=10, modality="image")
        items = sorted(Path(item.path).name for item in engine.find(Filter(types=("image",))))
        return [(Path(hit.path).name, round(hit.score, 6)) for hit in pictures], items


def test_there_is_one_for_every_schema():
    assert {path.name for path in FOLDER.iterdir()} == {f"v{version}.tar.gz" for version in VERSIONS}


@pytest.mark.slow
def test_it_is_read_as_it_is(old, encoder):
    version, library = old
    before = tree_digest(library)
    hits, items = answers(library, encoder)
    assert items == ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg"] == sorted(name for name, _ in hits)
    assert version_of(library) == version and tree_digest(library) == before
    checked = run_cli("verify", "--json", "--library", library)
    assert checked.code == 0
    digests = next(finding for finding in checked.json["findings"] if finding["check"] == "digests")
    if version < SEALED:
        assert digests["severity"] == "note" and "earlier format" in digests["found"]


@pytest.mark.slow
def test_the_next_write_adds_checksums_and_changes_no_answer(old, encoder):
    version, library = old
    before = answers(library, encoder)
    report = counts(index(library, library.parent / "photos", encoder=encoder))
    assert report.get("added", 0) == report.get("failed", 0) == 0
    assert report["unchanged"] >= 4 if version == CAPTIONED else "unchanged" in report or "changed" in report
    assert version_of(library) == len(MIGRATIONS) and missing_checksums(library) == 0
    assert answers(library, encoder) == before
    checked = run_cli("verify", "--json", "--library", library)
    assert checked.code == 0 and checked.json["severity"] == "ok", json.dumps(checked.json, indent=1)


def overwrite_second_picture(library, value):
    """Set every number of the second picture's vector; return how many there are."""
    (segment,) = (library / "vectors").glob("image-*.f16")
    stored = Library(library)
    with stored.read() as snapshot:
        dim = snapshot.rows(Modality.IMAGE).dim
    stored.close()
    rows = np.fromfile(segment, "<f2").reshape(-1, dim)
    rows[1] = value
    rows.tofile(segment)
    return dim


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_damaged_row_has_no_score_without_checksums_either(old, encoder, value):
    _, library = old
    dim = overwrite_second_picture(library, value)
    with SearchEngine(Library(library), encoder=encoder) as engine:
        found = engine.search(vector=np.ones(dim), k=10, modality="image")
        assert len(found) == 3 and all(np.isfinite(hit.score) for hit in found)
        assert "damaged" in found.warnings[0]


@pytest.mark.slow
def test_what_was_damaged_before_there_were_checksums_is_not_made_good(old, encoder):
    _, library = old
    dim = overwrite_second_picture(library, 0.0)
    opened = Library(library)
    with opened.writer():
        pass
    opened.close()
    checked = run_cli("verify", "--json", "--library", library)
    bad = next(f for f in checked.json["findings"] if f["check"] == "rows" and f["modality"] == "image")
    assert checked.code == 5 and bad["values"]["bad"] == 1
    with SearchEngine(Library(library), encoder=encoder) as engine:
        found = engine.search(vector=np.ones(dim), k=10, modality="image")
        assert len(found) == 3 and "damaged" in found.warnings[0]
