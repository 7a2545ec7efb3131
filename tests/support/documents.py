"""Documents made here: PDF by hand, EPUB by zipfile, Word documents by python-docx, PSD by hand."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

A4 = (595.0, 842.0)


def make_pdf(
    pages: Sequence[str | bytes], *, box: tuple[float, float] = A4, count: int | None = None, encrypt: bool = False
) -> bytes:
    """Return a PDF of pages: a text, or the operators of a page.

    box: width and height in points. count: what the tree says of how many pages it has. encrypt: whether it needs a
    password that nobody knows.
    """
    numbers = range(4, 4 + 2 * len(pages), 2)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages) if count is None else count}"
        f"/Kids[{' '.join(f'{number} 0 R' for number in numbers)}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    for number, page in zip(numbers, pages, strict=True):
        drawn = page if isinstance(page, bytes) else f"BT /F1 18 Tf 50 700 Td ({page}) Tj ET".encode("cp1252")
        objects += [
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {box[0]} {box[1]}]/Contents {number + 1} 0 R"
            "/Resources<</Font<</F1 3 0 R>>>>>>".encode(),
            b"<</Length %d>>stream\n" % len(drawn) + drawn + b"\nendstream",
        ]
    lock = b""
    if encrypt:
        key = b"<" + b"5a" * 32 + b">"
        objects.append(b"<</Filter/Standard/V 2/R 3/Length 128/P -44/O " + key + b"/U " + key + b">>")
        lock = b"/Encrypt %d 0 R/ID[<00><00>]" % len(objects)
    data, places = bytearray(b"%PDF-1.4\n"), []
    for number, each in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n" % number + each + b"\nendobj\n"
    start, size = len(data), len(objects) + 1
    data += b"xref\n0 %d\n0000000000 65535 f \n" % size + b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer<</Size %d/Root 1 0 R" % size + lock + b">>\nstartxref\n%d\n%%%%EOF" % start
    return bytes(data)


def make_scan(*pictures: Image.Image) -> bytes:
    """Return a PDF of pictures alone, as a scanner makes it."""
    data = BytesIO()
    first, *rest = pictures
    first.save(data, "PDF", save_all=True, append_images=rest)
    return data.getvalue()


def make_docx(*paragraphs: str) -> bytes:
    """Return a Word document."""
    import docx

    document, data = docx.Document(), BytesIO()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    document.save(data)
    return data.getvalue()


def make_zip(files: dict[str, str | bytes]) -> bytes:
    """Return an archive of files by name."""
    data = BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def make_epub(*chapters: str, encrypted: Sequence[str] = ()) -> bytes:
    """Return a book of chapters, HTML each; encrypted: names of files that are said to be."""
    names = [f"chapter {number}.xhtml" for number in range(1, len(chapters) + 1)]
    listed = "".join(
        f'<item id="c{n}" href="{name.replace(" ", "%20")}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(names)
    )
    files: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
        + listed
        + "</manifest><spine>"
        + "".join(f'<itemref idref="c{n}"/>' for n in range(len(names)))
        + "</spine></package>",
    }
    files |= {f"OEBPS/{name}": f"<html><body>{text}</body></html>" for name, text in zip(names, chapters, strict=True)}
    if encrypted:
        files["META-INF/encryption.xml"] = (
            '<encryption xmlns="x" xmlns:enc="y">'
            + "".join(f'<enc:CipherReference URI="{name}"/>' for name in encrypted)
            + "</encryption>"
        )
    return make_zip(files)


_PSD_MODES = {"1": 0, "L": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}


def make_psd(
    picture: Image.Image,
    *,
    exif: bytes = b"",
    has_composite: bool = True,
    depth: int = 8,
    more: int = 0,
    is_packed: bool = False,
    layers: int = 0,
) -> bytes:
    """Return a PSD of one composite, of 8 or 16 bits a channel, or 1 of a bitmap.

    more: further channels, as of selections, that are black. is_packed: rows are packed. layers: how many layers it
    says that it has, less than 0 where the fourth channel says what is transparent; none of them is there.
    """
    pixels = np.asarray(picture if picture.mode in _PSD_MODES else picture.convert("RGB"))
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    if picture.mode == "1":
        depth, planes = 1, np.packbits(~planes, axis=2)
    elif picture.mode == "CMYK":
        planes = 255 - planes
    planes = np.concatenate([planes, np.zeros((more, *planes.shape[1:]), planes.dtype)])
    if depth == 16:
        planes = (planes.astype(">u2") * 257).astype(">u2")
    blocks = {1057: struct.pack(">IB", 1, has_composite) + b"\0" * 13, **({1058: exif} if exif else {})}
    resources = b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(block)) + block + b"\0" * (len(block) % 2)
        for number, block in blocks.items()
    )
    mode = _PSD_MODES.get(picture.mode, 3)
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, len(planes), picture.height, picture.width, depth, mode)
    section = struct.pack(">IIh2x", 8, 4, layers) if layers else struct.pack(">I", 0)
    rows = [row.tobytes() for plane in planes for row in plane]
    if is_packed:  # as literal runs
        rows = [
            b"".join(bytes([len(part) - 1]) + part for part in (row[at : at + 128] for at in range(0, len(row), 128)))
            for row in rows
        ]
    lengths = b"".join(struct.pack(">H", len(row)) for row in rows) if is_packed else b""
    start = head + struct.pack(">II", 0, len(resources)) + resources + section
    return start + struct.pack(">H", is_packed) + lengths + b"".join(rows)
