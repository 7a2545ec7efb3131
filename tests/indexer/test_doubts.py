"""Content that changes while size and time stay: seen by change time and inode, without reading whole drives again."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from indexer import doubts
from tests.support.libraries import Place
from tests.support.pictures import encode, noise_picture

TIME = 1_700_000_000 * 10**9


def bitmap(path: Path, seed: int) -> Path:
    """Write a BMP, which has the same size as any other, with the same time."""
    path.write_bytes(encode(noise_picture(seed, (16, 12)), "BMP"))
    os.utime(path, ns=(TIME, TIME))
    return path


@pytest.fixture
def place(tmp_path, encoder) -> Place:
    made = Place(tmp_path, encoder)
    for number in range(4):
        bitmap(made.root / f"{number}.bmp", number)
    assert made.run()["added"] == 4
    return made


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The paths that the decoder reads, and those of a sample."""
    from indexer import decode

    seen: list[str] = []
    for module in (decode, doubts):
        real = module.read_regular
        monkeypatch.setattr(
            module,
            "read_regular",
            lambda path, *rest, real=real, **more: seen.append(path) or real(path, *rest, **more),
        )
    return seen


def forget_identities(library: Path, column: str | None = None, value: str = "NULL") -> None:
    columns = ("ctime_ns", "inode", "beside_ctime_ns") if column is None else (column,)
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        db.execute("UPDATE items SET " + ", ".join(f"{name} = {value}" for name in columns))
        db.commit()


def shares(place: Place) -> list[tuple[str, float]]:
    return [place.nearest(path) for path in sorted(place.root.glob("*.bmp"))]


def test_content_replaced_in_place_is_encoded(place):
    bitmap(place.root / "1.bmp", 50)
    assert place.run() == {"changed": 1, "unchanged": 3, "encoded": 1, "worked": 2}
    assert place.nearest(place.root / "1.bmp") == ("1.bmp", pytest.approx(1, abs=1e-3))
    assert place.run() == {"unchanged": 4}


def test_a_copy_with_its_time_over_another_is_seen(place):
    shutil.copy2(place.root / "0.bmp", place.root / "3.bmp")
    assert place.run() == {"changed": 1, "unchanged": 3}  # what is known is not encoded again


def test_names_that_were_swapped_swap_their_content(place):
    for old, new in (("0.bmp", "tmp"), ("1.bmp", "0.bmp"), ("tmp", "1.bmp")):
        os.rename(place.root / old, place.root / new)
    assert place.run() == {"changed": 2, "unchanged": 2}
    assert [name for name, _ in shares(place)] == ["0.bmp", "1.bmp", "2.bmp", "3.bmp"]


def test_other_permissions_and_hard_links_cost_a_hash_and_no_encoding(place, reads):
    (place.root / "0.bmp").chmod(0o600)
    os.link(place.root / "1.bmp", place.root / "link.bmp")
    assert place.run() == {"added": 1, "unchanged": 4}
    assert sorted(map(os.path.basename, reads)) == ["0.bmp", "1.bmp", "link.bmp"]
    reads.clear()
    assert place.run() == {"unchanged": 5} and not reads


def test_a_sidecar_replaced_in_place_is_read_again(place):
    beside = place.root / "2.txt"
    beside.write_text("a red boat")
    os.utime(beside, ns=(TIME, TIME))
    assert place.run() == {"changed": 1, "unchanged": 3, "worked": 1}
    beside.write_text("a big bear")
    os.utime(beside, ns=(TIME, TIME))
    assert place.run() == {"changed": 1, "unchanged": 3, "worked": 1}
    with SearchEngine(Library(place.library), encoder=place.encoder) as engine:
        assert [item.caption for item in engine.find().items if item.caption] == ["a big bear"]


def test_a_row_of_a_table_replaced_in_place_is_read_again(place):
    table = place.root / "captions.csv"
    for text in ("a red boat", "a big bear"):
        table.write_text(f"image,caption\n1.bmp,{text}\n")
        os.utime(table, ns=(TIME, TIME))
        assert place.run() == {"changed": 1, "unchanged": 3, "worked": 1}


