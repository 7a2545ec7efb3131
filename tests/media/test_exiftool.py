"""What is read of files whose metadata exiftool wrote, beside what exiftool reads of them; see docs/metadata.md.

Needs exiftool (Debian: libimage-exiftool-perl).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from clipsearch.media.decode import decode_picture
from clipsearch.media.facts import name_camera
from clipsearch.media.image_metadata import read_embedded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed"),
]

KINDS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP", "heic": "HEIF", "avif": "AVIF"}
DAY = "2018:01:30 20:30:48"
FAMILIES = {
    "original": ["-ExifIFD:DateTimeOriginal=" + DAY], "digitized": ["-ExifIFD:CreateDate=" + DAY],
    "changed": ["-IFD0:ModifyDate=" + DAY], "subsec": ["-ExifIFD:DateTimeOriginal=" + DAY, "-SubSecTimeOriginal=75"],
    "xmp-original": ["-XMP-exif:DateTimeOriginal=" + DAY], "xmp-create": ["-XMP-xmp:CreateDate=" + DAY + "+02:00"],
    "xmp-modify": ["-XMP-xmp:ModifyDate=" + DAY], "photoshop": ["-XMP-photoshop:DateCreated=" + DAY],
    "xmp-digitized": ["-XMP-exif:DateTimeDigitized=" + DAY], "xmp-tiff": ["-XMP-tiff:DateTime=" + DAY],
    "iptc-date": ["-IPTC:DateCreated=2018:01:30", "-IPTC:TimeCreated=20:30:48+02:00"],
    "iptc-digital": ["-IPTC:DigitalCreationDate=2018:01:30", "-IPTC:DigitalCreationTime=20:30:48+00:00"],
    "later": ["-IFD0:ModifyDate=2020:01:01 00:00:00", "-XMP-exif:DateTimeOriginal=" + DAY],
    "camera": ["-IFD0:Make=NIKON CORPORATION", "-IFD0:Model=NIKON D70"],
    "xmp-camera": ["-XMP-tiff:Make=Canon", "-XMP-tiff:Model=Canon EOS 5D"],
    "keywords": ["-XMP-dc:Subject=dog", "-XMP-dc:Subject=red house", "-XMP-dc:Title=Grüne Wiese",
                 "-XMP-dc:Description=Two dogs run"],
    "iptc-words": ["-IPTC:Keywords=dog", "-IPTC:Keywords=red house", "-IPTC:Caption-Abstract=Two dogs run",
                   "-IPTC:ObjectName=Gruene Wiese"],
    "exif-words": ["-IFD0:ImageDescription=Two dogs run", "-IFD0:XPKeywords=dog;red house", "-IFD0:XPTitle=Wiese"],
    "people": ["-XMP-iptcExt:PersonInImage=Ann Lee", "-XMP-iptcExt:PersonInImage=Bob"],
    "mwg": ["-XMP-mwg-rs:RegionInfo={AppliedToDimensions={W=48,H=32,Unit=pixel},RegionList=[{Name=Ann Lee,Type=Face,"
            "Area={X=0.5,Y=0.5,W=0.1,H=0.1,Unit=normalized}},{Name=Bob,Type=Face}]}"],
    "mp": ["-XMP-MP:RegionInfoMP={Regions=[{PersonDisplayName=Ann Lee},"
           "{PersonDisplayName=Bob}]}"],
    **{f"rating{n}": [f"-XMP-xmp:Rating={n}"] for n in (-1, 0, 3, 5)}, "half": ["-XMP-xmp:Rating=3.5"],
    **{f"exif-rating{n}": [f"-IFD0:Rating={n}"] for n in (0, 1, 4)},
    **{f"percents{n}": [f"-XMP-microsoft:RatingPercent={n}"] for n in (1, 25, 50, 75, 99)},
    **{f"exif-percents{n}": [f"-IFD0:RatingPercent={n}"] for n in (1, 25, 50, 75, 99)},
    "both-ratings": ["-IFD0:Rating=2", "-XMP-xmp:Rating=5"], "label": ["-XMP-xmp:Label=Grün"],
    **{f"turn{n}": [f"-IFD0:Orientation#={n}"] for n in range(1, 9)},
    **{f"xmp-turn{n}": [f"-XMP-tiff:Orientation#={n}"] for n in (3, 6, 8)},
    **{f"gps{i}": [f"-GPS:GPSLatitude={abs(lat)}", f"-GPS:GPSLatitudeRef={'NS'[lat < 0]}",
                   f"-GPS:GPSLongitude={abs(lon)}", f"-GPS:GPSLongitudeRef={'EW'[lon < 0]}"]
       for i, (lat, lon) in enumerate(product((48.5123, -33.25), (9.25, -151.2)))},
    **{f"xmp-gps{i}": [f"-XMP-exif:GPSLatitude={lat}", f"-XMP-exif:GPSLongitude={lon}"]
       for i, (lat, lon) in enumerate(product((48.5123, -33.25), (9.25, -151.2)))},
}  # fmt: skip

DIFFERENCES = {
    **{("tif", f"xmp-turn{n}"): "a TIFF is turned by its own tag alone" for n in (3, 6, 8)},
    **{
        (kind, f"{block}turn{n}"): "the boxes of HEIC and AVIF turn them, not EXIF or XMP"
        for kind in ("heic", "avif")
        for block in ("", "xmp-")
        for n in range(2, 9)
    },
}
"""Files of which something else is read than exiftool reads, deliberately, and why: (ending, family)."""

DATES = ("ExifIFD:DateTimeOriginal", "XMP-exif:DateTimeOriginal", "XMP-photoshop:DateCreated", "IPTC:DateTimeCreated",
         "ExifIFD:CreateDate", "XMP-exif:DateTimeDigitized", "XMP-xmp:CreateDate", "IPTC:DigitalCreationDateTime",
         "IFD0:ModifyDate", "XMP-tiff:DateTime", "XMP-xmp:ModifyDate")  # fmt: skip
"""The order of docs/metadata.md, in the names of exiftool."""

COMPOSITE = {"IPTC:DateTimeCreated": ("IPTC:DateCreated", "IPTC:TimeCreated"),
             "IPTC:DigitalCreationDateTime": ("IPTC:DigitalCreationDate", "IPTC:DigitalCreationTime")}  # fmt: skip


def read_by_exiftool(folder: Path) -> dict[str, dict[str, object]]:
    done = subprocess.run(
        ["exiftool", "-json", "-G1", "-n", "-struct", "-charset", "IPTC=UTF8", "-r", str(folder)],
        capture_output=True,
        check=True,
    )
    return {Path(each["SourceFile"]).name: each for each in json.loads(done.stdout)}


def listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [str(each).strip() for each in values]


def date_of(said: dict[str, object]) -> str | None:
    for name in DATES:
        value = " ".join(str(said[each]) for each in COMPOSITE.get(name, (name,)) if each in said)
        if value:
            return value[:19]
    return None


def people_of(said: dict[str, object]) -> list[str]:
    people = listed(said.get("XMP-iptcExt:PersonInImage"))
    for info, regions, name in (("XMP-mwg-rs:RegionInfo", "RegionList", "Name"),
                                ("XMP-MP:RegionInfoMP", "Regions", "PersonDisplayName")):  # fmt: skip
        if isinstance(found := said.get(info), dict):
            people += [region[name] for region in found[regions]]
    return people


STARS = {1: 1, 25: 2, 50: 3, 75: 4, 99: 5}
"""What Windows writes for stars."""


def rating_of(said: dict[str, object]) -> int | None:
    for stars, percents in (("XMP-xmp:Rating", "XMP-microsoft:RatingPercent"), ("IFD0:Rating", "IFD0:RatingPercent")):
        if stars in said:
            return int(float(str(said[stars])))
        if percents in said:
            return STARS[int(str(said[percents]))]
    return None


def expected(said: dict[str, object]) -> dict[str, object]:
    turned = int(str(said.get("IFD0:Orientation") or said.get("XMP-tiff:Orientation") or 1)) >= 5
    make, model = (str(said.get(f"IFD0:{n}") or said.get(f"XMP-tiff:{n}") or "") for n in ("Make", "Model"))
    keywords = [*listed(said.get("XMP-dc:Subject")), *listed(said.get("IPTC:Keywords"))]
    keywords += [k for each in listed(said.get("IFD0:XPKeywords")) for k in each.split(";")] + people_of(said)
    names = ("XMP-dc:Description", "XMP-dc:Title", "IPTC:Caption-Abstract", "IPTC:ObjectName", "IFD0:ImageDescription",
             "IFD0:XPTitle")  # fmt: skip
    latitude, longitude = said.get("Composite:GPSLatitude"), said.get("Composite:GPSLongitude")
    latitude, longitude = latitude or said.get("XMP-exif:GPSLatitude"), longitude or said.get("XMP-exif:GPSLongitude")
    return {
        "size": (32, 48) if turned else (48, 32),
        "date": date_of(said),
        "place": None if latitude is None else (round(float(str(latitude)), 5), round(float(str(longitude)), 5)),
        "camera": name_camera(make, model),
        "captions": [text for name in names for text in listed(said.get(name))],
        "keywords": keywords,
        "rating": rating_of(said),
        "label": said.get("XMP-xmp:Label"),
    }


def found(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    _, info = decode_picture(data, min_side=16, max_pixels=10_000)
    words = read_embedded(data)
    assert words.taken_at == info.taken_at
    return {
        "size": (info.width, info.height),
        "date": info.taken_at and f"{info.taken_at:%Y:%m:%d %H:%M:%S}",
        "place": None if info.latitude is None or info.longitude is None
        else (round(info.latitude, 5), round(info.longitude, 5)),
        "camera": info.camera, "captions": [*words.captions], "keywords": [*words.keywords],
        "rating": words.rating, "label": words.label,
    }  # fmt: skip


@pytest.mark.parametrize("ending", KINDS)
def test_what_exiftool_wrote_is_read_as_exiftool_reads_it(tmp_path, ending):
    if ending == "heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    plain = tmp_path / f"plain.{ending}"
    Image.new("RGB", (48, 32), "teal").save(plain, KINDS[ending])
    folder = tmp_path / "written"
    folder.mkdir()
    for name, options in FAMILIES.items():
        command = [
            "exiftool",
            "-q",
            "-m",
            "-charset",
            "IPTC=UTF8",
            "-o",
            str(folder / f"{name}.{ending}"),
            *options,
            str(plain),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if "Can't write RIFF" in done.stderr:
            pytest.skip("this version of exiftool does not write WebP")
        # exiftool writes no IPTC to WebP, HEIC and AVIF.
        assert done.returncode == 0 or any("IPTC" in option for option in options), done.stderr
    said = read_by_exiftool(folder)
    assert len(said) >= len(FAMILIES) - 3
    other = {
        name: (mine, theirs)
        for name in sorted(said)
        if (mine := found(folder / name)) != (theirs := expected(said[name]))
        and (ending, Path(name).stem) not in DIFFERENCES
    }
    assert other == {}
