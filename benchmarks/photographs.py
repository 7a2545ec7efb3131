"""Camera-size photographs made from small ones: enlarged, with grain that follows the edges, as JPEG at quality 90.

Sources: a folder of photographs; by default the folder shared/ beside the project, else the samples of scikit-image.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "flickr8k-mini" / "images"
CAMERA = (4000, 3000)
_SLACK = 512


def write_photographs(
    folder: Path, count: int, size: tuple[int, int] = CAMERA, sources: Path | None = None
) -> list[Path]:
    """Write the photographs that are not there yet; return the paths of `count` of them, named after their source."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(path for path in (sources or default_sources()).iterdir() if path.suffix in (".jpg", ".png"))
    wanted = [(number, names[number % len(names)]) for number in range(count)]
    paths = [folder / f"{source.stem}-{number // len(names)}.jpg" for number, source in wanted]
    missing = [
        (number, source, path) for (number, source), path in zip(wanted, paths, strict=True) if not path.exists()
    ]
    if missing:
        enlarge = enlarger(size)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda each: _write(enlarge, *each), missing))
    return paths


def enlarger(size: tuple[int, int]) -> Callable[[Image.Image, int], Image.Image]:
    """Return what enlarges a picture to `size` (that of a landscape) with grain, other grain for each number."""
    width, height = size
    field = _grain(width + _SLACK, height + _SLACK)

    def enlarge(picture: Image.Image, number: int) -> Image.Image:
        upright = picture.height > picture.width
        small = picture.transpose(Image.Transpose.ROTATE_90) if upright else picture
        # A second picture of one source is a part of it.
        box = (small.width * (number % 7) // 17, small.height * (number % 7) // 17, *small.size)
        edges = small.convert("L").filter(ImageFilter.FIND_EDGES).filter(ImageFilter.GaussianBlur(2))
        strength = np.asarray(edges.resize(size, Image.Resampling.BILINEAR, box), np.float32) / 40 + 0.4
        top, left = np.random.default_rng(number).integers(0, _SLACK, 2)
        strength *= field[top : top + height, left : left + width]
        values = np.asarray(small.resize(size, Image.Resampling.BICUBIC, box), np.float32) + strength[:, :, None]
        grown = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        return grown.transpose(Image.Transpose.ROTATE_270) if upright else grown

    return enlarge


def default_sources() -> Path:
    if _SHARED.is_dir():
        return _SHARED
    import skimage.data

    return Path(skimage.data.__path__[0])


def _grain(width: int, height: int) -> np.ndarray:
    """Return float32 (height, width): noise of four octaves."""
    rng, total = np.random.default_rng(0), np.zeros((height, width), np.float32)
    for step, deviation in ((1, 3), (2, 4), (4, 6), (8, 8)):
        coarse = rng.standard_normal((height // step, width // step), np.float32) * deviation
        total += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return total


def _write(enlarge: Callable[[Image.Image, int], Image.Image], number: int, source: Path, path: Path) -> None:
    with Image.open(source) as opened:
        picture = enlarge(opened.convert("RGB"), number)
    part = path.with_suffix(".part")
    picture.save(part, "JPEG", quality=90)
    part.replace(path)
