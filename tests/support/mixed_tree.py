"""A tree of files as people have them: every kind that is read, broken and hostile ones, sidecars, tables, and others.

All of it is made from a seed. Each file is one of a kind, and says what is to become of it.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from tests.support.documents import make_docx, make_epub, make_pdf, make_psd, make_scan, make_zip
from tests.support.films import scene, scenes, write_film
from tests.support.pictures import encode, exif_block, noise_picture, png_file
from tests.support.raws import make_dng

READ, FAILED, PASSED, BESIDE = "read", "failed", "passed over", "beside"
"""What is to become of a file: indexed as an item, refused with a reason, passed over, or read for another file."""

PER_FOLDER = 125
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Descripti'
    'on rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>{}</rdf:li></rdf:Bag>'
    "</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 30"><title>{}</title>{}</svg>'
_FILMS = ((".mp4", "libx264"), (".mov", "mpeg4"), (".mkv", "libx264"), (".webm", "libvpx"), (".avi", "mpeg4"))
_OTHERS = (".mp3", ".zip", ".exe", ".ico", ".wav", ".xlsx", "", ".psb", ".tga", ".log.gz")
_THINGS = ("bakery", "harbour", "forest", "concert", "library", "orchard", "station", "market", "glacier", "kitchen")

File = tuple[str, bytes, str]
"""The ending of a name, what is in the file, and what is to become of it."""


@dataclass(frozen=True, slots=True)
class Made:
    """A file of the tree. path: below it. words, picture: what finds it, if anything does."""

    path: str
    kind: str
    fate: str
    words: str = ""
    picture: Image.Image | None = None


def code_word(number: int) -> str:
    """Return a word that no other number has."""
    syllables = ("ba", "ko", "ru", "mi", "ten", "sol", "va", "dig")
    return "".join(syllables[number >> shift & 7] for shift in (0, 3, 6, 9, 12))


def text_of(number: int) -> str:
    """Return a few sentences with the code word of a number."""
    chance = random.Random(number)
    lines = [f"Report {code_word(number)} about the {chance.choice(_THINGS)}."]
    lines += [f"The {chance.choice(_THINGS)} is near the {chance.choice(_THINGS)}." for _ in range(chance.randrange(9))]
    return "\n".join(lines)


def make_tree(root: Path, count: int, seed: int = 0, *, large: bool = False) -> list[Made]:
    """Write about `count` files below a folder, and tell what they are. large: with a few that take much memory."""
    made: list[Made] = []
    kinds = _plan(count, seed)
    with TemporaryDirectory() as scratch:
        for number, kind in enumerate(kinds):
            folder = f"album {number // PER_FOLDER:02d}"
            (root / folder).mkdir(parents=True, exist_ok=True)
            made += _write(root, f"{folder}/{number:05d}", kind, seed * 100_000 + number, Path(scratch))
    made += _tables(root, made)
    for name, data in _large(seed) if large else ():
        (root / name).write_bytes(data)
        made.append(Made(name, "large", READ))
    return made


_SHARES = {
    "jpeg": 27, "png": 5, "webp": 3, "gif": 2, "bmp": 1, "tiff": 3, "tiff of pages": 1, "jpeg 2000": 1, "pnm": 1,
    "avif": 1, "heic": 2, "psd": 1, "raw": 1, "raw beside jpeg": 1, "jpeg xl": 1, "svg": 2, "text": 12, "pdf": 4,
    "scan": 1, "docx": 2, "html": 3, "epub": 2, "film": 2, "damaged": 8, "without its end": 2, "other": 5,
    "with xmp": 2, "with text": 2, "with takeout": 2,
}  # fmt: skip
"""How many of 100 files are of each kind."""


def _plan(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    kinds = [kind for kind, share in _SHARES.items() for _ in range(max(1, round(share * count / 100)))]
    chance.shuffle(kinds)
    return kinds


def _write(root: Path, stem: str, kind: str, number: int, scratch: Path) -> Iterator[Made]:
    """Write one file of a kind, and what belongs to it."""
    picture = noise_picture(number, (640, 480) if number % 3 else (480, 640))
    if kind in _PICTURES:
        ending, write = _PICTURES[kind]
        (root / (stem + ending)).write_bytes(write(picture, number))
        yield Made(stem + ending, kind, READ, picture=picture)
    elif kind in _TEXTS:
        ending, read = _TEXTS[kind]
        ending = (".txt", ".md", ".rst")[number % 3] if kind == "text" else ending
        (root / (stem + ending)).write_bytes(read(text_of(number)))
        yield Made(stem + ending, kind, READ, words=f"report {code_word(number)}")
    elif kind == "film":
        ending, codec = _FILMS[number % len(_FILMS)]
        write_film(root / (stem + ending), scenes((number, number + 1), 2), codec=codec)
        yield Made(stem + ending, kind, READ, picture=Image.fromarray(scene(number)))
    elif kind == "damaged":
        ending, data = _damaged(number, scratch)
        (root / (stem + ending)).write_bytes(data)
        yield Made(stem + ending, kind, FAILED)
    elif kind == "other":
        ending = _OTHERS[number % len(_OTHERS)]
        (root / (stem + ending)).write_bytes(number.to_bytes(4, "big") * 50)
        yield Made(stem + ending, kind, PASSED)
    else:
        yield from _with_another(root, stem, kind, number, picture)


def _with_another(root: Path, stem: str, kind: str, number: int, picture: Image.Image) -> Iterator[Made]:
    """Write a picture with a file beside it."""
    beside = {
        "with xmp": (".xmp", _XMP.format(code_word(number)).encode()),
        "with text": (".txt", f"The {code_word(number)} at noon".encode()),
        "with takeout": (".jpg.json", json.dumps({"photoTakenTime": {"timestamp": f"{10**9 + number}"}}).encode()),
        "raw beside jpeg": (".DNG", make_dng(picture.resize((96, 64)))),
    }
    ending, data = beside[kind]
    (root / (stem + ending)).write_bytes(data)
    (root / f"{stem}.jpg").write_bytes(encode(picture))
    yield Made(f"{stem}.jpg", kind, READ, picture=picture)
    yield Made(stem + ending, kind, BESIDE)


def _tables(root: Path, made: list[Made]) -> list[Made]:
    """Write a table of captions in each folder, with a row that matches nothing."""
    tables = []
    for folder in sorted({each.path.partition("/")[0] for each in made}):
        named = [each.path.partition("/")[2] for each in made if each.kind == "jpeg" and each.path.startswith(folder)]
        rows = ["file_name,text", *(f"{name},A view of {code_word(len(name))}" for name in named[:5]), "gone.jpg,gone"]
        (root / folder / "captions.csv").write_text("\n".join(rows) + "\n", "utf-8")
        tables.append(Made(f"{folder}/captions.csv", "table", BESIDE))
    return tables


def _jpeg(picture: Image.Image, number: int) -> bytes:
    exif = exif_block(1 + number % 8, gps=(10 + number % 50, 20)) if number % 2 else exif_block()
    mode = ("RGB", "RGB", "RGB", "L", "CMYK")[number % 5]
    upright = {5: 2, 6: 2, 7: 4, 8: 4}  # turned as a camera does, in the simplest way that a viewer undoes
    turn = 1 + number % 8 if number % 2 else 1
    stored = picture.transpose(Image.Transpose.ROTATE_90) if upright.get(turn) == 2 else picture
    stored = picture.transpose(Image.Transpose.ROTATE_270) if upright.get(turn) == 4 else stored
    return encode(stored.convert(mode), "JPEG", exif=exif, progressive=number % 4 == 0)


def _png(picture: Image.Image, number: int) -> bytes:
    made: tuple[Callable[[], Image.Image], ...] = (
        lambda: picture,
        lambda: picture.convert("RGBA"),
        lambda: picture.quantize(64),
        lambda: Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257),
    )
    return encode(made[number % len(made)](), "PNG")


def _frames(kind: str) -> Callable[[Image.Image, int], bytes]:
    def write(picture: Image.Image, number: int) -> bytes:
        if number % 2:
            return encode(picture, kind)
        return encode(picture, kind, save_all=True, append_images=[noise_picture(number + 7, picture.size)])

    return write


def _plain(kind: str) -> Callable[[Image.Image, int], bytes]:
    return lambda picture, number: encode(picture, kind)


def _pages(picture: Image.Image, number: int) -> bytes:
    return encode(picture, "TIFF", save_all=True, append_images=[noise_picture(number + 5), noise_picture(number + 6)])


def _psd(picture: Image.Image, number: int) -> bytes:
    return make_psd(picture, depth=(8, 16)[number % 2], more=number % 3, is_packed=number % 5 == 0)


def _jxl(picture: Image.Image, number: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpegxl_encode(np.asarray(picture), level=80, effort=3))


_PICTURES: Mapping[str, tuple[str, Callable[[Image.Image, int], bytes]]] = {
    "jpeg": (".jpg", _jpeg),
    "png": (".png", _png),
    "webp": (".webp", _frames("WEBP")),
    "gif": (".gif", _frames("GIF")),
    "bmp": (".bmp", _plain("BMP")),
    "tiff": (".tif", _plain("TIFF")),
    "tiff of pages": (".tiff", _pages),
    "jpeg 2000": (".jp2", _plain("JPEG2000")),
    "pnm": (".ppm", _plain("PPM")),
    "avif": (".avif", _plain("AVIF")),
    "heic": (".HEIC", _plain("HEIF")),
    "psd": (".psd", _psd),
    "raw": (".dng", lambda picture, number: make_dng(picture.resize((192, 144)), preview=picture)),
    "jpeg xl": (".jxl", _jxl),
    "scan": (".pdf", lambda picture, number: make_scan(picture, noise_picture(number + 3, picture.size))),
    "without its end": (".jpeg", lambda picture, number: encode(picture)[:-40]),
}
_TEXTS: Mapping[str, tuple[str, Callable[[str], bytes]]] = {
    "text": (".txt", str.encode),
    "pdf": (".pdf", lambda text: make_pdf(text.split("\n"))),
    "docx": (".docx", lambda text: make_docx(*text.split("\n"))),
    "html": (".html", lambda text: f"<title>Page</title><p>{text}</p><script>var x=1;</script>".encode()),
    "epub": (".epub", lambda text: make_epub(*(f"<p>{line}</p>" for line in text.split("\n")))),
    "svg": (".svg", lambda text: _SVG.format(text, f'<circle cx="9" cy="9" r="{len(text) % 9 + 1}"/>').encode()),
}


def _damaged(number: int, scratch: Path) -> tuple[str, bytes]:
    """Return the ending and the content of a file that cannot be read, of one of many kinds."""
    picture = noise_picture(number)
    kinds = (
        lambda: (".jpg", b""),
        lambda: (".jpg", b"These are words.\n" * (1 + number % 50)),
        lambda: (".jpg", encode(picture)[: 300 + number % 300]),
        lambda: (".png", _half(encode(picture, "PNG"))),
        lambda: (".webp", _half(encode(picture, "WEBP"))),
        lambda: (".heic", _half(encode(picture, "HEIF"))),
        lambda: (".jp2", _half(encode(picture, "JPEG2000"))),
        lambda: (".gif", b"GIF89a" + number.to_bytes(4, "big")),
        lambda: (".png", png_file((50_000 + number % 9, 60_000), 8, 2, b"")),
        lambda: (".psd", _half(make_psd(picture))),
        lambda: (".tif", b"II*\0" + number.to_bytes(4, "little") * 9),
        lambda: (".pdf", make_pdf([f"locked {number}"], encrypt=True)),
        lambda: (".pdf", b"%PDF-1.7\n" + number.to_bytes(4, "big") * 40),
        lambda: (".pdf", b""),
        lambda: (".docx", _half(make_docx(f"cut {number}"))),
        lambda: (".docx", make_zip({f"{number}.txt": "no document"})),
        lambda: (".epub", make_epub("<p>a</p>", encrypted=["OEBPS/chapter%201.xhtml", "OEBPS/chapter 1.xhtml"])),
        lambda: (".docx", make_zip({"word/document.xml": "<w:document>" + "<w:p>" * 20_000})),
        lambda: (".svg", _SVG.format(number, "<g>" * 5000).encode()),
        lambda: (".jxl", b"\xff\x0a" + number.to_bytes(4, "big") * 9),
        lambda: (".mp4", _cut_film(number, scratch)),
        lambda: (".mkv", b"\x1a\x45\xdf\xa3" + number.to_bytes(4, "big") * 40),
        lambda: (".txt", number.to_bytes(4, "big") * 40 + bytes(40)),
        lambda: (".html", f"<script>{number}</script>".encode()),
        lambda: (".dng", _half(make_dng(picture))),
        lambda: (".png", png_file((8, 8), 8, 0, zlib.compress(bytes(number % 60)))),
    )
    return kinds[number % len(kinds)]()


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _cut_film(number: int, scratch: Path) -> bytes:
    """Return a film whose index, which stands at its end, is missing."""
    path = write_film(scratch / "cut.mp4", scenes((number,), 1))
    data = path.read_bytes()
    return data[: data.rindex(b"moov") - 4]


def _large(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield files that would take much memory if they were read carelessly."""
    yield "camera.jpg", encode(noise_picture(seed + 1, (8000, 6000)))
    yield "poster.png", encode(noise_picture(seed + 2, (6000, 5000)), "PNG", compress_level=1)
    yield "book.pdf", make_pdf([f"Page {page} of the {_THINGS[page % 10]}" for page in range(1, 601)])
    yield "notes.txt", "\n".join(text_of(number) for number in range(4000)).encode()
    yield (
        "fax.tiff",
        encode(
            noise_picture(1, (1200, 1600)).convert("1"),
            "TIFF",
            compression="group4",
            save_all=True,
            append_images=[noise_picture(page, (1200, 1600)).convert("1") for page in range(2, 120)],
        ),
    )
