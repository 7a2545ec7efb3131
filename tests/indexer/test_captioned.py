"""Captions of pictures: beside them, in tables, inside their files; found, changed, moved, copied, lost and kept."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store.findings import Severity
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.records import Captions, FileRecord, Known
from clipsearch.store.roots import RulesChange
from clipsearch.types import Modality, Passage
from indexer import captioning
from indexer.sources import captions as beside
from tests.support.cli import run_cli
from tests.support.libraries import Counting, Place, compact, index, photo, photos
from tests.support.pictures import noise_picture
from tests.support.state import read_state

GARDEN = "A woman prunes red roses in her garden"
HARBOUR = "Fishing boats in the old harbour"


class Album(Place):
    """A place whose pictures have captions."""

    def run(self, *paths: Path, **options: object) -> dict[str, int]:
        """Index; return the counts that are not zero, with how many pictures and passages were encoded."""
        found = super().run(*paths, **options)
        found.pop("worked", None)
        work = {"pictures": self.encoder.pictures, "passages": self.encoder.texts}
        return found | {name: count for name, count in work.items() if count}

    def captions(self) -> dict[str, str | None]:
        return {path: entry.caption for path, entry in read_state(self.library).live.items()}

    def search(self, *text, **options):
        with SearchEngine(Library(self.library), encoder=self.encoder) as engine:
            return engine.search(*text, **options)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def table(self, name: str, *rows: tuple[str, str]) -> Path:
        return self.write(name, "".join(json.dumps({"image": image, "caption": text}) + "\n" for image, text in rows))


@pytest.fixture
def album(tmp_path, encoder) -> Album:
    made = Album(tmp_path, encoder)
    photos(made.root, 3)
    made.write("p000.txt", GARDEN)
    assert made.run() == {"added": 3, "encoded": 3, "pictures": 3, "passages": 1}
    return made


def test_a_picture_with_a_sidecar_is_one_item_and_found_by_either(album):
    assert album.captions() == {"p000.jpg": GARDEN, "p001.jpg": None, "p002.jpg": None}
    keyword_search = album.search("pruning roses in a garden", k=3)
    assert keyword_search[0].path.endswith("p000.jpg") and keyword_search[0].modality is Modality.TEXT
    assert keyword_search[0].passage.text == GARDEN and keyword_search[0].item.caption == GARDEN
    assert len({hit.item.id for hit in keyword_search}) == len(keyword_search) == 3
    by_picture = album.search(image=album.root / "p000.jpg", modality="image", k=3)
    assert by_picture[0].path.endswith("p000.jpg") and by_picture[0].modality is Modality.IMAGE
    assert by_picture[0].score > 0.99
    assert album.run() == {"unchanged": 3}


def test_a_picture_finds_captions(album):
    album.table("captions.jsonl", ("p001.jpg", HARBOUR), ("p002.jpg", "snow"))
    album.run()
    found = album.search(image=album.root / "p002.jpg", modality="text", k=10)
    assert sorted(hit.passage.text for hit in found) == sorted([GARDEN, HARBOUR, "snow"])
    assert {hit.modality for hit in found} == {Modality.TEXT}


def test_words_of_captions_pass_the_filter_of_captions(album):
    for words, count in (("roses", 1), ("harbour", 0)):
        with SearchEngine(Library(album.library), encoder=album.encoder) as engine:
            assert engine.find(Filter(caption=words)).total == count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "is_caption"),
    [
        ("p001.txt", True),
        ("p001.jpg.txt", True),
        ("p001.TXT", True),
        ("p001.md", False),
        ("p0011.txt", False),
        ("other.txt", False),
    ],
)
def test_a_text_of_the_same_name_is_a_caption_and_any_other_a_text(album, name, is_caption):
    album.write(name, HARBOUR)
    assert album.run()["changed" if is_caption else "added"] == 1
    assert album.captions().get("p001.jpg") == (HARBOUR if is_caption else None)
    assert (name in album.captions()) is not is_caption


def test_a_text_captions_a_picture_of_any_usual_ending(album):
    (album.root / "p000.jpg").rename(album.root / "p000.Jpg")
    album.run()
    assert album.captions() == {"p000.Jpg": GARDEN, "p001.jpg": None, "p002.jpg": None}


def test_a_long_text_beside_a_picture_is_a_text_of_its_own(album):
    album.write("p001.txt", "The tractor needs oil.\n\n" * 600)
    assert album.run()["added"] == 1
    assert album.captions()["p001.jpg"] is None and "p001.txt" in album.captions()


def test_rules_decide_what_is_a_caption(album):
    assert album.run(rules=RulesChange(exclude=("*.txt",)))["changed"] == 1
    assert album.captions() == dict.fromkeys(["p000.jpg", "p001.jpg", "p002.jpg"])
    assert album.run(rules=RulesChange(exclude=("p000.jpg",))) == {
        "added": 1,
        "removed": 1,
        "unchanged": 2,
        "encoded": 1,
        "passages": 1,
    }
    assert sorted(album.captions()) == ["p000.txt", "p001.jpg", "p002.jpg"]


def test_a_changed_caption_replaces_the_old_one_and_costs_no_picture(album):
    before = read_state(album.library).live["p000.jpg"]
    album.write("p000.txt", HARBOUR)
    assert album.run() == {"changed": 1, "unchanged": 2, "passages": 1}
    after = read_state(album.library).live["p000.jpg"]
    assert (after.id, after.rows, after.caption) == (before.id, before.rows, HARBOUR)
    assert [hit.passage.text for hit in album.search("roses", modality="text")] == [HARBOUR]
    (album.root / "p000.txt").unlink()
    assert album.run() == {"changed": 1, "unchanged": 2}
    assert album.captions()["p000.jpg"] is None
    assert not len(album.search("roses", modality="text"))


def test_a_caption_that_is_only_touched_is_not_encoded_again(album):
    os.utime(album.root / "p000.txt", ns=(1, 1))
    assert album.run() == {"unchanged": 3}
    assert album.run() == {"unchanged": 3}


def test_a_changed_picture_keeps_its_caption(album):
    photo(album.root / "p000.jpg", 77)
    assert album.run() == {"changed": 1, "unchanged": 2, "encoded": 1, "pictures": 1, "passages": 1}
    assert album.captions()["p000.jpg"] == GARDEN


def test_tables_caption_what_lies_in_their_folder_and_below(album):
    photo(album.root / "trip" / "day 1" / "ünï.jpg", 5)
    album.table(
        "captions.jsonl",
        ("trip/day 1/ünï.jpg", "one"),
        ("./p001.jpg", "two"),
        ("../photos/p002.jpg", "no"),
        ("gone.jpg", "no"),
    )
    album.write("trip/captions.csv", 'file_name,text\nday 1/u\u0308ni\u0308.jpg,"three, and\nfour"\n')
    assert album.run()["added"] == 1
    assert album.captions() == {
        "p000.jpg": GARDEN,
        "p001.jpg": "two",
        "p002.jpg": None,
        "trip/day 1/ünï.jpg": "three, and\nfour\none",
    }
    assert album.run() == {"unchanged": 4}


def test_several_captions_are_several_vectors_and_one_hit(album):
    album.table(
        "captions.jsonl",
        ("p001.jpg", HARBOUR),
        ("p001.jpg", "seagulls"),
        ("p001.jpg", HARBOUR),
        ("p000.jpg", GARDEN.upper()),
    )
    assert album.run() == {"changed": 1, "unchanged": 2, "passages": 2}
    for text, part in (("boats", 0), ("seagulls", 1)):
        found = album.search(text, k=3)
        assert found[0].path.endswith("p001.jpg") and found[0].part == part
        assert len(found) == 3 == len({hit.item.id for hit in found})
    assert album.captions()["p000.jpg"] == GARDEN, "what is said twice is said once"


def test_only_the_rows_of_a_table_that_changed_are_work(album):
    album.table("captions.jsonl", ("p001.jpg", "one"), ("p002.jpg", "two"))
    assert album.run() == {"changed": 2, "unchanged": 1, "passages": 2}
    album.table("captions.jsonl", ("p002.jpg", "zwei"), ("p001.jpg", "one"))
    assert album.run() == {"changed": 1, "unchanged": 2, "passages": 1}
    (album.root / "captions.jsonl").unlink()
    assert album.run() == {"changed": 2, "unchanged": 1}
    assert album.captions() == {"p000.jpg": GARDEN, "p001.jpg": None, "p002.jpg": None}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ['{"image": "p001.jpg", "caption"', "not json", '{"image": 5, "caption": "x"}'])
def test_a_table_of_which_no_row_can_be_read_is_told_and_loses_no_caption(album, damage):
    album.table("captions.jsonl", ("p001.jpg", "one"))
    album.run()
    (album.root / "captions.jsonl").write_text(damage)
    assert album.run() == {"unchanged": 3, "failed": 1}
    assert "captions.jsonl" in album.reasons and "line 1" in album.reasons["captions.jsonl"]
    assert album.captions()["p001.jpg"] == "one" and album.captions()["p000.jpg"] == GARDEN
    photo(album.root / "p009.jpg", 9)
    assert album.run()["added"] == 1
    album.table("captions.jsonl", ("p001.jpg", "new"), ("p009.jpg", "nine"))
    assert album.run() == {"changed": 2, "unchanged": 2, "passages": 2}
    assert album.captions()["p009.jpg"] == "nine"


def test_a_bad_row_of_a_table_costs_that_row_and_is_noted(album):
    table = album.write("captions.csv", "image,caption\np001.jpg,one\np002.jpg,two, and more\np000.jpg,zero\n")
    report = index(album.library, album.root, encoder=album.encoder)
    assert album.captions() == {"p000.jpg": f"{GARDEN}\nzero", "p001.jpg": "one", "p002.jpg": None}
    note = '1 row cannot be read: line 3: 3 fields for 2 columns. Put "" around a caption with a comma in it'
    assert report.failed == [] and report.notes == [(str(table), note)]


@pytest.mark.slow
def test_a_table_in_a_folder_below_is_read_once_a_run(album):
    """The first folder of a walk is looked at before those above it."""
    for path in album.root.iterdir():
        path.unlink()
    for number in (3, 4):
        photo(album.root / "a" / f"p00{number}.jpg", number)
    table = album.write("a/captions.csv", "image,caption\np003.jpg,three\ngone.jpg,nobody\n")
    report = index(album.library, album.root, encoder=album.encoder)
    assert [path for path, _ in report.notes] == [str(table)]


@pytest.mark.parametrize("is_large", [False, True])
def test_pictures_are_named_as_people_name_them(album, monkeypatch, is_large):
    monkeypatch.setattr(beside, "LARGE", 1 if is_large else 1 << 20)
    for name in ("Sub Folder/bird.jpg", "Sub Folder/fish.jpg", "a/twice.jpg", "b/twice.jpg", "Mu\u0308ll.jpg"):
        photo(album.root / name, len(name))
    rows = ["sub folder\\BIRD.JPG;backslash", "./P001.JPG;case", "M\xfcll.jpg;composed", "nowhere.jpg;nobody",
            "notes.md;a text", "../p002.jpg;outside"]  # fmt: skip
    if not is_large:
        home = album.root.name.upper()
        rows += [f"C:\\Pictures\\{home}\\p002.jpg;drive", "FISH.jpg;bare", "twice.jpg;which of them"]
    album.write("captions.csv", "Image;Caption\n" + "\n".join(rows))
    report = index(album.library, album.root, encoder=album.encoder)
    said = {name.rpartition("/")[2]: text for name, text in album.captions().items() if text}
    expected = {"p000.jpg": GARDEN, "bird.jpg": "backslash", "p001.jpg": "case", "Mu\u0308ll.jpg": "composed"}
    assert said == expected | ({} if is_large else {"p002.jpg": "drive", "fish.jpg": "bare"})
    [(_, note)] = report.notes
    missing = "3 names in it stand for no picture: nowhere.jpg, notes.md, ../p002.jpg"
    several = "; 1 name in it stands for more than one picture: twice.jpg (a/twice.jpg, b/twice.jpg)"
    assert note == missing + ("" if is_large else several)


def test_a_name_is_that_of_the_file_that_is_written_so(album):
    """Where names differ in case alone, on systems that tell them apart."""
    photo(album.root / "x.jpg", 7)
    photo(album.root / "X.JPG", 8)
    if len(list(album.root.glob("[xX].*"))) < 2:
        pytest.skip("this system does not tell x.jpg from X.JPG")
    album.table("captions.jsonl", ("X.JPG", "large"), ("X.jpg", "either"))
    report = index(album.library, album.root, encoder=album.encoder)
    assert (album.captions()["X.JPG"], album.captions()["x.jpg"]) == ("large", None)
    assert "1 name in it stands for more than one picture: X.jpg (" in report.notes[0][1]


def test_a_row_without_a_caption_has_metadata(album):
    album.write("captions.csv", "image,caption,stars\np001.jpg,,5\np002.jpg,two,\n")
    report = index(album.library, album.root, encoder=album.encoder)
    with SearchEngine(Library(album.library), encoder=album.encoder) as engine:
        assert engine.get(str(album.root / "p001.jpg")).metadata == {"stars": 5}
    assert report.notes == [] and album.captions()["p001.jpg"] is None


def test_a_picture_that_lacks_its_end_is_indexed_with_a_note_until_it_is_whole(album):
    whole = (album.root / "p001.jpg").read_bytes()
    (album.root / "p001.jpg").write_bytes(whole[:-2])
    report = index(album.library, album.root, encoder=album.encoder)
    assert [(path, note[:18]) for path, note in report.notes] == [(str(album.root / "p001.jpg"), "its end is missing")]

    def said():
        with SearchEngine(Library(album.library), encoder=album.encoder) as engine:
            return dict(engine.get(str(album.root / "p001.jpg")).metadata)

    assert said() == {"incomplete": report.notes[0][1]}
    album.write("captions.csv", "image,caption,stars\np001.jpg,one,5\n")  # its metadata changes, the picture does not
    assert index(album.library, album.root, encoder=album.encoder).notes == []
    assert said() == {"incomplete": report.notes[0][1], "stars": 5}
    (album.root / "p001.jpg").write_bytes(whole + b"more")
    index(album.library, album.root, encoder=album.encoder)
    assert said() == {"stars": 5}


def test_a_new_picture_below_a_broken_table_has_its_other_captions_until_the_table_is_mended(album):
    album.write("captions.jsonl", "not json")
    described(album.root / "p003.jpg", 3, HARBOUR)
    photo(album.root / "p004.jpg", 4)
    album.write("p004.txt", "Aunt Ada")
    assert album.run() == {"added": 2, "unchanged": 3, "encoded": 2, "pictures": 2, "passages": 2, "failed": 1}
    assert (album.captions()["p003.jpg"], album.captions()["p004.jpg"]) == (HARBOUR, "Aunt Ada")
    album.table("captions.jsonl", ("p004.jpg", "in Lisbon"))
    assert album.run() == {"changed": 1, "unchanged": 4, "passages": 2}
    assert album.captions()["p004.jpg"] == "Aunt Ada\nin Lisbon"
    assert album.run() == {"unchanged": 5}


def test_more_than_anybody_says_of_a_picture_is_cut_and_told(album, caplog, monkeypatch):
    monkeypatch.setattr(captioning, "MAX_CAPTIONS", 20)
    album.table("captions.jsonl", ("p001.jpg", "seagulls"), ("p001.jpg", HARBOUR))
    assert album.run()["changed"] == 1
    assert album.captions()["p001.jpg"] == "seagulls\n" + HARBOUR[:12].strip()
    assert "p001.jpg has captions of more than 20 characters" in caplog.text
    assert album.run() == {"unchanged": 3}


def test_a_text_beside_what_is_no_picture_is_a_text_until_it_is_one(album):
    (album.root / "p003.jpg").write_bytes(b"")
    album.write("p003.txt", HARBOUR)
    assert album.run() == {"added": 1, "unchanged": 3, "encoded": 1, "passages": 1, "failed": 1}
    assert album.search("boats in a harbour", k=1)[0].path.endswith("p003.txt")
    photo(album.root / "p003.jpg", 3)
    assert album.run() == {"added": 1, "removed": 1, "unchanged": 3, "encoded": 1, "pictures": 1, "passages": 1}
    assert album.captions()["p003.jpg"] == HARBOUR and "p003.txt" not in album.captions()


def test_a_text_beside_a_link_to_a_picture_is_a_text(album):
    (album.root / "link.jpg").symlink_to(album.root / "p001.jpg")
    album.write("link.txt", HARBOUR)
    assert album.run()["added"] == 1
    assert "link.txt" in album.captions() and "link.jpg" not in album.captions()


def test_a_sidecar_that_is_no_text_is_told_and_loses_no_caption(album, caplog):
    (album.root / "p000.txt").write_bytes(bytes(range(256)))
    with caplog.at_level(logging.WARNING, "clipsearch"):
        assert album.run() == {"unchanged": 3}
    assert "p000.txt holds the caption of a picture, but cannot be read" in caplog.text
    assert album.captions()["p000.jpg"] == GARDEN
    album.write("p000.txt", HARBOUR)
    assert album.run() == {"changed": 1, "unchanged": 2, "passages": 1}


@pytest.mark.slow
@pytest.mark.parametrize("blank", [b"\n", b"\xef\xbb\xbf\r\n", b"\xff\xfe\n\0", b" \t\0"])
def test_a_blank_sidecar_says_nothing(album, blank, caplog):
    exif = Image.Exif()
    exif[0x010E] = HARBOUR
    noise_picture(3, (64, 48)).save(album.root / "p003.jpg", exif=exif)
    for name in ("p000.txt", "p003.txt"):
        (album.root / name).write_bytes(blank)
    with caplog.at_level(logging.WARNING, "clipsearch"):
        assert album.run() == {"added": 1, "changed": 1, "unchanged": 2, "encoded": 1, "pictures": 1, "passages": 1}
    assert not caplog.records
    assert (album.captions()["p000.jpg"], album.captions()["p003.jpg"]) == (None, HARBOUR)
    assert album.run() == {"unchanged": 4}
    with closing(sqlite3.connect(album.library / "catalog.db")) as db:
        assert db.execute("SELECT count(*) FROM items WHERE caption_stamp IS NULL").fetchone() == (0,)


def test_pictures_that_are_named_together_with_their_sidecars_are_one_piece_of_work(album):
    texts = {"p000": "roses in a vase", "p001": HARBOUR, "p002": "snow on the mountains"}
    for name, text in texts.items():
        album.write(f"{name}.txt", text)
    assert album.run(*sorted(album.root.iterdir())) == {"changed": 3, "passages": 3}
    for name, text in texts.items():
        hit = album.search(text, modality="text", k=3)[0]
        assert hit.path.endswith(f"{name}.jpg") and hit.score > 0.7
    photo(album.root / "p003.jpg", 3)
    album.write("p003.txt", GARDEN)
    assert album.run(album.root / "p003.jpg", album.root / "p003.txt")["added"] == 1
    assert read_state(album.library).committed["text"] == 1 + 3 + 1


def test_a_picture_that_comes_twice_in_a_batch_takes_no_row_of_another(album):
    vectors = album.encoder.encode_texts(["one", "two"])
    with Library(album.library).writer() as writer:
        (root,) = writer.roots("")
        live = read_state(album.library).live
        batch = []
        for name, text, row in (("p001.jpg", "one", 0), ("p001.jpg", "one", 0), ("p002.jpg", "two", 1)):
            captions = Captions("", text, (), (Passage(text, 1, 1),), vectors[row : row + 1])
            batch.append(Known(FileRecord(root.id, name, 1, 1), live[name].content_hash, captions))
        writer.commit(batch)
    for text, name in (("one", "p001.jpg"), ("two", "p002.jpg")):
        hit = album.search(text, modality="text", k=1)[0]
        assert hit.path.endswith(name) and hit.score > 0.7
    owned = [finding for finding in examine(Library(album.library), "") if finding.check == "owners"]
    assert [finding.severity for finding in owned] == [Severity.OK, Severity.OK]


def test_a_table_beside_single_pictures_is_told_once_and_by_its_name(tmp_path, encoder):
    album = Album(tmp_path, encoder)
    paths = photos(album.root, 3)
    table = album.write("captions.csv", "a,b\n1,2\n")
    report = index(album.library, *paths, encoder=encoder)
    assert [path for path, _ in report.failed] == [str(table)]
    table.write_text("image,caption\n" + "".join(f"{path.name},{path.stem}\n" for path in paths))
    assert album.run() == {"changed": 3, "passages": 3}


def test_a_picture_of_many_captions_has_each_once(album):
    said = [f"number {i % 100}" for i in range(300)]
    album.table("captions.jsonl", *(("p001.jpg", text) for text in said))
    album.run()
    assert album.captions()["p001.jpg"].split("\n") == said[:100]


def test_a_picture_that_becomes_a_text_loses_its_keywords(album):
    exif = Image.Exif()
    exif[0x9C9E] = "Lisbon".encode("utf-16-le")
    noise_picture(3, (64, 48)).save(album.root / "odd.jpg", exif=exif)
    (album.root / "odd.jpg").rename(album.root / "odd.txt")
    with SearchEngine(Library(album.library), encoder=album.encoder) as engine:
        for write, count in ((lambda: None, 1), (lambda: album.write("odd.txt", "taxes"), 0)):
            write()
            album.run()
            assert len(engine.find(Filter(tags=("lisbon",)))) == count


def test_a_moved_picture_takes_its_caption_along_without_work(album):
    before = read_state(album.library).live["p000.jpg"]
    (album.root / "new").mkdir()
    for name in ("p000.jpg", "p000.txt"):
        (album.root / name).rename(album.root / "new" / name)
    assert album.run() == {"moved": 1, "unchanged": 2}
    after = read_state(album.library).live["new/p000.jpg"]
    assert (after.id, after.rows, after.caption_rows) == (before.id, before.rows, before.caption_rows)


def test_a_picture_that_moves_away_from_its_caption_loses_it(album):
    (album.root / "p000.jpg").rename(album.root / "q.jpg")
    assert album.run() == {"moved": 1, "added": 1, "unchanged": 2, "encoded": 1, "passages": 1}
    assert album.captions() == {"q.jpg": None, "p000.txt": None, "p001.jpg": None, "p002.jpg": None}


@pytest.mark.parametrize("batch_size", [1, 64])
def test_copies_have_captions_of_their_own(tmp_path, encoder, batch_size):
    from clipsearch.config import Settings

    album = Album(tmp_path, encoder)
    for name in ("a", "b", "c", "d"):
        photo(album.root / f"{name}.jpg", 1)
    for name, text in (("a", GARDEN), ("b", HARBOUR), ("c", GARDEN)):
        album.write(f"{name}.txt", text)
    settings = Settings(threads=1, offline=True, batch_size=batch_size)
    assert album.run(settings=settings)["added"] == 4
    assert album.encoder.pictures == 1
    assert album.captions() == {"a.jpg": GARDEN, "b.jpg": HARBOUR, "c.jpg": GARDEN, "d.jpg": None}
    photo(album.root / "e.jpg", 1)
    album.write("e.txt", HARBOUR)
    assert album.run() == {"added": 1, "unchanged": 4}, "the same picture with the same caption is there"
    assert album.captions()["e.jpg"] == HARBOUR
    found = album.search("boats in a harbour", k=5, collapse=True)
    assert len(found) == 1 and len(found[0].also) == 4


def test_a_deleted_picture_comes_back_with_its_caption_at_no_cost(album):
    photo(album.root / "twin.jpg", 50)
    album.write("twin.txt", HARBOUR)
    album.run()
    kept = {name: (album.root / name).read_bytes() for name in ("p000.jpg", "p000.txt")}
    before = read_state(album.library).live["p000.jpg"]
    for name in kept:
        (album.root / name).unlink()
    assert album.run() == {"removed": 1, "unchanged": 3}
    assert [hit.passage.text for hit in album.search("roses", modality="text")] == [HARBOUR]
    for name, data in kept.items():
        (album.root / name).write_bytes(data)
    assert album.run() == {"added": 1, "unchanged": 3}
    assert read_state(album.library).live["p000.jpg"] == before
    assert album.search("roses", modality="text")[0].passage.text == GARDEN


def test_a_forgotten_picture_takes_its_caption_with_it(album):
    from clipsearch.store.forget import forget

    library = Library(album.library)
    assert forget(library, [str(album.root / "p000.jpg")]) == 1
    library.close()
    assert "p000.jpg" not in album.captions() and not len(album.search("roses", modality="text"))
    assert album.run() == {"added": 1, "unchanged": 2, "encoded": 1, "pictures": 1, "passages": 1}


def described(path: Path, seed: int, text: str) -> Path:
    """Write a JPEG with a description in its EXIF block."""
    exif = Image.Exif()
    exif[0x010E] = text
    noise_picture(seed, (64, 48)).save(path, "JPEG", exif=exif)
    return path


def test_what_a_file_says_itself_is_its_caption_too(album):
    described(album.root / "p003.jpg", 3, HARBOUR)
    described(album.root / "p004.jpg", 4, GARDEN)
    album.write("p004.txt", "Aunt Ada")
    assert album.run() == {"added": 2, "unchanged": 3, "encoded": 2, "pictures": 2, "passages": 3}
    assert album.captions()["p003.jpg"] == HARBOUR and album.captions()["p004.jpg"] == f"Aunt Ada\n{GARDEN}"
    (hit,) = album.search("roses", k=1)
    assert hit.item.caption in (GARDEN, f"Aunt Ada\n{GARDEN}")


def test_a_caption_written_into_a_file_costs_its_picture_and_no_more(album):
    described(album.root / "p001.jpg", 1, HARBOUR)
    assert album.run() == {"changed": 1, "unchanged": 2, "encoded": 1, "pictures": 1, "passages": 1}


def test_a_library_from_before_captions_gets_them_without_encoding_a_picture(album):
    described(album.root / "p003.jpg", 3, HARBOUR)
    album.run()
    with closing(sqlite3.connect(album.library / "catalog.db")) as db:
        db.execute("UPDATE items SET caption_stamp = NULL")
        db.commit()
    assert album.run() == {"unchanged": 4}
    with closing(sqlite3.connect(album.library / "catalog.db")) as db:
        assert db.execute("SELECT count(*) FROM items WHERE caption_stamp IS NULL").fetchone() == (0,)


def test_captions_without_words_are_none(album):
    album.table("captions.jsonl", ("p001.jpg", "--- ... ---"), ("p002.jpg", "…"))
    assert album.run() == {"unchanged": 3}
    assert album.captions()["p001.jpg"] is None
    assert album.run() == {"unchanged": 3}


def test_numbers_beside_a_picture_are_no_caption(album):
    album.write("p001.txt", "0 0.716797 0.395833 0.216406 0.147222\n")
    assert album.run() == {"unchanged": 3}
    assert album.captions()["p001.jpg"] is None and "p001.txt" not in album.captions()
    assert album.run() == {"unchanged": 3}


def test_hostile_captions_are_kept_as_text(album):
    album.write("captions.jsonl", json.dumps({"image": "p001.jpg", "caption": "a\0b \ud800 c\r\nd \x1b[31m"}) + "\n")
    assert album.run()["changed"] == 1
    assert album.captions()["p001.jpg"] == "a b ? c\nd \x1b[31m"
    assert album.run() == {"unchanged": 3}
    shown = run_cli("query", "--library", album.library, "c d", "--modality", "text")
    assert b"\x1b" not in shown.out


def test_an_encoder_that_trips_over_one_caption_costs_only_that_one(album, caplog):
    album.table("captions.jsonl", ("p001.jpg", "poison"), ("p002.jpg", HARBOUR))
    working = album.encoder.encode_texts

    def encode(texts):
        if "poison" in texts:
            raise RuntimeError("it broke")
        return working(texts)

    album.encoder.encode_texts = encode
    assert album.run() == {"changed": 1, "unchanged": 2, "passages": 1}
    assert album.captions()["p002.jpg"] == HARBOUR and album.captions()["p001.jpg"] is None
    assert "p001.jpg cannot be encoded: it broke" in caplog.text
    album.encoder.encode_texts = working
    assert album.run()["changed"] == 1
    assert album.captions()["p001.jpg"] == "poison"


def test_a_single_picture_as_root_has_its_caption_and_a_caption_leads_to_its_picture(album, tmp_path, encoder):
    alone = Album(tmp_path / "alone", encoder)
    photo(alone.root / "a.jpg", 1)
    alone.write("a.txt", GARDEN)
    assert alone.run(alone.root / "a.jpg")["added"] == 1
    assert alone.captions() == {"": GARDEN}
    album.write("p000.txt", HARBOUR)
    assert album.run(album.root / "p000.txt") == {"changed": 1, "passages": 1}
    assert album.captions()["p000.jpg"] == HARBOUR and "p000.txt" not in album.captions()
    album.write("p000.txt", GARDEN)
    assert album.run(album.root / "p000.jpg") == {"changed": 1, "passages": 1}


def test_a_dry_run_counts_changed_captions(album):
    album.write("p001.txt", HARBOUR)
    assert album.run(dry_run=True) == {"changed": 1, "unchanged": 2}
    assert album.captions()["p001.jpg"] is None


@pytest.mark.slow
def test_the_command_shows_the_picture_and_what_matched(album):
    library = ("--library", album.library)
    shown = run_cli("query", *library, "roses in a garden", "-k", "1").out.decode()
    assert "p000.jpg\n" in shown and GARDEN in shown
    (hit,) = run_cli("query", *library, "roses in a garden", "-k", "1", "--json").json["hits"]
    assert (hit["modality"], hit["item_modality"]) == ("text", "image")
    assert hit["part"] == {"index": 0, "line": 1, "end_line": 1, "text": GARDEN}
    assert run_cli("query", *library, "roses in a garden", "-k", "1", "--paths").out.decode().count("p000.jpg") == 1


@pytest.mark.slow
def test_compaction_keeps_captions(album):
    for i in range(3):
        album.write("p000.txt", f"{GARDEN} {i}")
        album.run()
    before = read_state(album.library).logical()
    compact(Library(album.library), Modality.TEXT)
    state = read_state(album.library)
    assert state.logical() == before and state.committed["text"] == 1


def test_keywords_of_a_file_are_words_and_tags_of_its_picture(album):
    exif = Image.Exif()
    exif[0x9C9E] = "Lisbon;Ada Lovelace".encode("utf-16-le")
    noise_picture(3, (64, 48)).save(album.root / "p003.jpg", exif=exif)
    album.run()
    assert album.captions()["p003.jpg"] == "Lisbon, Ada Lovelace"
    photo(album.root / "p003.jpg", 3)
    with SearchEngine(Library(album.library), encoder=album.encoder) as engine:
        for filters in (Filter(tags=("ada lovelace",)), Filter(caption="lovelace")):
            (item,) = engine.find(filters)
            assert item.path.endswith("p003.jpg")
        album.run()
        assert not len(engine.find(Filter(tags=("ada lovelace",)))), "the keywords went with the file that had them"


def test_other_columns_of_a_table_are_metadata_that_follows_the_table(tmp_path, encoder):
    photo(tmp_path / "photos" / "a.jpg", 1)
    photo(tmp_path / "photos" / "b.jpg", 2)
    table = tmp_path / "photos" / "captions.csv"
    table.write_text("image,caption,price,brand\na.jpg,a cat,12,acme\nb.jpg,a dog,,zoo\n")
    counting = Counting(encoder)
    index(tmp_path / "lib", tmp_path / "photos", encoder=counting)
    with SearchEngine(Library(tmp_path / "lib"), encoder=encoder) as engine:
        first, second = (str(tmp_path / "photos" / name) for name in ("a.jpg", "b.jpg"))
        assert engine.get(first).metadata == {"price": 12, "brand": "acme"}
        assert engine.get(second).metadata == {"brand": "zoo"}
        engine.update(first, metadata={"brand": "mine", "seen": True})
        done = counting.work
        table.write_text("image,caption,price,brand\na.jpg,a cat,13.5,acme\nb.jpg,a dog,,\n")
        index(tmp_path / "lib", tmp_path / "photos", encoder=counting)
        assert engine.get(first).metadata == {"price": 13.5, "brand": "mine", "seen": True}
        assert engine.get(second).metadata == {} and counting.pictures + counting.texts <= done


def test_a_large_table_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    from clipsearch.store import caption_table
    from indexer.sources import captions

    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(captions, "LARGE", 10)
    monkeypatch.setattr(caption_table, "SETTLED", -1.0)
    reads = []
    read = captions.read_pairs
    monkeypatch.setattr(captions, "read_pairs", lambda *args: (reads.append(args) or pair for pair in read(*args)))
    table = tmp_path / "captions.csv"

    def said(name):
        found = captions.FolderCaptions(lambda path: str(tmp_path / path), lambda path: True)
        source = found.of(name, [name])
        return source.texts, source.metadata, found.unreadable

    table.write_text("image,caption,price\na.jpg,a dog,1\nb.jpg,a cat,\na.jpg,a wolf,2\na.jpg,a dog,3\n")
    assert said("a.jpg") == (("a dog", "a wolf"), '{"price":3}', [])
    done = len(reads)
    assert said("b.jpg")[0] == ("a cat",) and said("c.jpg")[0] == () and len(reads) == done
    monkeypatch.setattr(captions, "LARGE", 1 << 20)
    assert said("a.jpg") == (("a dog", "a wolf"), '{"price":3}', [])
    monkeypatch.setattr(captions, "LARGE", 10)
    table.write_text("image,caption\na.jpg,a fox\n")
    assert said("a.jpg")[0] == ("a fox",)
    table.write_text("image,caption\na.jpg,a fox\nb.jpg\n")
    assert said("a.jpg")[0] == ("a fox",)
    table.write_text("image,caption\nb.jpg\n")
    texts, _, unreadable = said("a.jpg")
    assert texts == () and "line 2" in unreadable[0][1]
    (copy,) = (tmp_path / "cache" / "captions").glob("*")
    copy.write_bytes(b"no database")
    table.write_text("image,caption\na.jpg,a fox\n")
    assert said("a.jpg")[0] == ("a fox",)
