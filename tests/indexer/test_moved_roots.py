"""A root that was renamed, remounted, moved in part or copied: tags and ids go along, nothing is found twice."""

from __future__ import annotations

import os
import shutil

import pytest

from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.store.roots import RulesChange
from tests.support.libraries import Place, paths_found, photo, photos


@pytest.fixture
def place(tmp_path, encoder) -> Place:
    """A root of four pictures, one of them in a folder, with tags and in a collection."""
    made = Place(tmp_path, encoder)
    photos(made.root, 3)
    photo(made.root / "sub/p003.jpg", 3)
    made.run()
    with SearchEngine(Library(made.library), encoder=encoder) as engine:
        ids = sorted(made.ids().values())
        engine.tag(ids, add=["sea"])
        engine.collect("Best", ids)
    return made


def ids(place: Place) -> dict[str, int]:
    with SearchEngine(Library(place.library), encoder=place.encoder) as engine:
        return {os.path.relpath(item.path, place.root.parent): item.id for item in engine.find().items}


def roots(place: Place) -> list[str]:
    opened = Library(place.library)
    with opened.writer() as writer:
        found = [os.path.basename(root.path) for root in writer.roots(opened.base)]
    opened.close()
    return found


def all_tagged(place: Place) -> bool:
    with SearchEngine(Library(place.library), encoder=place.encoder) as engine:
        return len(engine.find(Filter(tags=("sea",))).items) == 4 == len(paths_found(place.library, place.encoder))


def test_a_renamed_root_is_the_same_root(place):
    before = ids(place)
    place.run(rules=RulesChange(exclude=("*.tmp",)))
    new = place.root.with_name("renamed")
    place.root.rename(new)
    assert place.run(new) == {"moved": 4}
    assert ids(place) == {path.replace("photos", "renamed"): number for path, number in before.items()}
    assert all_tagged(place) and roots(place) == ["renamed"]
    assert place.run(new) == {"unchanged": 4}
    opened = Library(place.library)
    with opened.writer() as writer:
        assert [root.exclude for root in writer.roots(opened.base)] == [("*.tmp",)]
    opened.close()


def test_a_drive_with_another_mount_point_is_the_same_root(place):
    new = place.root.with_name("mounted")
    shutil.copytree(place.root, new)  # other inodes and change times, as some file systems give
    shutil.rmtree(place.root)
    place.root.mkdir()  # the mount point stays, and is empty
    assert place.run(new) == {"moved": 4}
    assert all_tagged(place) and roots(place) == ["mounted"]


def test_what_has_other_content_is_another_root(place):
    new = place.root.with_name("other")
    shutil.copytree(place.root, new)
    for path in new.rglob("*.jpg"):
        data, status = path.read_bytes(), path.stat()
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    shutil.rmtree(place.root)
    assert place.run(new)["added"] == 4 and sorted(roots(place)) == ["other", "photos"]


def test_a_folder_that_moved_out_takes_its_items_along(place):
    before = ids(place)
    new = place.root.with_name("elsewhere")
    (place.root / "sub").rename(new)
    assert place.run(new) == {"moved": 1}
    assert ids(place)["elsewhere/p003.jpg"] == before["photos/sub/p003.jpg"] and len(ids(place)) == 4
    assert all_tagged(place) and sorted(roots(place)) == ["elsewhere", "photos"]
    assert place.run() == {"unchanged": 3}


def test_a_copy_stays_beside_what_it_is_of(place):
    new = place.root.with_name("copy")
    shutil.copytree(place.root, new)
    before = ids(place)
    assert place.run(new) == {"added": 4}
    assert before.items() <= ids(place).items() and len(ids(place)) == 8
    assert sorted(roots(place)) == ["copy", "photos"]


@pytest.mark.parametrize("deep", [False, True])
def test_a_root_that_moved_into_another_is_gone_by_itself(place, tmp_path, deep):
    above = tmp_path / "above"
    photo(above / "own.jpg", 70)
    if deep:
        place.run(above)
    before = ids(place)
    place.root.rename(above / "inside")
    found = place.run(above)
    assert found["moved"] == 4 and roots(place) == ["above"]
    assert {number for number in ids(place).values()} >= {number for path, number in before.items() if "p00" in path}
    assert len(ids(place)) == 5


def test_a_root_that_is_gone_with_files_left_is_offered_for_forget(place):
    new = place.root.with_name("part")
    new.mkdir()
    shutil.move(place.root / "p000.jpg", new / "p000.jpg")
    shutil.rmtree(place.root)
    assert place.run(new) == {"moved": 1}
    assert place.offline == [str(place.root)] and len(ids(place)) == 4


def test_an_unmounted_root_moves_only_to_where_its_content_is(place):
    hidden = place.root.with_name("unmounted")
    place.root.rename(hidden)
    place.root.mkdir()
    other = place.root.with_name("other")
    photos(other, 2, first=50)
    assert place.run(other)["added"] == 2 and len(ids(place)) == 6
    place.root.rmdir()
    hidden.rename(place.root)
    assert place.run() == {"unchanged": 4} and len(ids(place)) == 6


def test_a_dry_run_finds_a_renamed_root_and_changes_nothing(place):
    new = place.root.with_name("renamed")
    place.root.rename(new)
    assert place.run(new, dry_run=True) == {"moved": 4} and roots(place) == ["photos"]
