"""Repair: what is damaged is encoded again from its files and nothing else is; the rest is taken out and listed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from clipsearch.config import Settings
from clipsearch.errors import EncoderError, LibraryLockedError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.store.damage import Damage, find_damage
from clipsearch.store.database import transaction
from clipsearch.store.forget import forget
from clipsearch.store.library import Library
from clipsearch.types import Modality
from indexer import repair as repairing
from indexer.importing import import_embeddings
from indexer.repair import RepairReport
from tests.support.cli import run_cli
from tests.support.damage import segment, spoil_page, sql
from tests.support.libraries import Counting, compact, index, photo, photos
from tests.support.pictures import noise_picture
from tests.support.state import read_state, tree_digest
from tests.support.vectors import approximate

SETTINGS = Settings(threads=1, offline=True)
NOTHING = {Modality.IMAGE: np.empty(0, np.int64), Modality.TEXT: np.empty(0, np.int64)}


class Place:
    """A library of pictures, captions and texts, and the means to damage it."""

    def __init__(self, folder: Path, encoder) -> None:
        self.root, self.library = folder / "photos", folder / "lib"
        self.encoder = Counting(encoder)

    def index(self, *paths):
        return index(self.library, *paths, encoder=self.encoder)

    def repair(self, **options) -> RepairReport:
        self.encoder.pictures = self.encoder.texts = 0
        return repairing.repair(self.library, SETTINGS, encoder=self.encoder, **options)

    @property
    def state(self):
        return read_state(self.library)

    def row(self, name: str) -> int:
        return self.state.live[name].rows[0]

    def caption_rows(self, name: str) -> tuple[int, ...]:
        return self.state.live[name].caption_rows

    def segment(self, modality: str = "image") -> Path:
        return segment(self.library, modality)

    def spoil(self, row: int, modality: str = "image", value: float = 0.0) -> None:
        dim = int(self.state.pins["dim"])
        with open(self.segment(modality), "r+b") as file:
            file.seek(row * dim * 2)
            file.write(np.full(dim, value, "<f2").tobytes())

    def sql(self, *statements: str) -> None:
        sql(self.library, *statements)

    def words(self, text: str) -> list[str]:
        with closing_library(self.library) as library, library.read() as snapshot:
            return sorted(Path(item.path).name for item in snapshot.list_items(Filter(caption=text), None)[0])


class closing_library:
    def __init__(self, folder):
        self._library = Library(folder)

    def __enter__(self):
        return self._library

    def __exit__(self, *error):
        self._library.close()


def close(state) -> dict:
    """A library without what depends on which files were encoded together: the last bits of its vectors."""
    return {
        e.path: (e.id, e.root_id, e.content_hash, e.texts, e.caption, *map(Rounded, (e.vectors, e.caption_vectors)))
        for e in state.live.values()
    }


class Rounded:
    def __init__(self, data: bytes) -> None:
        self.values = np.frombuffer(data, "<f2").astype(np.float32)

    def __eq__(self, other) -> bool:
        return self.values.shape == other.values.shape and np.allclose(self.values, other.values, atol=2e-3)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoder):
    place = Place(tmp_path_factory.mktemp("repair"), encoder)
    photos(place.root, 5)
    shutil.copy(place.root / "p003.jpg", place.root / "p003-copy.jpg")
    (place.root / "p001.txt").write_text("a red ball on a lawn")
    (place.root / "note.txt").write_text("How to prune roses: above a bud.\n\n" + "Water them well. " * 60)
    (place.root / "other.txt").write_text("Boats in the old harbour.\n")
    place.index(place.root)
    return place


@pytest.fixture
def place(prepared, tmp_path, encoder):
    """A copy of the library, whose root is where the copy's files are."""
    shutil.copytree(prepared.root.parent, tmp_path, dirs_exist_ok=True)
    own = Place(tmp_path, encoder)
    with closing_library(own.library) as library, library.writer() as opened:
        connection, _ = opened.storage
        with transaction(connection):
            connection.execute(text("UPDATE roots SET path = :path"), {"path": str(own.root)})
    assert not find_damage(Library(own.library))
    return own