def test_a_broken_file_that_is_mended_in_place_is_read_again(place):
    good = encode(noise_picture(9, (16, 12)), "BMP")
    broken = place.root / "broken.bmp"
    for data, found in ((b"x" * len(good), {"failed": 1}), (good, {"added": 1, "encoded": 1, "worked": 2})):
        broken.write_bytes(data)
        os.utime(broken, ns=(TIME, TIME))
        assert place.run() == {"unchanged": 4} | found
    assert place.run() == {"unchanged": 5}


def test_identities_of_an_older_library_are_learnt_without_reading(place, reads):
    forget_identities(place.library)
    assert place.run() == {"unchanged": 4} and not reads
    bitmap(place.root / "1.bmp", 50)
    assert place.run()["changed"] == 1


def test_rehash_reads_every_file(place, reads):
    bitmap(place.root / "1.bmp", 50)
    forget_identities(place.library)  # so that nothing tells that it has changed
    assert place.run() == {"unchanged": 4} and not reads
    assert place.run(rehash=True) == {"changed": 1, "unchanged": 3, "encoded": 1, "worked": 2}
    assert len(reads) == 4


def test_a_dry_run_reads_what_may_have_changed(place):
    bitmap(place.root / "1.bmp", 50)
    (place.root / "2.bmp").chmod(0o600)
    assert place.run(dry_run=True) == {"changed": 1, "unchanged": 3}


@pytest.fixture
def drive(tmp_path, encoder, monkeypatch) -> Place:
    """A root of 12 files, of which a sample is 3."""
    monkeypatch.setattr(doubts, "SAMPLE", 3)
    made = Place(tmp_path, encoder)
    for number in range(12):
        bitmap(made.root / f"{number:02d}.bmp", number)
    assert made.run()["added"] == 12
    return made


def restore(place: Place) -> None:
    """Put a copy in the place of the root, as a backup does: other change times, other inodes."""
    copy = place.root.with_name("copy")
    shutil.copytree(place.root, copy)
    shutil.rmtree(place.root)
    copy.rename(place.root)


def test_of_a_drive_that_was_restored_a_sample_is_read(drive, reads):
    restore(drive)
    assert drive.run() == {"unchanged": 12} and len(reads) == 3
    reads.clear()
    assert drive.run() == {"unchanged": 12} and not reads  # what was believed is noted
    bitmap(drive.root / "07.bmp", 77)
    assert drive.run()["changed"] == 1


def test_dates_corrected_in_all_files_are_no_restore(drive):
    for number in range(12):
        (drive.root / f"{number:02d}.bmp").unlink()
        bitmap(drive.root / f"{number:02d}.bmp", 100 + number)
    assert drive.run()["changed"] == 12


def test_half_of_the_files_replaced_are_all_read(drive, reads):
    for number in range(6):
        path = drive.root / f"{number:02d}.bmp"
        shutil.copy2(path, drive.root / "t")
        os.replace(drive.root / "t", path)
    # A file may get the inode that another one left, and is then read once more, since it may be that one renamed.
    assert drive.run() == {"unchanged": 12} and len(set(reads)) == 6


def test_on_a_file_system_without_stable_inodes_a_sample_is_read(drive, reads):
    forget_identities(drive.library, "inode", "inode + 1")
    assert drive.run() == {"unchanged": 12} and len(reads) == 3
    reads.clear()
    assert drive.run() == {"unchanged": 12} and not reads


def test_a_number_of_more_than_63_bits_is_kept(tmp_path):
    from clipsearch.store.records import FileIdentity

    class Status:
        st_ctime_ns, st_ino = 2**70, 2**128 - 1

    assert FileIdentity.of(Status()) == (2**63 - 1, -1)
    Status.st_ino = 0
    assert FileIdentity.of(Status()).inode is None  # which says nothing
