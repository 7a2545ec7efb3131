"""A folder of hostile files: cut, damaged, oversized and misleading ones, among good ones that must be indexed.

    python benchmarks/reliability/hostile_corpus.py --out DIR [--seed 0] [--short] [--large]

Made from a seed: the same arguments give the same names and bytes. --short makes some 300 files that a test can
index in seconds; --large adds texts and tables of 100 MB. `make` returns what must come of each file.
"""

import argparse
import io
import json
import os
import random
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image

from tests.support.pictures import FORMATS, encode, noise_picture, png_file, tiff_file

GOOD, BAD, ANY, FREE = "good", "bad", "any", "free"
"""What must come of a file: indexed; reported with a reason; one of both; or nothing, as of a caption."""

Files = Iterator[tuple[str, bytes, str]]
KINDS = {kind: suffix for suffix, kind in FORMATS.items()}  # one suffix a format
PROSE = "A dog runs along the beach at noon, and the sea is calm.\n"


def make(folder: Path, seed: int = 0, *, short: bool = False, large: bool = False) -> dict[str, str]:
    """Fill a folder; return what must come of each file, by its path below the folder as the system has it."""
    expected: dict[str, str] = {}
    makers = [good, cut, flipped, bombs, broken_metadata, odd_pictures, texts, tables, names]
    for maker in makers:
        below = folder / maker.__name__
        below.mkdir(parents=True, exist_ok=True)
        for name, data, outcome in maker(random.Random(f"{seed} {maker.__name__}"), short):
            path = os.path.join(os.fsencode(below), os.fsencode(name))
            with suppress(OSError):  # a file system may not take such a name
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(data)
                expected[os.fsdecode(os.path.relpath(path, os.fsencode(folder)))] = outcome
    if large:
        (folder / "texts" / "line.txt").write_bytes(b"word " * 20_000_000)
        (folder / "tables" / "wide").mkdir()
        (folder / "tables" / "wide" / "captions.csv").write_bytes(b"image,caption\na.jpg," + b"x" * 100_000_000)
        expected |= {"texts/line.txt": BAD, "tables/wide/captions.csv": FREE}
    _special(folder / "special")
    return expected


def good(rng: random.Random, short: bool) -> Files:
    """Pictures of every format, and texts, none like another; more of them lie in the other folders."""
    for suffix, kind in FORMATS.items():
        yield f"good{suffix}", encode(noise_picture(rng.randrange(10**6), (96, 64)), kind), GOOD
    for suffix in (".txt", ".md", ".rst"):
        yield f"text{suffix}", f"{suffix} {PROSE}".encode(), GOOD