def test_a_sound_library_is_left_alone(place):
    before = tree_digest(place.library)
    report = place.repair()
    assert (report.damage, report.encoded, report.remaining) == ([], 0, [])
    assert place.encoder.work == 0
    assert tree_digest(place.library) == before


def test_only_what_is_damaged_is_encoded_again_and_is_then_as_it_was(place):
    before = place.state
    place.spoil(place.row("p000.jpg"))
    place.spoil(place.row("p002.jpg"), value=np.nan)
    report = place.repair()
    assert report.damage == ["2 vectors of image"]
    assert (report.encoded, report.changed, report.dropped, report.remaining) == (2, 0, [], [])
    assert (place.encoder.pictures, place.encoder.texts) == (2, 0)
    after = place.state
    assert close(after) == close(before)
    assert after.live["p001.jpg"].rows == before.live["p001.jpg"].rows
    assert place.index(place.root).unchanged == 8


def test_captions_and_passages(place):
    before = place.state
    assert len(before.live["note.txt"].rows) > 1
    place.spoil(place.caption_rows("p001.jpg")[0], "text")
    place.spoil(before.live["note.txt"].rows[1], "text")
    report = place.repair()
    assert (report.encoded, report.remaining) == (2, [])
    assert place.encoder.pictures == 1
    assert close(place.state) == close(before)
    assert place.words("lawn") == ["p001.jpg"] and place.words("roses") == ["note.txt"]


def test_copies_of_one_picture_are_each_mended(place):
    before = place.state
    for name in ("p003.jpg", "p003-copy.jpg"):
        place.spoil(place.row(name))
    report = place.repair()
    assert (report.encoded, report.remaining, place.encoder.pictures) == (2, [], 1)
    assert close(place.state) == close(before)


def test_a_lost_segment_is_made_again(place):
    before = place.state
    place.segment().unlink()
    with open(place.segment("text"), "r+b") as file:
        file.truncate(300)
    report = place.repair()
    assert report.damage == ["6 vectors of image", "4 vectors of text"] or len(report.damage) == 2
    assert (report.encoded, report.dropped, report.remaining) == (8, [], [])
    assert close(place.state) == close(before)


def test_halves_of_a_segment_that_are_swapped(place):
    before = place.state
    data = place.segment().read_bytes()
    half = len(data) // 2
    place.segment().write_bytes(data[half:] + data[:half])
    assert close(place.state) != close(before)
    assert place.repair().encoded == 6
    assert close(place.state) == close(before)


def test_a_file_that_has_changed_is_indexed_as_it_is_now(place, tmp_path):
    place.spoil(place.row("p000.jpg"))
    photo(place.root / "p000.jpg", 77)
    report = place.repair()
    assert (report.encoded, report.changed, report.remaining) == (1, 1, [])
    fresh = Place(tmp_path / "fresh", place.encoder)
    fresh.root = place.root
    fresh.index(place.root)
    assert place.state.live["p000.jpg"].vectors == fresh.state.live["p000.jpg"].vectors
    assert place.index(place.root).unchanged == 8


def test_a_file_that_is_gone_is_taken_out_and_listed(place):
    for name in ("p000.jpg", "note.txt"):
        place.spoil(place.row(name), "image" if name.endswith("jpg") else "text")
        (place.root / name).unlink()
    report = place.repair()
    assert sorted(lost.path for lost in report.dropped) == [str(place.root / "note.txt"), str(place.root / "p000.jpg")]
    assert all("gone" in lost.reason for lost in report.dropped)
    assert (report.encoded, report.remaining) == (0, [])
    assert len(place.state.live) == 6
    assert place.words("roses") == []
    photo(place.root / "p000.jpg", 0)  # it comes back as a new file: nothing of the damaged row is used again
    assert place.index(place.root).encoded == 1
    assert not find_damage(Library(place.library))


