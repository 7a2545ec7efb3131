"""Documents and the pictures of extras in a library: indexed, found by words and by look, shown, and survived."""

import json
import os
import sys
from contextlib import closing

import pytest
from PIL import Image

from clipsearch.config import Settings
from clipsearch.errors import DocumentError
from clipsearch.gallery.tiles import read_thumbnail, to_tiles
from clipsearch.media import extras
from clipsearch.present import to_payload, to_table
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.types import Media, Modality, PartPosition
from indexer import isolation
from indexer.documents import MAX_PICTURES, pages_drawn
from indexer.isolation import AutomaticReader, IsolatedReader, make_reader
from indexer.worker_process import Limits, worker_command
from tests.support.documents import make_docx, make_epub, make_pdf, make_scan
from tests.support.libraries import Counting, index, photo
from tests.support.pictures import noise_picture
from tests.support.raws import make_dng

LIMITS = Limits(20, 1 << 30)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, encoder):
    """A folder of documents and RAW files, and its library."""
    root = tmp_path_factory.mktemp("shelf") / "files"
    root.mkdir()
    lines = ["Quarterly revenue of the bakery", "Our cats sleep on the sofa", "Recipes for apple pie"]
    (root / "report.pdf").write_bytes(make_pdf(lines))
    (root / "scan.pdf").write_bytes(make_scan(Image.new("RGB", (300, 400), "navy"), noise_picture(2, (300, 400))))
    (root / "dogs.docx").write_bytes(make_docx("A dog plays in the snow"))
    (root / "rockets.html").write_text("<title>Rockets</title><p>The rocket flew to the moon.</p>")
    (root / "trees.epub").write_bytes(make_epub("<p>An oak in the forest</p>", "<p>Rain in spring</p>"))
    (root / "locked.pdf").write_bytes(make_pdf(["a"], encrypt=True))
    (root / "IMG_1.dng").write_bytes(make_dng(noise_picture(5, (120, 80))))
    (root / "IMG_2.DNG").write_bytes(make_dng(noise_picture(6, (120, 80))))
    photo(root / "IMG_2.JPG", 6)
    counting = Counting(encoder)
    report = index(root.parent / "lib", root, encoder=counting)
    return root, root.parent / "lib", report, counting


def search(library, encoder, *terms, **options):
    with closing(Library(library)) as opened, SearchEngine(opened, encoder=encoder) as engine:
        return engine.search(*terms, **options)


def test_an_empty_document_is_not_the_one_before_it(encoder):
    with IsolatedReader(LIMITS) as reader:
        with reader.document(make_pdf(["a recipe"])) as document:
            assert list(document.texts()) == ["a recipe"]
        with pytest.raises(DocumentError, match="empty file"), reader.document(b""):
            pass


def test_a_run_after_it_finds_nothing_to_do(shelf, encoder):
    root, library, _, _ = shelf
    report = index(library, root, encoder=encoder, dry_run=True)
    assert (report.unchanged, report.added, report.changed) == (8, 0, 0)  # with the locked one


def test_each_document_is_one_item_and_a_locked_one_has_a_reason(shelf):
    _, _, report, _ = shelf
    assert (report.added, report.beside) == (7, 1)
    assert [(os.path.basename(path), reason) for path, reason in report.failed] == [
        ("locked.pdf", "a PDF that is protected by a password")
    ]


@pytest.mark.parametrize(
    ("words", "name", "page"),
    [
        ("cats sleep on the sofa", "report.pdf", 2),
        ("recipes for apple pie", "report.pdf", 3),
        ("a dog plays in the snow", "dogs.docx", None),
        ("the rocket flew to the moon", "rockets.html", None),
        ("rain in spring", "trees.epub", None),
    ],
)
def test_a_document_is_found_by_its_words(shelf, encoder, words, name, page):
    hit = search(shelf[1], encoder, words, modality="text")[0]
    assert os.path.basename(hit.path) == name and hit.item.media.media is Media.DOCUMENT
    assert hit.position == (page and PartPosition(page=page))
    assert words.split()[-1] in hit.passage.text.lower()


