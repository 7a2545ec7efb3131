"""A library of all that there is, with names and texts that formats of tables have trouble with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from clipsearch import Record
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.libraries import index, photo, photos
from tests.support.pictures import noise_picture

ODD = "caf\udce9 =2+3\n,\"';\t.jpg" if sys.platform == "linux" else "odd.jpg"


def make_mixed(folder: Path, encoder: Any) -> Path:
    """Make it at `lib` of a folder: pictures with captions and facts, texts, a film, documents, records, tags."""
    files = folder / "files"
    photos(files, 6, size=(32, 24))
    photo(files / ODD, 30, (32, 24))
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "=EOS 5D"
    exif.get_ifd(0x8769)[0x9003] = "2024:07:02 12:00:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.86, 0.0, 0.0), 3: "E", 4: (2.35, 0.0, 0.0)})
    noise_picture(40, (64, 48)).save(files / "facts.jpg", exif=exif)
    (files / "facts.txt").write_text("A red bicycle by the sea.\nA beach at dusk.\n")
    (files / "notes.txt").write_text("\n\n".join(f"Line {i}. 海滩上的狗 and roses." for i in range(80)))
    _add_film_and_document(files)
    index(folder / "lib", files, photo(folder / "alone.jpg", 41, (32, 24)), encoder=encoder)
    with SearchEngine(Library(folder / "lib"), encoder=encoder) as engine:
        _fill(engine)
    os.remove(files / "p005.jpg")  # so that rows are dead, and the numbers of the others have a gap
    os.remove(files / "p001.jpg")
    index(folder / "lib", encoder=encoder)
    return folder


def _add_film_and_document(files: Path) -> None:
    try:
        from tests.support.films import scenes, write_film

        write_film(files / "film.mp4", scenes([1, 2, 3], 1))
    except ModuleNotFoundError:
        pass
    try:
        from tests.support.documents import make_pdf

        (files / "report.pdf").write_bytes(make_pdf(["Quarterly revenue of the bakery", "Recipes for apple pie"]))
    except ModuleNotFoundError:
        pass


def _fill(engine: SearchEngine) -> None:
    metadata = {"price": 49.5, "sold": False, "sizes": ["S", "=M"], "n": 2**60, "none": None, "text": "a\r\nb"}
    records = [
        Record("=cmd|'/C calc'!A0", text="A rocket flew to the moon.", metadata=metadata),
        Record("@sku-17", image=noise_picture(50, (20, 20)), caption="'quoted\n-line", metadata={}),
        Record("-1", text=" \t+"),
        Record("日本", text="An oak in the forest.", metadata={"x": ""}),
    ]
    report = engine.add(records, keep="thumbnail")
    assert not report.failed, report
    ids = [item.id for item in engine.items()]
    engine.tag(ids[:3], add=["=Beach", "Été"])
    engine.tag(ids[2:5], add=["snow"])
    engine.collect("Summer 2024", [ids[4], ids[0], ids[-1]])
    engine.collect("+Empty", [])