def test_a_file_that_cannot_be_decoded_any_more_is_taken_out(place):
    place.spoil(place.row("p000.jpg"))
    (place.root / "p000.jpg").write_bytes((place.root / "p000.jpg").read_bytes()[:200])
    report = place.repair()
    assert [lost.path for lost in report.dropped] == [str(place.root / "p000.jpg")]
    assert (report.encoded, report.remaining) == (0, [])
    assert "p000.jpg" not in place.state.live
    assert [path for _, path in place.state.failures] == ["p000.jpg"]


def test_remains_of_a_deleted_file_do_not_come_back_damaged(place):
    row = place.row("p000.jpg")
    (place.root / "p000.jpg").unlink()
    place.index(place.root)
    place.spoil(row)
    report = place.repair()
    assert (report.forgotten, report.encoded, report.dropped, report.remaining) == (1, 0, [], [])
    photo(place.root / "p000.jpg", 0)
    assert place.index(place.root).encoded == 1
    assert not find_damage(Library(place.library))


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_drive_that_is_not_mounted_loses_nothing(place, how):
    before = place.state
    place.spoil(place.row("p000.jpg"))
    os.rename(place.root, place.root.with_name("away"))
    if how == "empty":
        place.root.mkdir()
    report = place.repair()
    assert [lost.path for lost in report.unreachable] == [str(place.root / "p000.jpg")]
    assert report.dropped == [] and report.remaining == ["1 vector of image"]
    assert place.state.live.keys() == before.live.keys()
    if how == "empty":
        place.root.rmdir()
    os.rename(place.root.with_name("away"), place.root)
    assert place.repair().remaining == []
    assert close(place.state) == close(before)


def test_an_item_that_is_damaged_itself_is_read_again_or_taken_out(place):
    before = place.state
    wrong, lost = (before.live[name].id for name in ("p001.jpg", "other.txt"))
    place.sql(
        f"UPDATE items SET caption = 'a blue ball', width = 9, camera = 'x' WHERE id = {wrong}",
        f"UPDATE items SET path = 'othes.txt' WHERE id = {lost}",
    )
    found = []

    def find(library):
        found.append(1)
        return Damage(NOTHING, (wrong, lost) if len(found) <= 2 else ())

    report = place.repair(find=find)
    assert report.encoded == 1
    assert [item.path for item in report.dropped] == [str(place.root / "othes.txt")]
    assert f"clipsearch index {place.root}" in report.dropped[0].reason
    entry = place.state.live["p001.jpg"]
    assert (entry.id, entry.caption) == (wrong, "a red ball on a lawn")
    assert place.words("blue") == [] and place.words("red") == ["p001.jpg"]
    assert place.index(place.root).added == 1
    now, then = ({path: entry[1:] for path, entry in close(state).items()} for state in (place.state, before))
    assert now == then  # but for the id of the one that was lost


def test_the_index_of_words_is_made_again(place):
    with closing(sqlite3.connect(place.library / "catalog.db")) as db, db:
        rows = db.execute("SELECT id, length(block) FROM full_text_data WHERE id > 10").fetchall()
        assert rows
        for number, length in rows:
            db.execute("UPDATE full_text_data SET block = zeroblob(?) WHERE id = ?", (length, number))
    report = place.repair()
    assert report.damage == ["the full-text index"] and report.remaining == []
    assert place.words("lawn") == ["p001.jpg"]
    read_state(place.library)  # has exactly the words of all items


def test_an_approximate_index_is_made_again(tmp_path):
    approximate(tmp_path / "lib").close()
    file = next((tmp_path / "lib").glob("ann/*/index.faiss"))
    file.write_bytes(file.read_bytes()[:-1])
    report = repairing.repair(tmp_path / "lib", SETTINGS)
    assert (report.damage, report.remaining) == (["the approximate index of image"], [])
    assert next((tmp_path / "lib").glob("ann/*/index.faiss")) != file


