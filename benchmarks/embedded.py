"""What reading the words in picture files costs, beside decoding the same files for builtin-base.

    python benchmarks/embedded.py [--sources FOLDER_OF_PHOTOGRAPHS] [--rounds 5]

Photographs as they are, and the same with all of it: XMP of 4 KiB with two languages and ten keywords, IPTC, EXIF.
"""

import argparse
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import median_ratio, write_result
from photographs import write_photographs
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clipsearch.media.decode import decode_picture
from clipsearch.media.image_metadata import read_embedded
from tests.support.pictures import exif_block

SIZES = {"4000 x 3000": (4000, 3000, 12), "500 x 375": (500, 375, 200)}
_XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:m="http://ns.adobe.com/xap/1.0/mm/">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">Two dogs run over a meadow at noon</rdf:li>
<rdf:li xml:lang="de">Zwei Hunde rennen</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag>{}</rdf:Bag></dc:subject>
<m:History><rdf:Seq>{}</rdf:Seq></m:History></rdf:Description></rdf:RDF></x:xmpmeta>""".format(
    "".join(f"<rdf:li>keyword {i}</rdf:li>" for i in range(10)),
    '<rdf:li rdf:parseType="Resource"><m:action>saved</m:action></rdf:li>' * 40,
).encode()


def main() -> None:
    """Time reading and decoding in turn, on every size of photograph, with words in it and without."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, (width, height, count) in SIZES.items():
            paths = write_photographs(Path(scratch) / name, count, (width, height), arguments.sources)
            plain = [path.read_bytes() for path in paths]
            rows.append(measure(name, "none", plain, arguments.rounds))
            rows.append(measure(name, "XMP, IPTC, EXIF", [with_words(path) for path in paths], arguments.rounds))
    write_result("embedded", {"rounds": arguments.rounds, "rows": rows})


def with_words(path: Path) -> bytes:
    """Write words into a photograph, whose pixels stay as they are."""
    with Image.open(path) as picture:
        exif = exif_block(1, camera=("Canon", "EOS"), tags={0x010E: "A meadow"}).tobytes()
        picture.save(path, quality="keep", exif=exif, xmp=_XMP)
    fields = [(120, b"Two dogs run over a meadow"), *((25, b"word %d" % i) for i in range(10))]
    block = b"".join(struct.pack(">BBBH", 0x1C, 2, name, len(value)) + value for name, value in fields)
    body = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)
    data = path.read_bytes()
    return data[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + data[2:]


def measure(size: str, words: str, files: list[bytes], rounds: int) -> dict:
    """Return microseconds of both for a file, and their ratio."""
    reading, decoding = [], []
    for _ in range(rounds + 1):
        reading.append(_seconds(read_embedded, files))
        decoding.append(_seconds(lambda data: decode_picture(data, min_side=260, max_pixels=1 << 27), files))
    row = {
        "picture": size,
        "words": words,
        "found": len(read_embedded(files[0]).captions) + len(read_embedded(files[0]).keywords),
        "reading_us": round(statistics.median(reading[1:]) / len(files) * 1e6),
        "decoding_us": round(statistics.median(decoding[1:]) / len(files) * 1e6),
        "share": round(median_ratio(reading[1:], decoding[1:]), 4),
    }
    print(row, flush=True)
    return row


def _seconds(work: Callable[[bytes], object], files: list[bytes]) -> float:
    started = time.process_time()
    for data in files:
        work(data)
    return time.process_time() - started


if __name__ == "__main__":
    main()
