"""Damage to what is committed: seen by verify, never shown as an answer, and no signal to who reads it."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from clipsearch.errors import StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.query.terms import Indexed
from clipsearch.store import checksums
from clipsearch.store.catalog import get_segments
from clipsearch.store.compaction import prepare
from clipsearch.store.damage import find_damage
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, FileRecord, Known, RecordBlock
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import items
from clipsearch.types import Modality
from tests.support.catalogs import copy_library, marker_of, raw_catalog
from tests.support.cli import run_cli
from tests.support.contents import DIM, add_root, new_library, outcome
from tests.support.damage import segment
from tests.support.libraries import index, photos

ROW_BYTES = 2 * DIM


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A library of 60 pictures in three batches, and six texts of up to three passages."""
    library = new_library(tmp_path_factory.mktemp("checksums") / "library")
    root = add_root(library)
    with library.writer() as writer:
        for first in range(0, 60, 20):
            contents = [f"p{i}" for i in range(first, first + 20)] + [f"t{first + i}" for i in range(2)]
            writer.commit([outcome(FileRecord(root, name, 1, 1), name) for name in contents])
    library.close()
    return library.folder


@pytest.fixture
def library(made, tmp_path):
    """A copy that a test may damage."""
    return copy_library(made, tmp_path / "library")


def change(path, start, data):
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(data)


def sql(library, statement, *values):
    """Change the catalog as damage would: no trigger of the catalog runs."""
    with raw_catalog(library) as db:
        for table in ("items", "roots", "segments"):
            on_table = f" ON {table}" if marker_of(library) else ""
            db.execute(f"DROP TRIGGER {table}_changed{on_table}")
        assert db.execute(statement, values).rowcount == 1
        db.commit()


def search(library, **options):
    with SearchEngine(Library(library)) as engine:
        return engine.search(vector=np.ones(DIM), k=100, **options)


def damage(library):
    opened = Library(library)
    try:
        return find_damage(opened)
    finally:
        opened.close()


def verified(library, **options):
    """The exit code of verify, and what it finds by check and modality."""
    opened = Library(library)
    found = {(finding.check, finding.modality): finding for finding in examine(opened, "clipsearch build", **options)}
    opened.close()
    return 5 if any(finding.severity == "problem" for finding in found.values()) else 0, found


def test_a_whole_library_has_no_damage(library):
    assert not damage(library)
    answer = search(library)
    assert len(answer) == 66 and answer.warnings == ()
    code, found = verified(library)
    assert code == 0 and {f.severity for f in found.values()} == {"ok"}