def test_what_others_do_before_the_lock_is_taken_leads_to_no_other_item(place, monkeypatch):
    """Another one repairs, and a compaction gives the rows other numbers: those that were found are stale."""
    before = place.state
    names = {entry.rows[0]: path for path, entry in before.live.items() if entry.modality == "image"}
    place.spoil(1)
    real, calls = repairing._Run.perform, []

    def second(run):
        calls.append(1)
        if len(calls) == 1:
            assert place.repair().encoded == 1
            with closing_library(place.library) as other:
                forget(other, [str(place.root / names[0])])
                compact(other)
            (place.root / names[3]).unlink()  # what has the number of the damaged row now, and no file
            assert place.row(names[3]) == 1
        return real(run)

    monkeypatch.setattr(repairing._Run, "perform", second)
    report = place.repair()
    assert (report.dropped, report.encoded, report.remaining) == ([], 0, [])
    assert place.state.live.keys() == before.live.keys() - {names[0]}


def test_an_index_of_sqlite_is_made_again(place):
    before = place.state
    spoil_page(place.library, "ix_items_content_hash")
    report = place.repair()
    assert report.damage and report.remaining == []
    assert close(place.state) == close(before)


@pytest.mark.slow
def test_a_catalog_that_sqlite_cannot_read_is_told_with_what_helps(place):
    data = bytearray((place.library / "catalog.db").read_bytes())
    data[100:9000] = bytes(8900)
    (place.library / "catalog.db").write_bytes(data)
    before = tree_digest(place.library)
    ran = run_cli("repair", "--library", place.library)
    assert ran.code == 5
    assert f"clipsearch restore DIR --library {place.library}" in ran.err
    assert tree_digest(place.library) == before
    move, again = ran.err.strip().partition("index again: ")[2].split("; ")
    subprocess.run(move, shell=True, check=True)
    command = again.replace("FOLDER", str(place.root)).split()[1:]
    assert run_cli(*command, "--model", "builtin-small", "--json").json["added"] == 8


@pytest.mark.slow
def test_imported_records_are_taken_out_with_the_command_that_brings_them_back(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32))
    (tmp_path / "v.jsonl").write_text("".join(f'{{"path": "{i}.jpg", "caption": "cat {i}"}}\n' for i in range(3)))
    source = {"encoder": "some/model", "items": str(tmp_path / "v.jsonl"), "settings": SETTINGS}
    import_embeddings(place.library, str(tmp_path / "v.npy"), **source)
    with open(place.segment(), "r+b") as file:
        file.seek(16)
        file.write(bytes(16))
    ran = run_cli("repair", "--library", place.library, "--json")
    assert ran.code == 0, ran
    (lost,) = ran.json["dropped"]
    assert lost["path"] == str(tmp_path / "1.jpg")
    assert lost["reason"] in ran.err
    command = lost["reason"].partition("import again: clipsearch ")[2].replace("FILE", str(tmp_path / "v.jsonl"))
    assert run_cli(*command.split(), "--library", place.library, "--json").json["imported"] == 1
    assert not find_damage(Library(place.library))


def test_a_vector_whose_item_is_lost_goes(place):
    item = place.state.live["p000.jpg"].id
    place.spoil(place.row("p000.jpg"))
    with closing(sqlite3.connect(place.library / "catalog.db")) as db, db:
        db.execute("DELETE FROM items WHERE id = ?", (item,))
    report = place.repair()
    assert (report.forgotten, report.remaining) == (1, [])
    assert place.index(place.root).added == 1


def test_damaged_notes_of_what_can_be_found_again_go_and_other_damage_is_told(place):
    (place.root / "broken.jpg").write_bytes((place.root / "p000.jpg").read_bytes()[:200])
    place.index(place.root)
    with closing(sqlite3.connect(place.library / "catalog.db")) as db:
        (failure,) = db.execute("SELECT id FROM failures").fetchone()
    found = []

    def find(library):
        found.append(1)
        return Damage(NOTHING, failures=(failure,) if len(found) <= 2 else (), other=("a setting",))

    report = place.repair(find=find)
    assert (report.damage, report.remaining) == (["1 failed file", "a setting"], ["a setting"])
    assert not place.state.failures
    assert len(place.index(place.root).failed) == 1