def cut(rng: random.Random, short: bool) -> Files:
    """Every format cut at every KiB, and in its head."""
    for kind, suffix in KINDS.items():
        whole = encode(_grainy(rng, 96 if short else 320), kind)
        step = max(1024, len(whole) // 6) if short else 1024
        for at in sorted({0, 1, 3, 8, 13, 30, *range(64, min(len(whole), 1024), 320), *range(step, len(whole), step)}):
            yield f"{kind}-{at:07d}{suffix}", whole[:at], BAD if at < 8 else ANY


def flipped(rng: random.Random, short: bool) -> Files:
    """Every format with bits flipped: one, a few, and many in the head alone."""
    for kind, suffix in KINDS.items():
        whole = encode(_grainy(rng, 48 if short else 160), kind)
        for number in range(6 if short else 120):
            data = bytearray(whole)
            most = 300 if number % 3 == 2 else len(data)
            for _ in range((1, 8, 4)[number % 3]):
                at = rng.randrange(min(most, len(data)))
                data[at] ^= 1 << rng.randrange(8)
            yield f"{kind}-{number:03d}{suffix}", bytes(data), ANY


def bombs(rng: random.Random, short: bool) -> Files:
    """Small files that say, or hold, far more than they weigh."""
    side, text = (11_000, 8_000_000) if short else (30_000, 200_000_000)
    packed = zlib.compress(bytes(text), 9)
    yield "black.png", _black_png(side), BAD
    yield "head.png", png_file((side, side), 8, 2, b""), BAD
    yield "most.png", png_file((2**31 - 1, 2**31 - 1), 8, 6, b""), BAD
    for name, chunk in {"zTXt": b"Title\0\0" + packed, "iTXt": b"Title\0\1\0\0\0" + packed}.items():
        yield f"{name}.png", png_file((8, 8), 8, 0, bytes(72), [(name.encode(), chunk)]), BAD if not short else ANY
    yield "iCCP.png", png_file((8, 8), 8, 0, bytes(72), [(b"iCCP", b"x\0\0" + packed)]), ANY
    yield "chunks.png", png_file((8, 8), 8, 0, bytes(72), [(b"tEXt", b"Title\0x")] * (2000 if short else 200_000)), ANY
    yield "pixels.png", png_file((8, 8), 8, 0, bytes(text)), ANY
    yield "head.gif", b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;", BAD
    yield "head.webp", _webp_head(16383), BAD
    yield "head.bmp", _bmp_head(side, side), BAD
    yield "rle.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 65_000, 65_000, 1, 8, 1, *[0] * 5), BAD
    yield "head.tiff", tiff_file((65_000, 65_000), b"", {258: 8, 262: 1}), BAD
    yield "strips.tiff", tiff_file((65_000, 1), b"x", {258: 8, 262: 1, 278: 1}), BAD
    yield "head.pnm", b"P6 30000 30000 255\n", BAD
    yield "digits.pnm", b"P2 9 " + b"9" * 100_000 + b" 255\n", BAD
    yield "bits.pbm", b"P1 20000 20000\n" + b"1 " * 100, BAD
    yield "tall.png", png_file((1, 20_000), 8, 0, bytes(40_000)), GOOD
    yield "wide.png", png_file((20_000, 1), 8, 0, bytes(20_001)), GOOD
    yield "zero.png", png_file((0, 0), 8, 0, b""), BAD
    yield "zero.bmp", _bmp_head(0, 0), BAD
    yield "zero.gif", b"GIF89a\0\0\0\0\0\0\0;", BAD
    yield "scans.jpg", _many_scans(100 if short else 20_000), ANY if short else BAD
    yield "frames.gif", _many_frames(1000 if short else 100_000), GOOD
    yield "no-frame.gif", b"GIF89a\x08\0\x08\0\0\0\0;", BAD


def broken_metadata(rng: random.Random, short: bool) -> Files:
    """Good pictures whose EXIF, ICC, XMP or IPTC is broken: the pictures count, the rest must do no harm."""
    number = 0
    for name, block in _exif_blocks(rng):
        yield f"exif-{name}.jpg", encode(noise_picture(1000 + number), exif=b"Exif\0\0" + block), GOOD
        yield f"exif-{name}.webp", encode(noise_picture(2000 + number), "WEBP", exif=block), GOOD
        number += 1
    for name, packet in _xmp_packets(short):
        # A segment of a JPEG holds 64 KB; a WebP as much as it likes.
        yield f"xmp-{name}.webp", encode(noise_picture(3000 + number), "WEBP", xmp=packet), GOOD
        number += 1
    for name, profile in {"junk": rng.randbytes(900), "empty": b"", "long": bytes(200_000)}.items():
        yield f"icc-{name}.jpg", encode(noise_picture(4000 + number), icc_profile=profile), GOOD
        yield f"icc-cmyk-{name}.jpg", encode(noise_picture(5000 + number).convert("CMYK"), icc_profile=profile), GOOD
        number += 1
    many = b"\x1c\2\x19\0\1a" * 5000
    for name, block in {"junk": rng.randbytes(99), "long": b"\x1c\2\x78\x80\4" + b"\xff" * 4, "many": many}.items():
        jpeg = encode(noise_picture(6000 + number))
        body = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)
        yield f"iptc-{name}.jpg", jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:], GOOD
        number += 1


def odd_pictures(rng: random.Random, short: bool) -> Files:
    """Files that are not what their names say."""
    jpeg = encode(noise_picture(7001))
    yield "jpeg.png", jpeg, GOOD
    yield "zip.jpg", b"PK\3\4" + rng.randbytes(3000), BAD
    yield "page.jpg", b"<html><script>alert(1)</script></html>", BAD
    yield (
        "vector.png",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        ANY,
    )  # the extra draws it, without the link
    yield "postscript.tiff", b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file\n", BAD
    yield "fonts.gif", b"GIF89a" + rng.randbytes(2000), BAD
    yield "zeros.avif", bytes(4096), BAD
    yield "brands.heic", struct.pack(">I", 1 << 31) + b"ftypheic" + b"mif1" * 500, BAD
    yield "boxes.avif", b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + struct.pack(">I4s", 8, b"meta") * 2000, BAD
    yield "script.jpg", b"#!/bin/sh\nrm -rf .\n", BAD
    yield "tail.jpg", encode(noise_picture(7002)) + rng.randbytes(50_000), GOOD
    yield "twice.jpg", encode(noise_picture(7003)) + jpeg, GOOD