def test_a_page_is_found_by_its_look_and_shown(shelf, encoder, tmp_path):
    noise_picture(2, (300, 400)).save(tmp_path / "page.png")
    found = search(shelf[1], encoder, image=tmp_path / "page.png", k=3, modality="image")
    hit = found[0]
    assert (os.path.basename(hit.path), hit.position, hit.modality) == (
        "scan.pdf",
        PartPosition(page=2),
        Modality.IMAGE,
    )
    assert hit.score > 0.9 and hit.item.media.pages == 2
    assert "scan.pdf (p. 2)" in to_table(found, str(shelf[0]))
    tile = to_tiles(to_payload(found)["hits"])[0]
    assert tile.position == PartPosition(page=2)
    drawn = read_thumbnail(tile.path, (200, 200), Settings(), tile.position).resize((30, 40))
    wanted, other = noise_picture(2, (300, 400)).resize((30, 40)), Image.new("RGB", (30, 40), "navy")
    assert difference(drawn, wanted) < difference(drawn, other) / 3


def difference(one, other):
    return sum(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))


def test_a_page_of_a_tiff_is_found_and_shown(tmp_path, encoder):
    (tmp_path / "files").mkdir()
    first, *others = [Image.new("RGB", (90, 120), "navy"), noise_picture(4, (90, 120)), noise_picture(8, (20, 30))]
    first.save(tmp_path / "files" / "fax.tif", save_all=True, append_images=others)
    Image.new("RGB", (90, 120), "red").save(tmp_path / "files" / "single.tif")
    report = index(tmp_path / "lib", tmp_path / "files", encoder=encoder)
    noise_picture(4, (90, 120)).save(tmp_path / "page.png")
    hit = search(tmp_path / "lib", encoder, image=tmp_path / "page.png", k=3)[0]
    assert report.added == 2 and hit.position == PartPosition(page=2) and hit.score > 0.999
    assert hit.item.media.pages == 2 and hit.item.picture.width == 90  # the third is a small version
    drawn = read_thumbnail(hit.path, (90, 120), Settings(), hit.position)
    small, navy = noise_picture(4, (90, 120)).resize((30, 40)), Image.new("RGB", (30, 40), "navy")
    assert difference(drawn.resize((30, 40)), small) < difference(small, navy) / 20


def test_a_raw_is_found_and_one_beside_its_jpeg_counts_once(shelf, encoder):
    hits = search(shelf[1], encoder, image=shelf[0] / "IMG_1.dng", k=20)
    names = [os.path.basename(hit.path) for hit in hits]
    assert names[0] == "IMG_1.dng" and hits[0].score > 0.999
    assert "IMG_2.JPG" in names and "IMG_2.DNG" not in names


def test_a_second_run_encodes_nothing(shelf):
    root, library, _, counting = shelf
    before = counting.work
    report = index(library, root, encoder=counting)
    assert (report.unchanged, report.added, counting.work) == (8, 0, before)
    (root / "IMG_2.JPG").rename(root / "other.jpg")
    report = index(library, root, encoder=counting)
    assert (report.added, report.moved, report.beside) == (1, 1, 0)
    (root / "other.jpg").rename(root / "IMG_2.JPG")
    index(library, root, encoder=counting)


def test_without_an_extra_files_are_passed_over_and_none_fails(shelf, tmp_path, encoder, monkeypatch):
    for cached in (extras.extra_suffixes, extras.picture_suffixes):
        cached.cache_clear()
    monkeypatch.setattr(extras, "has_extra", lambda name: False)
    try:
        report = index(tmp_path / "lib", shelf[0], encoder=encoder)
    finally:
        for cached in (extras.extra_suffixes, extras.picture_suffixes):
            cached.cache_clear()
    assert (report.added, report.failed) == (1, [])
    assert extras.missing_extras(report.passed_over) == {"documents": 6, "raw": 2}


