"""Documents of every format: their texts, their pages, and what hostile ones come to."""

import zipfile
from io import BytesIO

import pytest
from PIL import Image

from clipsearch.errors import DocumentError, MediaError, PictureError
from clipsearch.media.documents.archive import Archive
from clipsearch.media.documents.base import MAX_PAGE_TEXT, MAX_PAGES
from clipsearch.media.documents.opening import is_document, open_document
from tests.support.documents import make_docx, make_epub, make_pdf, make_scan, make_zip

PIXELS = 10**7


def texts(data):
    document = open_document(data)
    return [document.text(page) for page in range(1, document.pages + 1)]


def test_a_pdf_has_texts_and_pictures_of_its_pages():
    document = open_document(make_pdf(["a cat", b"1 0 0 rg 0 0 595 842 re f", "un caf\xe9"]))
    assert (document.pages, document.has_pages, document.can_draw) == (3, True, True)
    assert [document.text(page) for page in (1, 2, 3)] == ["a cat", "", "un café"]
    picture = document.render(2, 200, PIXELS)
    assert 200 <= picture.width <= 201 and picture.height > 280 and picture.getpixel((100, 100)) == (255, 0, 0)
    assert document.render(1, 200, PIXELS).getpixel((5, 5)) == (255, 255, 255)


def test_a_scan_has_pictures_alone():
    document = open_document(make_scan(Image.new("RGB", (60, 90), "blue")))
    assert document.text(1) == "" and document.render(1, 50, PIXELS).getpixel((9, 9))[2] > 200


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"%PDF-1.4 junk", "damaged PDF"),
        (make_pdf(["a"], encrypt=True), "protected by a password"),
        (make_pdf([]), "without pages"),
        (b"PK\x03\x04 junk", "archive cannot be read"),
        (make_zip({"a.txt": "a"}), "neither a Word document nor a book"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old format"),
        (b"\0\1\2\3", "not a text file"),
        (b"<html><script>x</script></html>", "no words"),
        (make_zip({"word/document.xml": "<w:document"}), "damaged document"),
        (make_zip({"word/document.xml": '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'}), "document type"),
        (make_epub("a", encrypted=["OEBPS/chapter 1.xhtml"]), "encrypted"),
        (make_epub(), "without chapters"),
    ],
)
def test_what_cannot_be_read_has_a_reason(data, reason):
    with pytest.raises(DocumentError, match=reason):
        open_document(data)


@pytest.mark.parametrize("box", [(14_400, 14_400), (1e6, 1e6), (14_400, 1), (0.001, 14_400), (3.4e38, 3.4e38)])
def test_a_huge_page_takes_no_more_than_is_allowed(box):
    document = open_document(make_pdf(["a"], box=box))
    try:
        picture = document.render(1, 300, 10**6)
    except PictureError:
        return
    assert max(picture.size) <= 4096 and picture.width * picture.height <= 10**6


def test_endless_text_and_endless_pages_are_bounded():
    endless = b"BT /F1 1 Tf 1 0 0 1 9 700 Tm " + b"(" + b"endless words " * 50_000 + b") Tj ET"
    assert 1000 < len(texts(make_pdf([endless]))[0]) <= MAX_PAGE_TEXT
    assert open_document(make_pdf(["a", "b"], count=10**9)).pages <= MAX_PAGES


def test_a_deep_tree_of_pages_ends():
    kids = b"".join(b"%d 0 obj<</Type/Pages/Count 1/Kids[%d 0 R]>>endobj\n" % (n, n + 1) for n in range(2, 5000))
    data = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n" + kids + b"trailer<</Root 1 0 R>>\n%%EOF"
    try:
        assert texts(data) in ([], [""])
    except MediaError:
        pass


def test_a_word_document_is_read_as_python_docx_reads_it():
    docx = pytest.importorskip("docx")
    document, data = docx.Document(), BytesIO()
    document.add_heading("Cats and dogs")
    for words in ("A cat sat\non a mat.", "Grüße & <tags>", "last"):
        document.add_paragraph(words)
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    document.save(data)
    expected = [p.text for p in document.paragraphs] + ["left", "right"]
    assert texts(data.getvalue()) == ["\n\n".join(expected)]


def test_pages_that_word_noted_and_tracked_changes_count():
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = (
        "<w:p><w:r><w:t>one</w:t></w:r></w:p><w:p><w:r><w:lastRenderedPageBreak/><w:t>two</w:t></w:r>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    )
    document = open_document(make_zip({"word/document.xml": f"<w:document {w}><w:body>{body}</w:body></w:document>"}))
    assert (document.pages, document.has_pages, document.can_draw) == (2, True, False)
    assert [document.text(1), document.text(2)] == ["one", "two"]


def test_a_page_of_html_says_what_is_seen():
    data = (
        b"<!DOCTYPE html><html><head><title>Cats &amp; dogs</title><style>p{}</style></head><body><p>One <b>two</b>"
        b"<br>three<script>secret()</script><img alt='a red car'><ul><li>first<li>second</ul><template>no</template>"
    )
    assert texts(data) == ["Cats & dogs\n\nOne two\nthree a red car\n\nfirst\n\nsecond"]
    assert texts("<p>Привет, мир".encode("utf-16")) == ["Привет, мир"]


def test_a_book_is_read_in_the_order_of_its_spine():
    document = open_document(make_epub("<h1>One</h1><p>a</p>", "<p>zwei \u00e4</p>"))
    assert (document.pages, document.has_pages) == (2, False)
    assert [document.text(1), document.text(2)] == ["One\n\na", "zwei ä"]
    assert texts(make_epub("a", encrypted=["OEBPS/font.otf"])) == ["a"]


def test_an_archive_unpacks_within_its_bound():
    bomb = make_zip({"word/document.xml": bytes(50 << 20), "b": b"b"})
    assert len(bomb) < 100_000
    with pytest.raises(DocumentError, match="unpacks to more than"):
        Archive(bomb, limit=1 << 20).read("word/document.xml")
    small = Archive(make_zip({"a": b"x" * 600, "b": b"x" * 600}), limit=1000)
    small.read("a")
    with pytest.raises(DocumentError, match="unpacks to more than"):
        small.read("b")


def test_an_archive_that_is_locked_or_packed_oddly_has_a_reason():
    locked = bytearray(make_zip({"word/document.xml": b"x" * 99}))
    for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        locked[locked.index(mark) + at] |= 1
    with pytest.raises(DocumentError, match="password"):
        open_document(bytes(locked))
    data = BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("word/document.xml", "x" * 99)
    with pytest.raises(DocumentError, match="no program"):
        open_document(data.getvalue())


@pytest.mark.parametrize("make", [lambda: make_pdf(["a cat"] * 3), lambda: make_docx("a cat"), lambda: make_epub("a")])
def test_damage_never_escapes(make):
    data = make()
    for place in range(0, len(data), max(1, len(data) // 60)):
        broken = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        for damaged in (broken, data[:place]):
            try:
                document = open_document(damaged)
                document.text(1)
                if document.can_draw:
                    document.render(1, 50, PIXELS)
            except MediaError:
                pass


def test_names_and_heads_decide_what_a_document_is():
    assert is_document(b"%PDF-1.7", "a.jpg") and is_document(b"<p>", "a.HTML")
    assert not is_document(b"<p>", "a.txt") and not is_document(b"\xff\xd8\xff", "a.jpg")
