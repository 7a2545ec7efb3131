"""Items of several parts, such as films and documents: many rows, one item, one hit, and where in it that lies."""

import numpy as np
import pytest

from clipsearch import present
from clipsearch.query.engine import SearchEngine
from clipsearch.store import compaction, damage, repairs
from clipsearch.store.library import Library
from clipsearch.store.records import Encoded, FileRecord, Known
from clipsearch.types import EncoderPin, Media, MediaInfo, Modality, PartPosition, Passage
from tests.support.catalogs import raw_catalog
from tests.support.vectors import DIM, unit

TIMES = (0.0, 12.5, 754.0, 3700.25)
FILM = MediaInfo(Media.FILM, duration=4000.5)
DOCUMENT = MediaInfo(Media.DOCUMENT, pages=3)


def film(root, name, rows, number=1):
    positions = tuple(PartPosition(time=time) for time in TIMES[: len(rows)])
    record = FileRecord(root, name, 10, 10)
    return Encoded(record, f"{number:040x}", Modality.IMAGE, rows, media=FILM, positions=positions)


def document(root, name, pages, words, number=2):
    positions = tuple(PartPosition(page=page) for page in range(1, len(pages) + 1))
    passages = tuple(Passage(f"words of page {i}", 1, 1, PartPosition(page=i)) for i in range(1, len(words) + 1))
    return Encoded(
        FileRecord(root, name, 20, 20), f"{number:040x}", Modality.IMAGE, pages,
        passages=passages, media=DOCUMENT, positions=positions, passage_vectors=words,
    )  # fmt: skip


@pytest.fixture
def shelf(tmp_path):
    """A film of four frames, a document of three pages with their words, and twelve pictures; the vectors of all."""
    rows = unit(22, seed=4, noise=3.0)
    library = Library.create(tmp_path / "lib")
    library.pin(EncoderPin("vectors", "0" * 40, DIM))
    with library.writer() as writer:
        root = writer.add_root("", str(tmp_path / "rows")).root_id
        pictures = [
            Encoded(FileRecord(root, f"{i}.jpg", 1, 1), f"{i:040x}", Modality.IMAGE, rows[i][None])
            for i in range(10, 22)
        ]
        writer.commit([film(root, "a.mp4", rows[:4]), document(root, "b.pdf", rows[4:7], rows[7:10]), *pictures])
    yield library, root, rows
    library.close()


def best(library, vector, **options):
    with library.read():
        return SearchEngine(library).search(vector=vector, k=30, **options)


def test_a_film_is_one_hit_by_its_best_frame(shelf):
    library, _, rows = shelf
    for number, time in enumerate(TIMES):
        found = best(library, rows[number])
        assert [hit.path.endswith("a.mp4") for hit in found].count(True) == 1
        assert found[0].path.endswith("a.mp4") and found[0].score > 0.99
        assert (found[0].part, found[0].position) == (number, PartPosition(time=time))
        assert found[0].item.media == FILM


def test_a_page_is_found_by_its_look_and_by_its_words(shelf):
    library, _, rows = shelf
    for page in (1, 2, 3):
        by_look, spoken = best(library, rows[3 + page])[0], best(library, rows[6 + page])[0]
        assert by_look.position == spoken.position == PartPosition(page=page)
        assert (by_look.modality, spoken.modality) == (Modality.IMAGE, Modality.TEXT)
        assert spoken.passage.text == f"words of page {page}" and by_look.item.media == DOCUMENT
        assert {by_look.item.id} == {spoken.item.id}


def test_words_of_a_document_are_found_as_keywords(shelf):
    library, _, _ = shelf
    with library.read() as snapshot:
        (found,) = snapshot.keyword_searches(["words of page 2"], None, 10)
    assert len(found.ids) == 1


def test_collapse_leaves_films_and_documents_alone(shelf):
    library, _, rows = shelf
    found = best(library, rows[0], collapse=True)
    assert sum(hit.path.endswith("a.mp4") for hit in found) == 1 and found[0].also == ()


def test_a_copy_has_all_parts(shelf):
    library, root, rows = shelf
    with library.writer() as writer:
        done = writer.commit([Known(FileRecord(root, "c.mp4", 10, 11), f"{1:040x}")])
    assert done.counts.added == 1 and done.counts.encoded == 0
    hits = [hit for hit in best(library, rows[2]) if hit.path.endswith(".mp4")]
    assert [hit.position for hit in hits] == [PartPosition(time=754.0)] * 2
    assert [hit.item.media for hit in hits] == [FILM] * 2


