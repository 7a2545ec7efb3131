"""What becomes of files between runs: added, changed, moved, copied, deleted, restored, bad, repaired, offline."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.config import Settings
from clipsearch.errors import AnnIndexError, EncoderError, EncoderMismatchError, InvalidInputError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.forget import forget
from clipsearch.store.library import Library
from clipsearch.store.roots import RulesChange
from clipsearch.store.summary import summarise
from clipsearch.types import Modality
from indexer import build
from tests.support.cli import run_cli
from tests.support.libraries import REPORT_KEYS, Counting, Place, index, paths_found, photo, photos, remove
from tests.support.pictures import encode, noise_picture, pixel_bomb
from tests.support.state import read_state, tree_digest


@pytest.fixture
def place(tmp_path, encoder) -> Place:
    made = Place(tmp_path, encoder)
    photos(made.root, 4)
    assert made.run() == {"added": 4, "encoded": 4, "worked": 8}
    return made


def test_an_unchanged_tree_is_not_decoded(place):
    assert place.run() == {"unchanged": 4}
    assert place.run() == {"unchanged": 4}


def test_new_and_changed_files_are_encoded_and_keep_their_id(place):
    before = place.ids()
    photo(place.root / "new.jpg", 50)
    photo(place.root / "p001.jpg", 51)
    assert place.run() == {"added": 1, "changed": 1, "unchanged": 3, "encoded": 2, "worked": 4}
    assert place.ids() == before | {"new.jpg": max(before.values()) + 1}
    name, score = place.nearest(place.root / "p001.jpg")
    assert name == "p001.jpg"
    assert score >= 0.999
    assert place.run() == {"unchanged": 5}


def test_a_change_of_content_that_keeps_the_size_is_seen(place):
    path = place.root / "p001.jpg"
    size = path.stat().st_size
    data = bytearray(encode(noise_picture(60, (8, 8)), quality=20))
    path.write_bytes(bytes(data) + bytes(size - len(data)))
    assert place.run() == {"changed": 1, "unchanged": 3, "encoded": 1, "worked": 2}


def test_a_touched_file_is_not_encoded(place):
    os.utime(place.root / "p001.jpg", ns=(5, 5))
    before = place.ids()
    assert place.run() == {"unchanged": 4}
    assert place.ids() == before
    place.encoder.preprocessed = 0
    assert place.run() == {"unchanged": 4}


def test_a_moved_file_keeps_id_and_vector(place):
    before = place.ids()
    (place.root / "sub").mkdir()
    os.rename(place.root / "p001.jpg", place.root / "sub/other.jpg")
    assert place.run() == {"moved": 1, "unchanged": 3}
    assert place.ids() == {key.replace("p001.jpg", "sub/other.jpg"): value for key, value in before.items()}
    assert place.run() == {"unchanged": 4}


def test_a_renamed_folder_moves_all_in_it(place):
    photos(place.root / "a/b", 3, first=10)
    place.run()
    before = place.ids()
    os.rename(place.root / "a", place.root / "c")
    assert place.run(settings=Settings(threads=2, offline=True, batch_size=1)) == {"moved": 3, "unchanged": 4}
    assert set(place.ids().values()) == set(before.values())


def test_a_move_and_a_new_file_of_the_old_name(place):
    os.rename(place.root / "p001.jpg", place.root / "older.jpg")
    photo(place.root / "p001.jpg", 70)
    assert place.run() == {"added": 1, "changed": 1, "unchanged": 3, "encoded": 1, "worked": 2}
    for name in ("p001.jpg", "older.jpg"):
        assert place.nearest(place.root / name)[0] == name


@pytest.mark.parametrize("batch_size", [1, 64])
def test_swapped_names_swap_vectors(place, batch_size):
    first, second = place.root / "p000.jpg", place.root / "p001.jpg"
    os.rename(first, place.root / "tmp")
    os.rename(second, first)
    os.rename(place.root / "tmp", second)
    os.utime(first, ns=(7, 7))
    os.utime(second, ns=(8, 8))
    found = place.run(settings=Settings(threads=1, offline=True, batch_size=batch_size))
    assert (found["changed"], found["unchanged"]) == (2, 2)
    assert found.get("encoded", 0) == 0 if batch_size > 1 else found.get("encoded", 0) <= 1
    for path in (first, second):
        name, score = place.nearest(path)
        assert name == path.name
        assert score >= 0.999
    assert place.run() == {"unchanged": 4}


def test_copies_are_not_encoded_and_are_both_found(place):
    data = (place.root / "p000.jpg").read_bytes()
    for name in ("copy1.jpg", "copy2.jpg"):
        (place.root / name).write_bytes(data)
    assert place.run() == {"added": 2, "unchanged": 4}
    results = SearchEngine(Library(place.library), encoder=place.encoder).search(image=place.root / "p000.jpg", k=3)
    assert sorted(os.path.basename(hit.path) for hit in results) == ["copy1.jpg", "copy2.jpg", "p000.jpg"]
    assert len({hit.score for hit in results}) == 1
    remove(place.root / "p000.jpg")
    assert place.run() == {"removed": 1, "unchanged": 5}
    assert place.nearest(place.root / "copy1.jpg")[1] >= 0.999


@pytest.mark.parametrize("batch_size", [1, 64])
def test_new_copies_of_new_content_are_encoded_once(tmp_path, encoder, batch_size):
    place = Place(tmp_path, encoder)
    data = encode(noise_picture(1))
    for i in range(12):
        (place.root / f"{i}.jpg").write_bytes(data)
    found = place.run(settings=Settings(threads=2, offline=True, batch_size=batch_size))
    assert (found["added"], found["encoded"], place.encoder.pictures) == (12, 1, 1)
    assert len(paths_found(place.library, encoder)) == 12


def test_deleted_files_go_and_restored_ones_come_back_without_work(place):
    before = place.ids()
    data = (place.root / "p002.jpg").read_bytes()
    remove(place.root / "p002.jpg")
    assert place.run() == {"removed": 1, "unchanged": 3}
    assert len(paths_found(place.library, place.encoder)) == 3
    assert place.run() == {"unchanged": 3}
    (place.root / "back.jpg").write_bytes(data)
    (place.root / "p002.jpg").write_bytes(data)
    assert place.run() == {"added": 2, "unchanged": 3}
    assert place.ids()["p002.jpg"] == before["p002.jpg"]
    assert place.nearest(place.root / "p002.jpg")[1] >= 0.999


def test_a_search_fills_k_past_deleted_files(place):
    photos(place.root, 20, first=10)
    place.run()
    for i in range(10, 25):
        remove(place.root / f"p0{i}.jpg")
    assert place.run()["removed"] == 15
    engine = SearchEngine(Library(place.library), encoder=place.encoder)
    assert len(engine.search("a picture", k=9)) == 9
    assert len(engine.search("a picture", k=99)) == 9


# --- Bad files


BAD = {
    "zero.jpg": (b"", "empty"),
    "zero.txt": (b"", "empty"),
    "blank.txt": (b"  \n\t\n", ""),
    "text.jpg": (b"These are words.\n" * 50, ""),
    "binary.txt": (bytes(range(256)) * 20, ""),
    "bomb.png": (pixel_bomb(), "max_pixels"),
}


def test_bad_files_are_reported_once_and_left_alone_until_they_change(place):
    good = encode(noise_picture(80))
    bad = {name: data for name, (data, _) in BAD.items()} | {"cut.jpg": good[: len(good) // 2]}
    for name, data in bad.items():
        (place.root / name).write_bytes(data)
    small = Settings(threads=2, offline=True, max_pixels=1_000_000)
    assert place.run(settings=small) == {"unchanged": 4, "failed": len(bad)}
    assert set(place.reasons) == set(bad)
    for name, (_, hint) in BAD.items():
        assert place.reasons[name]
        assert hint in place.reasons[name]
    assert place.run(settings=small) == {"unchanged": 4 + len(bad)}
    listed = {os.path.basename(path): reason for path, reason in summarise(Library(place.library)).failed}
    assert listed.keys() == bad.keys()
    assert place.run(settings=small, retry_failed=True) == {"unchanged": 4, "failed": len(bad)}
    large = Settings(threads=2, offline=True, max_pixels=200_000_000)
    assert place.run(settings=large, retry_failed=True)["added"] == 1  # the bomb is no bomb under that cap
    (place.root / "cut.jpg").write_bytes(good)
    remove(place.root / "zero.jpg")
    assert place.run() == {"added": 1, "encoded": 1, "unchanged": 2 + len(bad), "worked": 2}
    listed = {os.path.basename(path) for path, _ in summarise(Library(place.library)).failed}
    assert listed == bad.keys() - {"cut.jpg", "zero.jpg", "bomb.png"}


def test_a_whole_batch_of_bad_files_does_not_stop_the_run(place):
    for i in range(30):
        (place.root / f"bad{i:02d}.jpg").write_bytes(b"x" * (i + 1))
    photo(place.root / "z.jpg", 90)
    assert place.run(settings=Settings(threads=2, offline=True, batch_size=4)) == {
        "added": 1,
        "unchanged": 4,
        "encoded": 1,
        "failed": 30,
        "worked": 2,
    }


def test_a_file_replaced_by_a_bad_one_and_repaired(place):
    path = place.root / "p001.jpg"
    data, before = path.read_bytes(), place.ids()
    path.write_bytes(b"broken")
    assert place.run() == {"unchanged": 3, "failed": 1}
    assert len(paths_found(place.library, place.encoder)) == 3
    assert place.run() == {"unchanged": 4}
    path.write_bytes(data)
    assert place.run() == {"added": 1, "unchanged": 3}
    assert place.ids() == before
    assert not read_state(place.library).failures


def test_the_content_decides_not_the_name(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    (place.root / "png.jpg").write_bytes(encode(noise_picture(1), "PNG"))
    (place.root / "picture.txt").write_bytes(encode(noise_picture(2)))
    (place.root / "words.jpg").write_text("These are words, not a picture.")
    (place.root / "words.txt").write_text("Other words.")
    assert place.run() == {"added": 3, "encoded": 3, "failed": 1, "worked": 5}
    assert set(place.reasons) == {"words.jpg"}
    modalities = {path: entry.modality for path, entry in read_state(place.library).live.items()}
    assert modalities == {"png.jpg": "image", "picture.txt": "image", "words.txt": "text"}


def test_an_encoder_that_trips_over_one_picture_costs_only_that_one(place, encoder):
    poison = encoder.preprocess(noise_picture(33, (64, 48)))[0].tobytes()[:64]

    class Tripping(Counting):
        def encode_pixels(self, batch):
            if any(pixels[0].tobytes().startswith(poison) for pixels in batch):
                raise EncoderError("cannot digest this")
            return super().encode_pixels(batch)

    for seed in (30, 31, 32, 33, 34):
        (place.root / f"q{seed}.png").write_bytes(encode(noise_picture(seed, (64, 48)), "PNG"))
    place.encoder = Tripping(encoder)
    found = place.run()
    assert (found["added"], found["failed"], list(place.reasons)) == (4, 1, ["q33.png"])
    place.encoder = Counting(encoder)
    assert place.run()["added"] == 1  # the file is not to blame for the encoder: tried again


@pytest.mark.parametrize("batch_size", [4, 100])
def test_copies_of_pictures_that_cannot_be_encoded_fail_with_them_and_nothing_else(tmp_path, encoder, batch_size):
    marks = [encoder.preprocess(noise_picture(seed, (64, 48)))[0].tobytes()[:64] for seed in (33, 34)]

    class Tripping(Counting):
        def encode_pixels(self, batch):
            if any(pixels[0].tobytes().startswith(tuple(marks)) for pixels in batch):
                raise EncoderError("cannot digest this")
            return super().encode_pixels(batch)

    place = Place(tmp_path, Tripping(encoder))
    for folder in ("a", "b", "c"):  # copies in the same batch and in the next ones
        (place.root / folder).mkdir(parents=True)
        for seed in (31, 33, 34):
            (place.root / folder / f"q{seed}.png").write_bytes(encode(noise_picture(seed, (64, 48)), "PNG"))
    found = place.run(settings=Settings(threads=1, offline=True, batch_size=batch_size))
    assert (found["added"], found["failed"]) == (3, 6)


def test_an_encoder_that_fails_on_everything_blames_no_file(place, encoder):
    class Failing(Counting):
        def encode_pixels(self, batch):
            raise EncoderError("out of order")

    photos(place.root, 3, first=20)
    before = read_state(place.library)
    place.encoder = Failing(encoder)
    with pytest.raises(EncoderError, match="out of order"):
        place.run()
    assert read_state(place.library).logical() == before.logical()
    place.encoder = Counting(encoder)
    assert place.run() == {"added": 3, "unchanged": 4, "encoded": 3, "worked": 6}


# --- Texts


def test_every_passage_of_a_text_is_found_where_it_stands(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    subjects = ["volcano", "violin", "submarine", "penguin", "bakery"]
    paragraphs = [f"About the {subject}. " + f"Each {subject} has a story of its own. " * 25 for subject in subjects]
    path = place.root / "long.md"
    path.write_text("\n\n".join(paragraphs))
    found = place.run()
    entry = read_state(place.library).live["long.md"]
    assert found["worked"] == len(entry.rows) >= len(subjects)
    engine = SearchEngine(Library(place.library), encoder=encoder)
    with engine.library.read() as snapshot:
        matches = snapshot.matches(Modality.TEXT, list(entry.rows))
    parts = {match.part: match.passage for match in matches.values()}
    assert sorted(parts) == list(range(len(entry.rows)))
    lines = path.read_text().split("\n")
    for passage in parts.values():
        stands = " ".join(lines[passage.line - 1 : passage.end_line])
        assert " ".join(passage.text.split()) in " ".join(stands.split())
        (hit,) = engine.search(passage.text)
        assert hit.score == pytest.approx(1, abs=0.01) and hit.passage.text[:20] == passage.text[:20]
    path.write_text("About the violin, in one line.")
    assert place.run() == {"changed": 1, "encoded": 1, "worked": 1}
    assert [hit.passage.text for hit in SearchEngine(Library(place.library), encoder=encoder).search("violin")] == [
        "About the violin, in one line."
    ]
    path.write_text("\n\n".join(paragraphs))
    assert place.run()["changed"] == 1
    assert len(read_state(place.library).live["long.md"].rows) == len(parts)
    os.rename(path, place.root / "renamed.rst")
    assert place.run() == {"moved": 1}


def test_a_text_without_words_fails_and_shifts_no_vector(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    texts = {"0.md": "---\n====\n", "1.md": "Two dogs run on the beach.", "2.md": "A plate of soup.", "3.txt": "***"}
    for name, text in texts.items():
        (place.root / name).write_text(text)
    assert place.run() == {"added": 2, "encoded": 2, "failed": 2, "worked": 2}
    assert set(place.reasons.values()) == {"it contains no words"}
    engine = SearchEngine(Library(place.library), encoder=encoder)
    for name in ("1.md", "2.md"):
        hit = engine.search(texts[name])[0]
        assert os.path.basename(hit.path) == name and hit.score > 0.7
    assert place.run() == {"unchanged": 4}


# --- Forget


def test_forget_a_file_a_folder_and_a_root_and_index_anew(place):
    photos(place.root / "sub", 2, first=30)
    photos(place.root / "sub-not", 1, first=40)
    (place.root / "sub/bad.jpg").write_bytes(b"no")
    place.run()
    library = Library(place.library)
    old = set(place.ids().values())
    assert forget(library, [str(place.root / "p000.jpg")]) == 1
    assert forget(library, [str(place.root / "sub")]) == 2
    assert not read_state(place.library).failures
    assert len(paths_found(place.library, place.encoder)) == 4
    found = place.run()
    assert (found["added"], found["encoded"], found["failed"]) == (3, 3, 1)
    assert forget(library, [str(place.root)]) == 7
    state = read_state(place.library)
    assert not state.entries
    assert len(state.tombstones["image"]) == state.committed["image"]
    assert summarise(library).roots == ()
    found = place.run()
    assert (found["added"], found["encoded"]) == (7, 7)
    assert not old & set(place.ids().values())
    with pytest.raises(InvalidInputError, match="nothing at"):
        forget(library, [str(place.root.parent / "elsewhere")])


# --- Roots that are out of reach


@pytest.mark.parametrize("how", ["gone", "emptied", "only litter"])
@pytest.mark.parametrize("asked", ["root", "folder in it", "nothing"])
def test_an_offline_root_keeps_its_items_and_they_come_back_at_no_cost(tmp_path, encoder, how, asked):
    place = Place(tmp_path, encoder)
    photos(place.root / "sub", 3)
    photos(tmp_path / "other", 1, first=9)
    place.run(place.root, tmp_path / "other")
    away = tmp_path / "away"
    os.rename(place.root, away)
    if how != "gone":
        place.root.mkdir()
    if how == "only litter":
        (place.root / "lost+found").mkdir()
    wanted = {"root": [place.root], "folder in it": [place.root / "sub"], "nothing": []}[asked]
    report = index(place.library, *wanted, encoder=place.encoder)
    assert report.removed == 0
    assert report.offline == [str(place.root)]
    assert len(paths_found(place.library, encoder)) == 4
    index(place.library, tmp_path / "other", encoder=place.encoder)
    offline = {root.path: root.offline for root in summarise(Library(place.library)).roots}
    assert offline == {str(place.root): True, str(tmp_path / "other"): False}
    remove(place.root) if how != "gone" else None
    os.rename(away, place.root)
    assert place.run(place.root, tmp_path / "other") == {"unchanged": 4}
    assert not any(root.offline for root in summarise(Library(place.library)).roots)


def test_a_folder_deleted_from_a_root_that_is_there_is_removed(place):
    photos(place.root / "sub", 2, first=30)
    place.run()
    remove(place.root / "sub")
    assert place.run(place.root / "sub") == {"removed": 2}


# --- Dry run


def test_a_dry_run_says_what_a_run_does_and_changes_nothing(place):
    photo(place.root / "new.jpg", 50)
    photo(place.root / "p000.jpg", 51)
    os.rename(place.root / "p001.jpg", place.root / "moved.jpg")
    remove(place.root / "p002.jpg")
    photos(place.root.parent / "second", 2, first=60)
    paths = (place.root, place.root.parent / "second")
    before = tree_digest(place.library)
    foretold = place.run(*paths, dry_run=True)
    assert tree_digest(place.library) == before
    assert foretold == {"added": 3, "changed": 1, "moved": 1, "removed": 1, "unchanged": 1}
    done = place.run(*paths)
    assert {key: done[key] for key in foretold} == foretold


def test_a_dry_run_takes_no_touched_copy_for_a_move(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    for name in ("a.jpg", "b.jpg"):
        photo(place.root / name, 1)
    place.run()
    os.utime(place.root / "a.jpg", ns=(1, 1))
    (place.root / "b.jpg").unlink()
    assert place.run(dry_run=True) == {"changed": 1, "removed": 1}
    assert place.run() == {"unchanged": 1, "removed": 1}


def test_a_dry_run_makes_no_library(tmp_path, encoder):
    photos(tmp_path / "photos", 3)
    ran = run_cli("index", "photos", "--dry-run", "--json", "--library", "made/lib", cwd=tmp_path)
    assert ran.code == 0
    assert (ran.json["added"], ran.json["encoded"]) == (3, 0)
    assert "Would be" in ran.err
    assert os.listdir(tmp_path) == ["photos"]


# --- The report, the second run and the pin, through the installed command


@pytest.mark.slow
def test_the_json_report_and_a_second_run_of_the_command(tmp_path, encoder):
    photos(tmp_path / "photos", 3)
    (tmp_path / "photos/bad.jpg").write_bytes(b"no picture")
    command = ("index", "photos", "--library", "lib", "--model", "builtin-small", "--json")
    first = run_cli(*command, cwd=tmp_path)
    assert list(first.json) == REPORT_KEYS
    assert first.out.count(b"\n") == 1
    assert [first.json[key] for key in REPORT_KEYS[:6]] == [3, 0, 0, 0, 0, 3]
    assert [set(entry) for entry in first.json["failed"]] == [{"path", "reason"}]
    assert first.json["failed"][0]["path"] == str(tmp_path / "photos/bad.jpg")
    second = run_cli(*command, cwd=tmp_path)
    assert [second.json[key] for key in REPORT_KEYS[:7]] == [0, 0, 0, 0, 4, 0, []]
    plain = run_cli("index", "--library", "lib", cwd=tmp_path)
    assert plain.out == b""
    assert "Done: 0 added, 0 changed, 0 moved, 0 removed, 4 unchanged, 0 failed" in plain.err


def test_another_encoder_is_refused_and_nothing_changes(place, tmp_path):
    photo(place.root / "new.jpg", 77)
    before = tree_digest(place.library)
    ran = run_cli("index", place.root, "--library", place.library, "--model", "builtin-base")
    assert ran.code == 6
    assert "builtin-small" in ran.err
    assert "builtin-base" in ran.err

    class Newer(Counting):
        fingerprint = "0" * 32

    place_encoder, place.encoder = place.encoder, Newer(place.encoder)
    with pytest.raises(EncoderMismatchError):
        place.run()
    assert tree_digest(place.library) == before
    place.encoder = place_encoder
    assert place.run()["added"] == 1


def test_settings_of_size_are_limits_with_a_reason(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    (place.root / "long.txt").write_text("words " * 1000)
    photo(place.root / "big.jpg", 1, (400, 300))
    settings = Settings(threads=1, offline=True, max_text_bytes=1000, max_picture_bytes=1000)
    assert place.run(settings=settings) == {"failed": 2}
    assert "max_text_bytes" in place.reasons["long.txt"]
    assert "max_picture_bytes" in place.reasons["big.jpg"]


def test_report_is_json_for_any_path(tmp_path, encoder):
    root = os.fsencode(tmp_path / "photos")
    os.makedirs(root)
    Path(os.fsdecode(root + b"/\xff\n.jpg")).write_bytes(b"")
    ran = run_cli("index", "photos", "--library", "lib", "--model", "builtin-small", "--json", cwd=tmp_path)
    assert json.loads(ran.out)["failed"][0]["path"].endswith("/\udcff\n.jpg")


# --- What a review found


def test_a_file_from_a_far_future_is_indexed_and_then_unchanged(place):
    path = photo(place.root / "future.jpg", 90)
    os.utime(path, ns=(0, 13_569_465_600 * 10**9))  # the year 2400; file systems that cannot hold it say less
    assert place.run()["added"] == 1
    assert place.run() == {"unchanged": 5}


def test_excluding_everything_removes_it_and_is_not_offline(place):
    assert place.run(rules=RulesChange(("*",))) == {"removed": 4}
    assert place.offline == []


class Broken(Counting):
    """The real encoder, that spoils one picture of a batch."""

    def encode_pixels(self, batch):
        vectors = super().encode_pixels(batch)
        spoiled = [i for i, pixels in enumerate(batch) if pixels[0][0, 0, 0] == 7]
        vectors[spoiled] = np.nan
        return vectors


def test_a_vector_that_is_none_is_never_stored(place, encoder):
    Image.new("RGB", (64, 64), (7, 7, 7)).save(place.root / "spoiled.png")
    photos(place.root, 3, first=10)
    place.encoder = Broken(encoder)
    assert place.run() == {"added": 3, "encoded": 3, "unchanged": 4, "failed": 1, "worked": place.encoder.work}
    assert "unit length" in place.reasons["spoiled.png"]
    place.encoder = Counting(encoder)
    assert place.run()["added"] == 1, "it is tried again"


@pytest.mark.slow
def test_a_long_text_can_be_stopped_and_is_indexed_whole_later(place):
    (place.root / "long.txt").write_text("\n\n".join(f"Sentence {i} tells of {i * 7} things." * 12 for i in range(700)))
    asked = iter(range(10**6))
    report = index(place.library, place.root, encoder=place.encoder, should_stop=lambda: next(asked) >= 3)
    assert report.interrupted and report.added == 0 and 0 < place.encoder.texts < 700
    assert place.run()["added"] == 1
    assert place.run() == {"unchanged": 5}


def test_an_index_that_cannot_be_written_loses_no_report(place, monkeypatch, caplog):
    def refuse(*_arguments):
        raise AnnIndexError("The IVF-PQ index could not be written.")

    photos(place.root, 1, first=20)
    monkeypatch.setattr(build, "refresh", refuse)
    assert place.run()["added"] == 1
    assert "could not be written" in caplog.text
