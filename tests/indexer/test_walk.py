"""The walk: every picture and text once, whatever else lies in the folder; also roots, which it starts from."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clipsearch.errors import InvalidInputError
from clipsearch.paths import quote_path, unquote_path
from clipsearch.store.forget import forget
from clipsearch.store.library import Library
from clipsearch.store.roots import Rules, RulesChange
from indexer.report import Silent
from indexer.sources.folder import FolderWalk
from tests.support.cli import run_cli, run_cli_bound
from tests.support.libraries import counts, index, paths_found, photo, photos
from tests.support.state import read_state


def walk(root: Path, prefix: str = "", *, covered: list[Path] | None = None, **rules: object) -> list[str]:
    """The paths that a walk yields, sorted."""
    roots = [str(path) for path in covered or [root]]
    found = [record.path for record in FolderWalk(1, str(root), prefix, Rules(**rules), covered=roots)]
    assert len(found) == len(set(found))
    return sorted(found)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


# --- Names


def test_only_pictures_and_texts_are_found_whatever_the_case(tmp_path):
    touch(*(tmp_path / name for name in ("a.jpg", "b.JPG", "c.Md", "d.heic", "e.exe", "f", "g.jpg.part", "h.mp3")))
    assert walk(tmp_path) == ["a.jpg", "b.JPG", "c.Md", "d.heic"]


ODD_NAMES = [
    "ünï 名前 🐈.jpg".encode(),
    b"latin-\xe9\xff.jpg",
    b"\xed\xa0\x80 surrogate.jpg",
    b"100% %41 %FF.jpg",
    b"new\nline.jpg",
    b"esc \x1b[31m red.jpg",
    b"-rf.jpg",
    b" leading and trailing .jpg",
    b"quote'\"`$(x).jpg",
    b"back\\slash.jpg",
    b"n" * 251 + b".jpg",
    "é".encode() * 125 + b".jpg",
]


def test_odd_names_are_indexed_found_and_unchanged_the_next_time(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    root.mkdir()
    for seed, name in enumerate(ODD_NAMES):
        photo(Path(os.fsdecode(bytes(root) + b"/" + name)), seed)
    odd_folder = Path(os.fsdecode(bytes(root) + b"/f\xfflder\n"))
    photo(odd_folder / "in it.jpg", 99)
    total = len(ODD_NAMES) + 1
    assert counts(index(library, root, encoder=encoder)) == {"added": total, "encoded": total}
    expected = sorted([os.fsdecode(bytes(root) + b"/" + name) for name in ODD_NAMES] + [str(odd_folder / "in it.jpg")])
    assert paths_found(library, encoder) == expected
    assert counts(index(library, root, encoder=encoder)) == {"unchanged": total}
    os.rename(odd_folder, os.fsdecode(bytes(root) + b"/other \xfe"))
    assert counts(index(library, root, encoder=encoder)) == {"unchanged": total - 1, "moved": 1}


@pytest.mark.slow
def test_odd_names_come_out_of_the_command_as_the_bytes_they_are(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    root.mkdir()
    names = [bytes(root) + b"/" + name for name in ODD_NAMES]
    for seed, name in enumerate(names):
        photo(Path(os.fsdecode(name)), seed)
    bad = bytes(root) + b"/bad \x1b[31m\n\xff.jpg"
    Path(os.fsdecode(bad)).write_bytes(b"no picture")
    ran = run_cli("index", root, "--library", library, "--model", "builtin-small", "--json")
    assert ran.json["added"] == len(names)
    assert os.fsencode(ran.json["failed"][0]["path"].encode("utf-8", "surrogateescape")) == bad
    assert "\x1b" not in ran.err
    found = run_cli("query", "a picture", "-k", 99, "-0", "--library", library)
    assert sorted(found.out.split(b"\0")[:-1]) == sorted(names)
    status = run_cli("status", "--failed", "--library", library)
    assert b"\x1b" not in status.out
    assert status.out.count(b"\n") == 1
    assert run_cli("forget", names[1], "--library", library).code == 0
    assert len(run_cli("query", "a picture", "-k", 99, "-0", "--library", library).out.split(b"\0")) == len(names)


def test_stored_paths_are_reversible_and_keep_prefixes():
    for name in ODD_NAMES:
        text = os.fsdecode(name)
        stored = quote_path(text)
        stored.encode("utf-8")
        assert unquote_path(stored) == text
        assert quote_path(f"dir/{text}") == f"dir/{stored}"


def test_a_path_too_long_for_the_system_is_reported_and_the_rest_is_indexed(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root / "d", 2)
    descriptor = os.open(root, os.O_RDONLY)
    name = "n" * 200
    for depth in range(25):  # 25 x 201 bytes; each step relative to the one above, for no absolute path would do
        os.mkdir(name, dir_fd=descriptor)
        file = os.open("deep.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor) if depth == 3 else None
        if file is not None:
            os.write(file, (root / "d/p000.jpg").read_bytes())
            os.close(file)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    report = index(library, root, encoder=encoder)
    assert report.added == 3
    assert report.encoded == 2
    assert [reason for _, reason in report.failed] == ["cannot be read: File name too long"]
    again = index(library, root, encoder=encoder)
    assert (again.unchanged, again.removed, len(again.failed)) == (3, 0, 1)
    subprocess.run(["rm", "-rf", root], check=True)


# --- Links


def test_a_link_loop_and_a_dangling_link_do_no_harm(tmp_path):
    touch(tmp_path / "sub/a.jpg")
    (tmp_path / "sub/up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "sub/here").symlink_to(".")
    assert walk(tmp_path) == ["sub/a.jpg"]


def test_a_linked_folder_outside_is_walked_once(tmp_path):
    root, outside = tmp_path / "photos", tmp_path / "outside"
    touch(root / "a.jpg", outside / "b.jpg", outside / "deep/c.jpg")
    (root / "l1").symlink_to(outside)
    (root / "l2").symlink_to(outside)
    (root / "sub").mkdir()
    (root / "sub/l3").symlink_to(outside / "deep")
    assert walk(root) == ["a.jpg", "l1/b.jpg", "l1/deep/c.jpg"]


def test_a_link_to_a_file_inside_counts_once_and_to_one_outside_once(tmp_path):
    root, outside = tmp_path / "photos", tmp_path / "outside"
    touch(root / "a.jpg", outside / "b.jpg")
    (root / "again.jpg").symlink_to("a.jpg")
    (root / "b1.jpg").symlink_to(outside / "b.jpg")
    (root / "b2.jpg").symlink_to(outside / "b.jpg")
    assert walk(root) == ["a.jpg", "b1.jpg"]


@pytest.mark.parametrize("link", ["a-file.jpg", "z-file.jpg", "sub/file.jpg"])
def test_a_file_linked_by_itself_and_with_its_folder_counts_once(tmp_path, link):
    root, outside = tmp_path / "photos", tmp_path / "outside"
    touch(outside / "b.jpg", outside / "c.jpg")
    (root / "sub").mkdir(parents=True)
    (root / "folder").symlink_to(outside)
    (root / link).symlink_to(outside / "b.jpg")
    found = walk(root)
    assert len(found) == 2
    assert "folder/c.jpg" in found


def test_a_link_to_a_folder_above_does_not_find_the_root_twice(tmp_path):
    root = tmp_path / "all/photos"
    touch(root / "a.jpg", tmp_path / "all/b.jpg")
    (root / "above").symlink_to(tmp_path / "all")
    assert walk(root) == ["a.jpg", "above/b.jpg"]


def test_what_another_root_covers_is_left_to_it(tmp_path):
    root, other = tmp_path / "photos", tmp_path / "outside/deep"
    single = tmp_path / "outside/single.jpg"
    touch(root / "a.jpg", tmp_path / "outside/b.jpg", other / "c.jpg", single)
    (root / "link").symlink_to(tmp_path / "outside")
    assert walk(root, covered=[root, other, single]) == ["a.jpg", "link/b.jpg"]


def test_a_link_to_a_folder_that_is_left_out_inside_is_followed(tmp_path):
    touch(tmp_path / ".hidden/a.jpg")
    (tmp_path / "shown").symlink_to(".hidden")
    assert walk(tmp_path) == ["shown/a.jpg"]
    assert walk(tmp_path, include_hidden=True) == [".hidden/a.jpg"]


def test_what_was_found_through_a_link_can_be_forgotten_by_the_path_shown(tmp_path, encoder):
    root, outside, library = tmp_path / "photos", tmp_path / "outside", tmp_path / "lib"
    photos(outside, 2)
    root.mkdir()
    (root / "link").symlink_to(outside)
    index(library, root, encoder=encoder)
    found = paths_found(library, encoder)
    assert found == [str(root / "link/p000.jpg"), str(root / "link/p001.jpg")]
    assert forget(Library(library), [found[0]]) == 1
    assert paths_found(library, encoder) == found[1:]


def test_hard_links_are_two_names_of_one_content(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root, 1)
    os.link(root / "p000.jpg", root / "second.jpg")
    assert counts(index(library, root, encoder=encoder)) == {"added": 2, "encoded": 1}
    assert counts(index(library, root, encoder=encoder)) == {"unchanged": 2}
    assert len(paths_found(library, encoder)) == 2


# --- Things that are no files, and that cannot be read


def test_fifos_sockets_devices_and_folders_named_like_pictures(tmp_path, encoder, monkeypatch):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root, 1)
    photo(root / "folder.jpg/inside.jpg", 7)
    os.mkfifo(root / "fifo.jpg")
    monkeypatch.chdir(root)
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("socket.jpg")
    if os.geteuid() == 0:
        try:
            os.mknod(root / "device.jpg", 0o600 | 0o020000, os.makedev(1, 3))
        except PermissionError:
            pass
    (root / "linked.jpg").symlink_to("/dev/zero")
    try:
        assert counts(index(library, root, encoder=encoder)) == {"added": 2, "encoded": 2}
    finally:
        bound.close()
    with pytest.raises(InvalidInputError, match="neither"):
        index(library, root / "fifo.jpg", encoder=encoder)


def test_a_file_that_turns_into_a_fifo_before_it_is_read_does_not_hang(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root, 3)

    class Meddling(Silent):
        def start(self, total):
            (root / "p002.jpg").unlink()
            os.mkfifo(root / "p002.jpg")

    report = index(library, *sorted(root.glob("*.jpg")), encoder=encoder, progress=Meddling())
    assert report.added == 2
    assert [reason for _, reason in report.failed] == ["not a regular file"]


def test_files_that_vanish_between_walk_and_read_are_no_failure(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root, 40)

    class Deleting(Silent):
        def start(self, total):
            for path in root.glob("p03*.jpg"):
                path.unlink()

    report = index(library, root, encoder=encoder, progress=Deleting())
    assert counts(report) == {"added": 30, "encoded": 30}
    assert counts(index(library, root, encoder=encoder)) == {"unchanged": 30}


@pytest.mark.slow
def test_an_unreadable_folder_keeps_its_items_and_an_unreadable_file_is_tried_again(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root / "open", 2)
    photos(root / "locked", 2, first=2)
    photos(root / "locked/sub", 2, first=4)
    photos(root, 1, first=8)

    def run(*paths: Path) -> dict:
        arguments = ("--library", library, "--model", "builtin-small", "--json", "--threads", 1)
        ran = run_cli_bound("index", *(paths or (root,)), *arguments, cwd=tmp_path)
        assert ran.code == 0, ran
        return ran.json

    assert run()["added"] == 7
    (root / "locked").chmod(0)
    (root / "p008.jpg").chmod(0)
    os.utime(root / "p008.jpg", ns=(1, 1))
    report = run()
    assert (report["unchanged"], report["removed"], report["added"]) == (2, 0, 0)
    assert sorted(f["reason"] for f in report["failed"]) == ["cannot be read: Permission denied"] * 2
    assert run(root / "locked/sub")["removed"] == 0
    assert len(read_state(library).live) == 7
    (root / "locked").chmod(0o755)
    (root / "p008.jpg").chmod(0o644)
    report = run()
    assert (report["unchanged"], report["encoded"], report["failed"]) == (7, 0, [])


def test_what_lies_behind_a_link_into_a_locked_folder_is_kept(tmp_path, encoder):
    root, outside, library = tmp_path / "photos", tmp_path / "outside", tmp_path / "lib"
    photos(root, 1)
    photos(outside / "deep", 2, first=1)
    (root / "link").symlink_to(outside / "deep")
    index(library, root, encoder=encoder)
    outside.chmod(0)
    ran = run_cli_bound("index", root, "--library", library, "--json", cwd=tmp_path)
    outside.chmod(0o755)
    assert (ran.json["unchanged"], ran.json["removed"], len(ran.json["failed"])) == (1, 0, 1)
    assert counts(index(library, root, encoder=encoder)) == {"unchanged": 3}


# --- What is left out


LITTER = [
    "._a.jpg",
    ".DS_Store",
    "@eaDir/a.jpg",
    ".git/a.jpg",
    "node_modules/x/a.jpg",
    ".Trash-1000/a.jpg",
    ".Trashes/a.jpg",
    "__MACOSX/a.jpg",
    ".thumbnails/a.jpg",
    "$RECYCLE.BIN/a.jpg",
    "sub/.clipsearch/a.jpg",
    "lost+found/a.jpg",
    "~$a.docx",
]


def test_litter_is_left_out_even_with_hidden_files(tmp_path):
    touch(*(tmp_path / name for name in LITTER), tmp_path / ".secret/b.jpg", tmp_path / "a.jpg", tmp_path / ".c.jpg")
    assert walk(tmp_path) == ["a.jpg"]
    assert walk(tmp_path, include_hidden=True) == [".c.jpg", ".secret/b.jpg", "a.jpg"]


def test_the_library_inside_the_indexed_folder_is_left_out(tmp_path, encoder):
    root = tmp_path / "photos"
    photos(root, 2)
    library = root / "my-index"
    library.mkdir()
    photos(library, 1, first=5)
    (root / "zlink").symlink_to(library)
    for _ in range(2):
        index(library, root, encoder=encoder)
        assert paths_found(library, encoder) == [str(root / "p000.jpg"), str(root / "p001.jpg")]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("raw",), ["a.jpg", "sub/b.jpg", "sub/n.txt"]),
        (("raw/",), ["a.jpg", "sub/b.jpg", "sub/n.txt"]),
        (("*.txt",), ["a.jpg", "raw/c.jpg", "sub/b.jpg", "sub/raw/d.jpg"]),
        (("sub/raw",), ["a.jpg", "raw/c.jpg", "sub/b.jpg", "sub/n.txt"]),
        (("/raw",), ["a.jpg", "sub/b.jpg", "sub/n.txt", "sub/raw/d.jpg"]),
        (("sub/*.jpg", "a.???"), ["raw/c.jpg", "sub/n.txt"]),
    ],
)
def test_exclude_by_name_and_by_path(tmp_path, patterns, expected):
    touch(*(tmp_path / name for name in ("a.jpg", "raw/c.jpg", "sub/b.jpg", "sub/n.txt", "sub/raw/d.jpg")))
    assert walk(tmp_path, exclude=patterns) == expected


def test_exclude_and_include_hidden_are_kept_for_later_runs(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root, 2)
    photos(root / "raw", 1, first=2)
    photos(root / ".hidden", 1, first=3)
    index(library, root, encoder=encoder)
    assert len(paths_found(library, encoder)) == 3
    report = index(library, root, encoder=encoder, rules=RulesChange(("raw",), True))
    assert counts(report) == {"added": 1, "encoded": 1, "removed": 1, "unchanged": 2}
    assert counts(index(library, root, encoder=encoder)) == {"unchanged": 3}
    assert counts(index(library, encoder=encoder)) == {"unchanged": 3}
    shown = counts(index(library, encoder=encoder, rules=RulesChange(include_hidden=False)))
    assert shown == {"removed": 1, "unchanged": 2}, "the patterns are kept"
    assert counts(index(library, encoder=encoder, rules=RulesChange(()))) == {"added": 1, "unchanged": 2}


# --- Roots


@pytest.mark.parametrize("order", ["child first", "parent first", "both at once", "both, child first"])
def test_overlapping_roots_hold_each_file_once_and_keep_ids(tmp_path, encoder, order):
    root, library = tmp_path / "photos", tmp_path / "lib"
    child = root / "sub/child"
    photos(child, 2)
    photos(root, 2, first=2)
    photo(root / "sub/x.jpg", 9)
    child_bad = child / "bad.jpg"
    child_bad.write_bytes(b"no")
    runs = {
        "child first": [[child], [root]],
        "parent first": [[root], [child]],
        "both at once": [[root, child]],
        "both, child first": [[child, root, child]],
    }[order]
    seen: dict[str, int] = {}
    for paths in runs:
        index(library, *paths, encoder=encoder)
        state = read_state(library)
        now = {entry.content_hash: entry.id for entry in state.live.values()}
        assert {key: now[key] for key in seen} == seen
        seen = now
    assert len(paths_found(library, encoder)) == len(state.entries) == 5
    assert len(state.failures) == 1
    assert counts(index(library, encoder=encoder)) == {"unchanged": 6}
    assert counts(index(library, child, encoder=encoder)) == {"unchanged": 3}


def test_a_reader_that_is_open_survives_the_merge_of_roots(tmp_path, encoder):
    from clipsearch.query.engine import SearchEngine

    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root / "child", 2)
    index(library, root / "child", encoder=encoder)
    engine = SearchEngine(Library(library), encoder=encoder)
    before = [hit.path for hit in engine.search("a picture")]
    index(library, root, encoder=encoder)
    assert [hit.path for hit in engine.search("a picture")] == before


def test_a_single_file_as_root_and_two_spellings_of_it(tmp_path, encoder, monkeypatch):
    library = tmp_path / "lib"
    path = photo(tmp_path / "photos/a.jpg", 1)
    photo(tmp_path / "photos/b.jpg", 2)
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path / "photos")
    spellings = [path, "a.jpg", "./a.jpg", tmp_path / "link/a.jpg", "../photos/../photos/a.jpg"]
    assert counts(index(library, *spellings, encoder=encoder)) == {"added": 1, "encoded": 1}
    for spelling in spellings:
        assert counts(index(library, spelling, encoder=encoder)) == {"unchanged": 1}
    assert paths_found(library, encoder) == [str(path)]
    assert counts(index(library, tmp_path / "photos", encoder=encoder)) == {"added": 1, "encoded": 1, "unchanged": 1}
    path.unlink()
    assert counts(index(library, tmp_path / "photos", encoder=encoder)) == {"unchanged": 1, "removed": 1}


def test_a_single_file_root_that_is_deleted_is_removed(tmp_path, encoder):
    library = tmp_path / "lib"
    path = photo(tmp_path / "a.jpg", 1)
    index(library, path, encoder=encoder)
    path.unlink()
    assert counts(index(library, path, encoder=encoder)) == {"removed": 1}


@pytest.mark.slow
def test_thousands_of_single_files_on_the_command_line(tmp_path, encoder):
    library = tmp_path / "lib"
    folder = tmp_path / "photos"
    first = photo(folder / "0.txt", 1)
    paths = [first.with_name(f"{i}.txt") for i in range(300)]
    for path in paths:
        path.write_text("the same words")
    report = index(library, *paths, encoder=encoder)
    assert counts(report) == {"added": 300, "encoded": 1}
    assert counts(index(library, encoder=encoder)) == {"unchanged": 300}


def test_a_portable_library_moves_with_its_folder_and_is_one_by_any_name(tmp_path, encoder):
    root = tmp_path / "drive"
    photos(root / "sub", 2)
    index(root / ".clipsearch", root, encoder=encoder)
    os.rename(root, tmp_path / "moved")
    moved = tmp_path / "moved"
    assert paths_found(moved / ".clipsearch", encoder) == [str(moved / "sub/p000.jpg"), str(moved / "sub/p001.jpg")]
    assert counts(index(moved / ".clipsearch", moved, encoder=encoder)) == {"unchanged": 2}
    (tmp_path / "link").symlink_to("moved")
    linked = tmp_path / "link/.clipsearch"
    assert counts(index(linked, tmp_path / "link", encoder=encoder)) == {"unchanged": 2}
    assert len(paths_found(linked, encoder)) == 2


def test_no_such_path_is_told_before_anything_is_made(tmp_path, encoder):
    with pytest.raises(InvalidInputError, match="no file or folder"):
        index(tmp_path / "lib", tmp_path / "nowhere", encoder=encoder)
    assert not (tmp_path / "lib").exists()


def test_a_very_deep_tree_needs_no_recursion(tmp_path):
    limit, depth = sys.getrecursionlimit(), 1100
    folder = tmp_path
    for _ in range(depth):
        folder = Path(f"{folder}/d")
        os.mkdir(folder)
    (folder / "a.jpg").write_bytes(b"x")
    sys.setrecursionlimit(1000)  # some packages raise it
    try:
        assert walk(tmp_path) == ["d/" * depth + "a.jpg"]
    finally:
        sys.setrecursionlimit(limit)
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
