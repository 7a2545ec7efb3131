"""What is read of files of every kind that other programs write: counts, not times.

    python benchmarks/corpora.py [--pictures NAME=FOLDER ...] [--work FOLDER]

Each corpus is indexed by the builtin encoder as a user would, and counted by outcome: read, read with a note of what is
missing, refused with a reason, or passed over, as a file of another kind. Made here: pictures of every format, type and
depth that ImageMagick writes (`convert`; 2,253 files, some minutes), and films of every container and codec that PyAV
has. --pictures adds folders, such as `Pillow=Tests/images` of Pillow's source. Reasons of refusals go to stdout.
"""

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from harness import COMMAND, write_result

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.films import scene, write_film
from tests.support.pictures import noise_picture

TYPES = {
    "rgb": "TrueColor", "rgba": "TrueColorMatte", "grey": "Grayscale", "greya": "GrayscaleMatte", "pal": "Palette",
    "pala": "PaletteMatte", "bits": "Bilevel", "cmyk": "ColorSeparation",
}  # fmt: skip
ALPHA = ["-alpha", "set", "-channel", "A", "-evaluate", "multiply", "0.6", "+channel"]
TIFF_DEFINES = (
    "tiff:tile-geometry=64x64", "quantum:format=floating-point", "tiff:fill-order=lsb",
    "quantum:polarity=min-is-white", "tiff:alpha=associated", "quantum:format=signed",
)  # fmt: skip
TIFF_CODECS = ("None", "LZW", "Zip", "JPEG", "Group4", "Fax", "RLE", "LZMA", "ZSTD", "WebP")
NETPBM = ([], ["-compress", "None"])
FORMATS = {
    "JPEG": (".jpg", ([], ["-interlace", "Plane"], *(["-sampling-factor", s] for s in ("4:4:4", "4:2:2", "4:1:1")),
                      ["-quality", "100"])),
    "PNG": (".png", ([], ["-interlace", "PNG"])),
    **{name: (".png", ([],)) for name in ("PNG8", "PNG24", "PNG32", "PNG48", "PNG64")},
    "GIF": (".gif", ([], ["-interlace", "GIF"])), "GIF87": (".gif", ([],)),
    "BMP": (".bmp", ([], ["-compress", "RLE"])), "BMP2": (".bmp", ([],)),
    "BMP3": (".bmp", ([], ["-compress", "RLE"])),
    "TIFF": (".tif", (*(["-compress", codec] for codec in TIFF_CODECS), ["-endian", "MSB"], ["-interlace", "Plane"],
                      *(["-define", define] for define in TIFF_DEFINES))),
    "TIFF64": (".tif", ([],)), "PTIF": (".tif", ([],)),
    "JP2": (".jp2", ([], ["-quality", "100"])), "J2K": (".j2k", ([],)),
    **{name: (f".{name.lower()}", NETPBM) for name in ("PNM", "PBM", "PGM", "PPM")},
    "WEBP": (".webp", ([], ["-define", "webp:lossless=true"])),
    "PSD": (".psd", ([], ["-compress", "RLE"], ["-compress", "None"])),
    **{name: (f".{name.lower()}", ([],)) for name in ("AVIF", "HEIC", "SVG", "PDF")},
}  # fmt: skip
"""Of ImageMagick: the ending of each format, and the options that it is written with."""

WIDE = {"TIFF", "PSD"}
EIGHT_BITS = {"PNG8", "PNG24", "PNG32", "PNG48", "PNG64", "BMP2", "BMP3"}
TWO_DEPTHS = {"JPEG", "WEBP", "AVIF", "HEIC", "GIF", "GIF87", "SVG", "PDF", "JP2", "J2K"}
CONTAINERS = ("mp4", "m4v", "mov", "mkv", "webm", "avi")
CODECS = ("libx264", "libx265", "mpeg4", "mpeg2video", "mjpeg", "libvpx", "libvpx-vp9", "libaom-av1", "libsvtav1")


def main() -> None:
    """Make the corpora, index each and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--work", type=Path, help="Where the corpora are kept for another run.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        folders = {name: Path(folder) for name, _, folder in (each.partition("=") for each in given.pictures)}
        if shutil.which("convert"):
            folders["ImageMagick"] = kept(work / "imagemagick", write_pictures)
        folders["films by PyAV"] = kept(work / "films", write_films)
        rows = [count(name, folder, Path(scratch, f"library{i}")) for i, (name, folder) in enumerate(folders.items())]
    write_result("corpora", {"rows": rows})


def kept(folder: Path, make) -> Path:
    """Return a folder that was filled, unless it was before."""
    if not folder.exists():
        folder.mkdir(parents=True)
        make(folder)
    return folder


def write_pictures(folder: Path) -> None:
    """Write one picture in every way that ImageMagick can; what it cannot write is left out."""
    source = folder / "source.png"
    noise_picture(7, (240, 180)).save(source)
    for name, (ending, options) in FORMATS.items():
        depths = (8, 16) if name in TWO_DEPTHS else (8,) if name in EIGHT_BITS else (1, 2, 4, 8, 12, 16)
        depths = (*depths, 32) if name in WIDE else depths
        for option, (kind, type_name), depth in itertools.product(options, TYPES.items(), depths):
            label = re.sub(r"[-:=]", "", "_".join(option))
            before = [*(ALPHA if kind.endswith("a") else ()), *(("-colorspace", "CMYK") if kind == "cmyk" else ())]
            path = folder / f"{name}-{kind}-{depth}-{label}{ending}"
            convert(source, *before, "-type", type_name, "-depth", str(depth), *option, f"{name}:{path}")
    for turn, ending in itertools.product(range(1, 9), ("jpg", "png", "tif", "webp", "heic", "avif")):
        convert(source, "-orient", str(turn), folder / f"turned-{turn}.{ending}")
    for space, ending in itertools.product("Lab YCbCr LinearGray RGB HSL XYZ CMY".split(), ("tif", "jpg", "psd")):
        convert(source, "-colorspace", space, folder / f"space-{space}.{ending}")
    source.unlink()


def convert(*arguments: object) -> None:
    """Run ImageMagick."""
    subprocess.run(["convert", *map(str, arguments)], capture_output=True)


def write_films(folder: Path) -> None:
    """Write six seconds in every container with every codec; pairs that PyAV cannot write are left out."""
    import av

    for container, codec in itertools.product(CONTAINERS, CODECS):
        path = folder / f"{codec}.{container}"
        frames = ((n / 25, scene(n // 50, (320, 240))) for n in range(150))
        try:
            write_film(path, frames, codec=codec, gop=50)
        except (av.FFmpegError, ValueError):
            path.unlink(missing_ok=True)


def count(name: str, folder: Path, library: Path) -> dict:
    """Index a folder; returns how many files had which outcome, and prints why any were refused."""
    command = [COMMAND, "index", folder, "--library", library, "--model", "builtin-small", "--json"]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True)
    report = json.loads(ran.stdout)
    reasons = Counter(re.sub(r"\d+", "N", failed["reason"]) for failed in report["failed"])
    for reason, times in reasons.most_common():
        print(f"{name}: {times:>5}  {reason}", flush=True)
    row = {"corpus": name, "files": sum(1 for path in folder.rglob("*") if path.is_file())}
    row |= {"read": report["added"], "of_these_with_a_note": len(report["notes"]), "refused": len(report["failed"])}
    row["passed_over"] = row["files"] - row["read"] - row["refused"]
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