@pytest.mark.parametrize("bit", range(0, 8 * ROW_BYTES, 5))
def test_a_flipped_bit_is_seen_and_its_row_not_shown(library, bit):
    path = segment(library)
    byte = path.read_bytes()[7 * ROW_BYTES + bit // 8]
    change(path, 7 * ROW_BYTES + bit // 8, bytes([byte ^ 1 << bit % 8]))
    found = damage(library)
    assert found.rows[Modality.IMAGE].tolist() == [7] and not len(found.rows[Modality.TEXT]) and not found.items
    answer = search(library)
    assert len(answer) == 65 and "p7" not in {hit.path.rsplit("/", 1)[1] for hit in answer}
    assert answer.warnings == (f"1 match is damaged and left out. {REPAIR}",)


def test_halves_that_were_swapped_are_all_damaged_and_none_is_shown(library):
    path = segment(library)
    data = path.read_bytes()
    path.write_bytes(data[30 * ROW_BYTES :] + data[: 30 * ROW_BYTES])
    assert damage(library).rows[Modality.IMAGE].tolist() == list(range(60))
    answer = search(library, modality="image")
    assert not answer.hits and "60 matches are damaged" in answer.warnings[0]
    code, found = verified(library)
    assert code == 5 and found["rows", "image"].values["bad"] == 60


def test_k_is_filled_from_what_is_whole(library):
    with SearchEngine(Library(library)) as engine:
        best = [hit.item.id for hit in engine.search(vector=np.ones(DIM), k=10, modality="image")]
    with raw_catalog(library) as db:
        (row,) = db.execute("SELECT row FROM vectors WHERE item_id = ?", (best[0],)).fetchone()
    byte = segment(library).read_bytes()[row * ROW_BYTES]
    change(segment(library), row * ROW_BYTES, bytes([byte ^ 1]))
    with SearchEngine(Library(library)) as engine:
        found = engine.search(vector=np.ones(DIM), k=10, modality="image")
    assert len(found) == 10 and best[0] not in {hit.item.id for hit in found}


def test_a_row_that_leads_to_another_item_is_not_shown(library, made):
    with raw_catalog(library) as db:
        db.execute("UPDATE vectors SET item_id = 9 WHERE modality = 'image' AND row = 3")
        db.commit()
    assert damage(library).rows[Modality.IMAGE].tolist() == [3]
    answer = search(library, modality="image")
    assert len(answer) >= 58 and "1 match is damaged" in answer.warnings[0]
    assert not {hit.score for hit in answer if hit.item.id == 9} & {
        hit.score for hit in search(made) if hit.item.id == 3
    }


def test_a_passage_that_was_changed_is_not_shown(library):
    with raw_catalog(library) as db:
        db.execute("UPDATE vectors SET text = 'other words' WHERE modality = 'text' AND row = 0")
        db.commit()
    assert damage(library).rows[Modality.TEXT].tolist() == [0]
    assert "other words" not in {hit.passage.text for hit in search(library, modality="text")}


@pytest.mark.parametrize(
    ("column", "value"),
    [("path", "p777"), ("mtime_ns", 2), ("size", 9), ("taken_at", "2031-01-01T00:00:00"), ("camera", "Canon"),
     ("latitude", 1.5), ("width", 7), ("content_hash", "0" * 40), ("caption", "a cat"), ("modality", "text")],
)  # fmt: skip
def test_a_changed_column_of_an_item_is_seen_and_the_item_not_shown(library, column, value):
    sql(library, f"UPDATE items SET {column} = ? WHERE id = 5", value)
    assert damage(library).items == (5,)
    answer = search(library)
    assert len(answer) == 65 and 5 not in {hit.item.id for hit in answer} and "damaged" in answer.warnings[0]
    with SearchEngine(Library(library)) as engine:
        listed = engine.find(Filter())
    assert len(listed) == 65 and 5 not in {item.id for item in listed} and "damaged" in listed.warnings[0]
    code, found = verified(library)
    assert code == 5 and found["digests", None].values == {"items": 1}


@pytest.mark.parametrize(
    "statement",
    ["UPDATE roots SET path = '/elsewhere'", "UPDATE segments SET committed_rows = 59 WHERE modality = 'image'"],
)
def test_a_changed_root_or_segment_is_an_error(library, statement):
    sql(library, statement)
    with pytest.raises(StoreCorruptError, match="damaged"):
        search(library)
    assert verified(library)[0] == 5


@pytest.mark.slow
def test_the_command_says_what_is_damaged(library):
    assert run_cli("verify", "--quick", "--library", library).code == 0
    change(segment(library), 7 * ROW_BYTES, bytes(ROW_BYTES))
    ran = run_cli("verify", "--library", library)
    assert ran.code == 5 and b"1 of 60 rows checked are not as they were written; the first is 7, of" in ran.out
    assert b"clipsearch repair" in ran.out
    assert run_cli("verify", "--quick", "--library", library).code == 5
    assert run_cli("verify", "--quick", "--full", "--library", library).code == 2
    assert run_cli("verify", "--library", library.parent / "nowhere").code == 3


def test_every_change_through_the_writer_renews_the_digest(library):
    opened = Library(library)
    with opened.writer() as writer:
        writer.add_root("", "/")  # into which the other root is merged, with the paths of all items
        writer.set_offline(1, True)
        writer.save_labels(["cat", "dog"], [1, 2], {1: ("cat", 0.9)})
        writer.set_setting("probe", "1")
    opened.close()
    assert not damage(library) and len(search(library)) == 66


def test_digests_cover_every_column_but_the_derived_ones():
    covered = {column.name for column in checksums.COVERED[items]}
    assert covered == {column.name for column in items.c} - checksums._UNCOVERED
    assert [c.name for c in items.c][: len(covered)] == [c.name for c in checksums.COVERED[items]]


def test_a_damaged_row_is_not_copied(library, encoder):
    byte = segment(library).read_bytes()[0]
    change(segment(library), 0, bytes([byte ^ 4]))
    opened = Library(library)
    with opened.writer() as writer:
        known = outcome(FileRecord(1, "copy-of-p0", 1, 1), "p0", known=True)
        assert isinstance(known, Known)
        committed = writer.commit([known])
    opened.close()
    assert [record.path for record in committed.unresolved] == ["copy-of-p0"]


def test_compaction_and_build_refuse_damaged_rows(library):
    change(segment(library), 5 * ROW_BYTES, bytes(ROW_BYTES))
    opened = Library(library)
    with opened.writer() as writer, pytest.raises(StoreCorruptError, match="from row 5 on"):
        prepare(writer, Modality.IMAGE)
    with opened.read() as snapshot, pytest.raises(StoreCorruptError, match="from row 5 on"):
        snapshot.require_all_sound(Modality.IMAGE)
    opened.close()


def test_a_term_whose_own_row_is_damaged_is_an_error(library):
    change(segment(library), 0, bytes(ROW_BYTES))
    with (
        SearchEngine(Library(library)) as engine,
        pytest.raises(StoreCorruptError, match="Item 1 of the library is damaged"),
    ):
        engine.search(Indexed(1))


@pytest.mark.sqlite
def test_damage_of_the_words_is_seen(tmp_path, encoder):
    (tmp_path / "a.txt").write_text("a boat on the lake")
    library = tmp_path / "library"
    index(library, tmp_path / "a.txt", encoder=encoder)
    assert verified(library)[0] == 0
    with raw_catalog(library) as db:
        db.execute("INSERT INTO full_text (full_text, rowid, words) VALUES ('delete', 1, 'boat')")
        db.execute("INSERT INTO full_text (rowid, words) VALUES (1, 'goat')")
        db.commit()
    code, found = verified(library)
    assert code == 5 and found["words", None].severity == "problem"
    assert verified(library, quick=True)[0] == 0


@pytest.mark.slow
def test_64_zeroed_rows_of_60_000_are_seen(tmp_path):
    library = new_library(tmp_path / "library")
    rows = np.zeros((10_000, DIM), np.float16)
    rows[:, 0] = 1
    with library.writer() as writer:
        root = writer.add_collection("", "/rows.npy")
        for first in range(0, 60_000, 10_000):
            records = [CollectionRecord(f"{i}") for i in range(first, first + 10_000)]
            writer.commit_records(root, RecordBlock(records, {Modality.IMAGE: rows}))
    change(segment(library.folder), 31_117 * ROW_BYTES, bytes(64 * ROW_BYTES))
    assert damage(library.folder).rows[Modality.IMAGE].tolist() == list(range(31_117, 31_181))
    library.close()


READER = """
import sys
from pathlib import Path
import numpy as np
from clipsearch.errors import ClipSearchError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.health import examine
from clipsearch.store.library import Library

engine = SearchEngine(Library(Path(sys.argv[1])))
engine.search(vector=np.ones(int(sys.argv[2])), k=20)
print("open", flush=True)
for line in sys.stdin:
    try:
        print("found", len(engine.search(vector=np.ones(int(sys.argv[2])), k=20)), flush=True)
    except ClipSearchError as error:
        print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("left", [0, 1, 17 * ROW_BYTES, 59 * ROW_BYTES])
def test_a_file_that_is_shortened_under_a_reader_is_an_error_and_no_signal(library, left):
    command = [sys.executable, "-c", textwrap.dedent(READER), str(library), str(DIM)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "open\n"
        os.truncate(segment(library), left)
        said = []
        for _ in range(2):
            reader.stdin.write("again\n")
            reader.stdin.flush()
            said.append(reader.stdout.readline())
        reader.stdin.close()
        assert reader.wait(60) == 0 and set(said) == {"StoreCorruptError\n"}


def test_every_way_to_read_rows_sees_a_file_that_was_shortened(library):
    opened = Library(library)
    with opened.read() as snapshot:
        rows = snapshot.rows(Modality.IMAGE)
        os.truncate(segment(library), 30 * ROW_BYTES + 1)
        for read in (
            lambda: rows.take(np.array([3, 40])),
            lambda: rows.take(np.arange(60)),
            lambda: rows.row(30),
            lambda: list(rows.blocks()),
        ):
            with pytest.raises(StoreCorruptError, match="shortened"):
                read()
        assert len(rows.take(np.array([3, 29]))) == 2
    opened.close()


def test_a_segment_that_is_missing_or_short_is_damage_row_by_row(library):
    os.truncate(segment(library), 50 * ROW_BYTES + 3)
    segment(library, Modality.TEXT).unlink()
    found = damage(library)
    assert found.rows[Modality.IMAGE].tolist() == list(range(50, 60))
    opened = Library(library)
    with opened.query() as connection:
        (text,) = get_segments(connection, Modality.TEXT)
    assert len(found.rows[Modality.TEXT]) == text.committed_rows
    with pytest.raises(StoreCorruptError), opened.writer():
        pass
    with opened.writer(repair=True):
        assert segment(library).stat().st_size == 60 * ROW_BYTES
    assert damage(library).rows[Modality.IMAGE].tolist() == list(range(50, 60)), "what was missing must not count"
    opened.close()


def test_pictures_are_indexed_as_before(tmp_path, encoder):
    photos(tmp_path / "photos", 4)
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    assert not damage(tmp_path / "library")