def texts(rng: random.Random, short: bool) -> Files:
    """Texts in odd encodings, without ends, with characters that are none."""
    length = 10_000 if short else 200_000
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "cp1252", "shift_jis", "gb18030", "koi8-r"):
        sample = {
            "shift_jis": "猫がソファで眠っている。",
            "gb18030": "一只猫在沙发上睡觉。",
            "koi8-r": "Кошка спит на диване.",
        }
        yield (
            f"{encoding}.txt",
            (sample.get(encoding, "Grüße aus Köln. ") * 9 + encoding).encode(encoding),
            GOOD if encoding.startswith("utf") else ANY,
        )
    yield "marks.txt", ("a" + "\u0301\u0316" * length).encode(), GOOD
    yield "nuls.txt", b"a dog\0a cat\0" * 99, BAD
    yield "controls.txt", b"\x1b[2J\x07 dog " * 99, ANY
    yield "half.txt", PROSE.encode("utf-16")[:-1], ANY
    yield "invalid.txt", b"\xff\xfe\xfd\xfc" * 500, ANY
    yield "surrogates.txt", b"dog \xed\xa0\x80 cat", ANY
    yield "overlong.md", b"\xc0\x80\xe0\x80\x80\xf0\x80\x80\x80" * 99, ANY
    yield "noise.txt", rng.randbytes(5000), ANY
    yield "blank.txt", b" \n\t" * 500, BAD
    yield "empty.md", b"", BAD
    yield "line.txt", b"word" * (length // 4), GOOD
    yield "lines.txt", b"\n" * length + PROSE.encode() + b"\r" * length, GOOD
    yield "rules.rst", b"=" * length, ANY
    yield "zalgo.txt", "".join(c + "\u0334\u0315\u0323" * 20 for c in PROSE).encode(), GOOD
    yield "bidi.txt", ("\u202e" + PROSE + "\u2066").encode(), GOOD


def tables(rng: random.Random, short: bool) -> Files:
    """Tables of captions and sidecars that cannot be read, each beside a picture that must be indexed all the same."""
    wide = 10**5 if short else 2 * 10**7
    written = {
        "deep.jsonl": b'{"image":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "nested.jsonl": b'{"image":' + b"[" * 900 + b"]" * 900 + b',"caption":"x"}',
        "digits.jsonl": b'{"image":"a.jpg","caption":' + b"9" * 10_000 + b"}",
        "nan.jsonl": b'{"image":NaN,"caption":Infinity}',
        "list.jsonl": b"[1,2]\n",
        "surrogate.jsonl": b'{"image":"a.jpg","caption":"\\ud800 dog"}',
        "line.jsonl": b'{"image":"a.jpg","caption":"' + b"x" * wide,
        "keys.jsonl": b"{" + b",".join(b'"k%d":1' % i for i in range(5000)) + b"}",
        "quote.csv": b'image,caption\na.jpg,"never closed' + b"\nx" * 5000,
        "field.csv": b"image,caption\na.jpg," + b"x" * 200_000,
        "nul.csv": b"image,caption\na.jpg,do\0g\n",
        "bytes.csv": b"image,caption\na.jpg,\xff\xfe\n",
        "columns.csv": b"," * 100_000,
        "outside.csv": b"image,caption\n../../../etc/passwd,a dog\n/etc/passwd,a cat\n",
        "utf16.csv": "image,caption\na.jpg,dog\n".encode("utf-16"),
        "empty.csv": b"",
    }
    for number, (name, data) in enumerate(written.items()):
        stem, _, suffix = name.partition(".")
        yield f"{stem}/captions.{suffix}", data, FREE
        yield f"{stem}/a.jpg", encode(noise_picture(8000 + number)), GOOD
    beside = {
        "nul": b"a\0dog",
        "latin": b"Gr\xfc\xdfe",
        "junk": rng.randbytes(999),
        "marks": b"\xcc\x81\xcc\x96" * 2000,
    }
    for number, (name, data) in enumerate(beside.items()):
        yield f"sidecar-{name}/a.jpg", encode(noise_picture(9000 + number)), GOOD
        yield f"sidecar-{name}/a.txt", data, FREE


def names(rng: random.Random, short: bool) -> Files:
    """Good pictures of odd names."""
    plain = b"a'b\"c.jpg back\\slash.jpg a;b|c&d.jpg %2e%2e%2f.jpg ..jpg ...jpg --help.jpg $(id).jpg `id`.jpg %s%n.jpg"
    odd = [*plain.split(), b"new\nline.jpg", b"escape\x1b[2J.jpg", b"bell\x07.jpg", b"latin-\xfc\xff.jpg", b" .jpg"]
    odd += [b"x" * 251 + b".jpg", b"surrogate-\xed\xa0\x80.jpg"]
    odd += [name.encode() for name in ("bidi\u202egpj.jpg", "nfd-u\u0308.jpg", "nfc-\xfc.jpg", "\U0001f415\u200d.jpg")]
    for number, name in enumerate(odd):
        hidden = name.startswith(b".")
        yield os.fsdecode(name), encode(noise_picture(10_000 + number)), FREE if hidden else GOOD


def _special(folder: Path) -> None:
    """Create special files: a FIFO, a socket, a device, broken and circular links."""
    folder.mkdir(exist_ok=True)
    links = {"loop.jpg": "loop.jpg", "dangling.jpg": "nowhere", "self": ".", "zero.jpg": "/dev/zero"}
    for name, target in links.items():
        with suppress(OSError):
            os.symlink(target, folder / name)
    with suppress(OSError, AttributeError):
        os.mkfifo(folder / "pipe.jpg")
        os.mkfifo(folder / "captions.csv")
    with suppress(OSError, AttributeError), socket.socket(socket.AF_UNIX) as place:
        place.bind(os.path.relpath(folder / "socket.jpg"))
    with suppress(OSError, AttributeError):
        os.mknod(folder / "device.jpg", 0o20666, os.makedev(1, 5))


def _grainy(rng: random.Random, side: int) -> Image.Image:
    """Return a picture that no format makes small."""
    noise = Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side))
    return Image.blend(noise_picture(rng.randrange(10**6), (side, side)), noise, 0.3)