def test_pages_that_get_a_picture_are_bounded():
    assert pages_drawn(3) == [1, 2, 3]
    drawn = pages_drawn(2000)
    assert (drawn[0], drawn[-1], len(set(drawn))) == (1, 2000, MAX_PICTURES)


class Square:
    """What pages are prepared for."""

    picture_side = 32

    def preprocess(self, picture):
        return picture.size


def test_two_thousand_pages_are_read_page_by_page():
    data = make_pdf([f"page {number}" for number in range(1, 2001)])
    with IsolatedReader(LIMITS) as reader, reader.document(data) as document:
        assert list(document.texts())[1999] == "page 2000" and document.pages == 2000
        assert min(document.prepare(2000, Square(), max_pixels=10**6)) == 45


CRASHING = """
import os, sys
from indexer import isolation_worker
whole = isolation_worker.open_document
def open_document(data):
    if b"crash" in data:
        os.abort()
    while b"hang" in data:
        pass
    return whole(data)
isolation_worker.open_document = open_document
isolation_worker.main()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="worker processes are POSIX only")
def test_a_document_that_crashes_its_reader_costs_one_file(tmp_path, encoder, monkeypatch):
    def command(limits):
        start = f"import sys; sys.path[:] = {sys.path!r}\n"
        return [sys.executable, "-c", start + CRASHING, str(limits.seconds), str(limits.memory)]

    monkeypatch.setattr(isolation, "worker_command", command)
    for name in ("crash", "fine", "hang"):
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / f"{name}.pdf").write_bytes(make_pdf([f"this is {name}"]))
    report = index(tmp_path / "lib", tmp_path / "files", encoder=encoder, settings=Settings(decode_seconds=1))
    reasons = {os.path.basename(path): reason for path, reason in report.failed}
    assert report.added == 1 and reasons["crash.pdf"].startswith("the worker process ended while it read it")
    assert reasons["hang.pdf"].startswith("took longer than 1 s")


def test_documents_are_left_to_workers_on_any_machine(monkeypatch):
    reader = make_reader(Settings(threads=1))
    assert isinstance(reader, AutomaticReader)
    with closing(reader), reader.document(make_pdf(["a cat"])) as document:
        assert type(document).__name__ == "IsolatedPages" and list(document.texts()) == ["a cat"]
    with closing(make_reader(Settings(isolate=False))) as direct, direct.document(make_pdf(["a cat"])) as document:
        assert type(document).__name__ == "DirectPages" and list(document.texts()) == ["a cat"]


def test_a_worker_reads_every_kind_without_opening_a_file():
    with IsolatedReader(LIMITS, worker_command(LIMITS)) as reader:
        for data, text in (
            (make_pdf(["a cat"]), "a cat"),
            (make_docx("a cat"), "a cat"),
            (make_epub("a cat"), "a cat"),
            ("<p>Привет, как дела? Это русский текст.</p>".encode("koi8-r"), None),
        ):
            with reader.document(data) as document:
                assert text is None or list(document.texts()) == [text]
        picture, info, _ = reader.decode(make_dng(noise_picture(5, (120, 80))), min_side=32, max_pixels=10**6)
        assert (info.width, info.height) == (120, 80) and picture.mode == "RGB"


@pytest.mark.slow
def test_the_text_of_a_scan_is_recognised_with_its_page(tmp_path, encoder):
    pytest.importorskip("rapidocr")
    from tests.support.signs import save_sign

    save_sign(tmp_path / "sign.png", "EXIT 12")
    (tmp_path / "files").mkdir()
    with Image.open(tmp_path / "sign.png") as sign:
        blank = Image.new("RGB", sign.size, "white")
        (tmp_path / "files" / "scan.pdf").write_bytes(make_scan(blank, sign.convert("RGB")))
    index(tmp_path / "lib", tmp_path / "files", encoder=encoder, ocr=True)
    hit = search(tmp_path / "lib", encoder, "EXIT 12", modality="text")[0]
    assert hit.position == PartPosition(page=2) and "EXIT 12" in json.dumps(hit.passage.text)