def test_labels_and_ids_stay(place):
    item = place.state.live["p000.jpg"].id
    with closing_library(place.library) as library, library.writer() as opened:
        opened.save_labels(["cat"], [item], {item: ("cat", 0.9)})
    place.spoil(place.row("p000.jpg"))
    place.repair()
    assert place.state.live["p000.jpg"].id == item
    with closing_library(place.library) as library, library.read() as snapshot:
        assert [each.tags for each in snapshot.items_by_id([item])] == [("cat",)]


def test_without_the_encoder_nothing_is_changed(place):
    place.spoil(place.row("p000.jpg"))
    place.spoil(place.row("p001.jpg"))
    (place.root / "p001.jpg").unlink()
    with closing_library(place.library) as library, library.writer() as opened:
        opened.set_setting("encoder", "local-dir:/none")
    before = place.state
    with pytest.raises(EncoderError):
        repairing.repair(place.library, SETTINGS)
    assert place.state == before


def test_a_writer_is_not_disturbed(place):
    place.spoil(place.row("p000.jpg"))
    with closing_library(place.library) as library, library.writer(), pytest.raises(LibraryLockedError):
        place.repair()


@pytest.mark.slow
def test_the_command_says_what_it_would_do_does_it_and_says_what_it_did(place):
    place.spoil(place.row("p000.jpg"))
    place.spoil(place.row("p002.jpg"))
    (place.root / "p002.jpg").unlink()
    before = tree_digest(place.library)
    ran = run_cli("repair", "--dry-run", "--library", place.library, "--json")
    assert ran.code == 5
    assert ran.json["encoded"] == 1 and [lost["path"] for lost in ran.json["dropped"]] == [str(place.root / "p002.jpg")]
    assert tree_digest(place.library) == before
    ran = run_cli("repair", "--library", place.library)
    assert ran.code == 0, ran
    assert "Encoded again: 1 file; removed: 1 file" in ran.err and str(place.root / "p002.jpg") in ran.err
    assert "Nothing is damaged" in run_cli("repair", "--library", place.library).err


def test_a_repair_that_is_cut_off_goes_on_where_it_was(place, monkeypatch):
    before = place.state
    for name in ("p000.jpg", "p002.jpg", "p004.jpg"):
        place.spoil(place.row(name))
    settings = Settings(threads=1, offline=True, batch_size=1)
    real, calls = repairing._encode_batch, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(repairing, "_encode_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        repairing.repair(place.library, settings, encoder=place.encoder)
    assert find_damage(Library(place.library)).describe() == ["2 vectors of image"]
    assert place.repair().encoded == 2
    assert close(place.state) == close(before)


def test_a_captioned_png_keeps_the_caption_inside_it(place):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("Description", "a lighthouse at night")
    noise_picture(50, (32, 32)).save(place.root / "light.png", pnginfo=info)
    place.index(place.root)
    before = place.state
    place.spoil(place.row("light.png"))
    place.repair()
    assert close(place.state) == close(before)


def test_the_damage_that_remains_is_an_exit_code(place):
    place.spoil(place.row("p000.jpg"))
    os.rename(place.root, place.root.with_name("away"))
    ran = run_cli("repair", "--library", place.library)
    assert ran.code == 5 and "Still damaged" in ran.err and "mount it" in ran.err


def test_a_catalog_beyond_repair_is_told_with_what_helps(place):
    """A table has lost a page of its own, so that no index can be made again from it."""
    spoil_page(place.library, "items")
    with pytest.raises(StoreCorruptError, match="clipsearch restore DIR"):
        place.repair()


def test_a_root_that_is_damaged_costs_no_item(place):
    with closing(sqlite3.connect(place.library / "catalog.db")) as db, db:
        (digest,) = db.execute("SELECT digest FROM roots").fetchone()
        db.execute("UPDATE roots SET path = '/elsewhere'")
        db.execute("UPDATE roots SET digest = ?", (digest,))
    place.spoil(1)
    before = place.state
    with pytest.raises(StoreCorruptError, match="clipsearch restore DIR"):
        place.repair()
    assert place.state.live == before.live