def _black_png(side: int) -> bytes:
    """Return a PNG of side x side black pixels, compressed piece by piece."""
    packer, data = zlib.compressobj(9), io.BytesIO()
    for _ in range(side):
        data.write(packer.compress(bytes(side + 1)))
    data.write(packer.flush())
    body = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", data.getvalue()), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in body
    )


def _webp_head(side: int) -> bytes:
    body = b"VP8L" + struct.pack("<I", 8) + b"\x2f" + struct.pack("<I", (side - 1) | (side - 1) << 14) + bytes(3)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _bmp_head(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6)


def _many_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan stands there many times."""
    data = encode(noise_picture(11_000, (64, 64)), progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * count + data[-2:]


def _many_frames(count: int) -> bytes:
    one = encode(noise_picture(12_000, (8, 8)), "GIF")
    at = one.rindex(b",", 0, len(one) - 10) if b"," in one else 13
    frame = one[one.index(b",", 13 + 3 * 2 ** ((one[10] & 7) + 1)) : -1] if one[10] & 0x80 else one[at:-1]
    return one[:-1] + frame * count + b";"


def _exif_blocks(rng: random.Random) -> list[tuple[str, bytes]]:
    def ifd(*entries: tuple[int, int, int, int], then: int = 0) -> bytes:
        body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", then)

    return [
        ("loop", ifd((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), then=8)),
        ("counts", ifd((0x010F, 2, 0xFFFFFFFF, 8), (0x9003, 2, 0x7FFFFFFF, 8), (0x0112, 3, 0xFFFFFFFF, 6))),
        ("end", ifd((0x010F, 2, 20, 0xFFFFFFF0), (0x8769, 4, 1, 0xFFFFFFFF), then=0xFFFFFFFF)),
        ("types", ifd((0x0112, 99, 1, 6), (0x010F, 0, 1, 0), (0x8825, 4, 1, 0))),
        ("entries", b"II*\0\x08\0\0\0\xff\xff" + rng.randbytes(3000)),
        ("junk", rng.randbytes(2000)),
        ("cut", b"MM\0*\0\0"),
        ("place", ifd((0x8825, 4, 1, 26)) + struct.pack("<H", 1) + struct.pack("<HHII", 2, 5, 3, 0) + bytes(4)),
    ]


def _xmp_packets(short: bool) -> list[tuple[str, bytes]]:
    many, size = (2000, 200_000) if short else (200_000, 10_000_000)
    lol = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(10))
    start = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description>'
    )
    end = "</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    written = {
        "laughs": f"<?xml version='1.0'?><!DOCTYPE x [{lol}]>{start}&l9;{end}",
        "external": f"<!DOCTYPE x [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>{start}&f;{end}",
        "deep": start + "<rdf:Alt><rdf:li>" * many + "</rdf:li></rdf:Alt>" * many + end,
        "open": start + "<rdf:Alt>" * many,
        "items": start + "<rdf:li>A dog runs</rdf:li>" * many + end,
        "attributes": "<x " + " ".join(f"a{i}='1'" for i in range(many)) + "/>",
        "long": start + "x" * size + end,
        "marks": start + ("<rdf:li>" + "\u0301\u0316" * 4000 + "</rdf:li>") * (20 if short else 100) + end,
        "junk": "\x00\x01" + start,
    }
    return [(name, text.encode()) for name, text in written.items()]


def main() -> None:
    """Write the corpus, and what must come of each file beside it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    expected = make(arguments.out, arguments.seed, short=arguments.short, large=arguments.large)
    print(json.dumps({kind: list(expected.values()).count(kind) for kind in (GOOD, BAD, ANY)}))


if __name__ == "__main__":
    main()