def test_a_film_that_became_a_picture_has_one_part(shelf):
    library, root, rows = shelf
    picture = Encoded(FileRecord(root, "a.mp4", 11, 11), f"{9:040x}", Modality.IMAGE, rows[1][None])
    with library.writer() as writer:
        writer.commit([picture])
    hit = best(library, rows[1])[0]
    assert (hit.item.media, hit.position, hit.part) == (None, None, 0)
    assert best(library, rows[2])[0].score < 0.99


def test_parts_survive_a_compaction_and_pass_their_checksums(shelf):
    library, root, rows = shelf
    with library.writer() as writer:
        writer.commit([film(root, "d.mp4", rows[:4], number=3)])
        writer.commit([film(root, "d.mp4", unit(4, seed=8), number=4)])
        prepared = compaction.prepare(writer, Modality.IMAGE)
        compaction.commit(writer, prepared, None)
    assert not damage.find_damage(library)
    assert best(library, rows[3])[0].position == PartPosition(time=TIMES[3])


@pytest.mark.parametrize("value", ["t=99.000", None, "page=1"])
def test_a_position_that_was_changed_is_damage(shelf, value):
    library, _, rows = shelf
    with raw_catalog(library.folder) as db:
        db.execute("UPDATE vectors SET position = ? WHERE position = 't=754.000'", (value,))
        db.commit()
    found = damage.find_damage(library)
    assert len(found.rows[Modality.IMAGE]) == 1
    assert best(library, rows[2])[0].score < 0.99


def test_what_an_item_is_can_be_mended_from_its_parts(shelf):
    library, _, rows = shelf
    with raw_catalog(library.folder) as db:
        db.execute("UPDATE item_media SET digest = digest + 1")
        db.commit()
    found = damage.find_damage(library)
    assert found.contents == 2
    with library.writer(repair=True) as writer:
        repairs.drop_notes(writer, found)
    assert not damage.find_damage(library)
    assert best(library, rows[0])[0].item.media == MediaInfo(Media.FILM)
    assert best(library, rows[5])[0].item.media == DOCUMENT


def test_parts_are_listed_in_their_order(shelf):
    library, _, rows = shelf
    ids = {name: hit.item.id for hit in best(library, rows[0]) if (name := hit.path.rsplit("/", 1)[-1])}
    with library.read() as snapshot:
        parts = snapshot.picture_parts(ids["a.mp4"])
        assert [(part.number, part.position.time) for part in parts] == list(enumerate(TIMES))
        assert [part.position.page for part in snapshot.picture_parts(ids["b.pdf"])] == [1, 2, 3]
        assert snapshot.picture_parts(ids["10.jpg"]) == []
        assert ids["a.mp4"] not in snapshot.rows_of_pictures([*ids.values()])
        assert len([*snapshot.pictures()]) == 12


def test_an_answer_says_where(shelf):
    library, _, rows = shelf
    film_hits, page_hits = best(library, rows[3]), best(library, rows[8])
    shown = present.to_payload(film_hits)["hits"][0]
    assert shown["position"] == {"index": 3, "time": 3700.25, "text": "1:01:40"} and shown["part"] is None
    assert "position" not in present.to_payload(film_hits)["hits"][-1] or film_hits[-1].position
    assert present.to_payload(page_hits)["hits"][0]["position"] == {"index": 1, "page": 2, "text": "p. 2"}
    assert "a.mp4 (1:01:40)" in present.to_table(film_hits, "/")
    item = present.item_payload(film_hits[0].item)
    assert (item["media"], item["duration"], item["pages"]) == ("film", 4000.5, None)


def test_more_like_a_film_looks_at_all_its_frames(shelf):
    library, _, rows = shelf
    ids = {hit.path.rsplit("/", 1)[-1]: hit.item.id for hit in best(library, rows[0])}
    from clipsearch.query.terms import Indexed

    found = SearchEngine(library).search(Indexed(ids["a.mp4"]), k=5)
    mean = rows[:4].mean(axis=0)
    expected = max(np.float16(rows[10:]).astype(np.float32) @ (mean / np.linalg.norm(mean)))
    pictures = [hit for hit in found if hit.item.media is None]
    assert pictures[0].score == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize(
    ("position", "shown"),
    [
        (PartPosition(time=0.0), "0:00"),
        (PartPosition(time=59.99), "0:59"),
        (PartPosition(time=754.5), "12:34"),
        (PartPosition(time=3600.0), "1:00:00"),
        (PartPosition(time=36_065.0), "10:01:05"),
        (PartPosition(page=12), "p. 12"),
    ],
)
def test_a_position_is_shown_as_people_write_it(position, shown):
    assert str(position) == shown
