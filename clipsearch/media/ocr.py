"""Recognise the text in a picture: PP-OCRv6, by the package rapidocr (extra `ocr`), on the processor.

The package ships the weights of all three models: which regions are text, which of them stand on their heads, and what
they say, in Chinese, English, Japanese and other Latin scripts. Nothing is fetched. One thread reads one picture;
several threads may read at a time. A picture decides neither how much memory nor how much time that takes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError, PictureError
from clipsearch.types import TextLine
from clipsearch.words import normalize

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SIDE = 1280
"""Pixels of the longer side that is looked at (benchmarks/ocr.py)."""

MIN_SIDE = MAX_SIDE * 9 // 16
"""Pixels of the shorter side that a picture should be decoded to at least."""

MIN_CONFIDENCE = 0.75
"""Lines of less are left out. All false words on the photographs that it was chosen on were below 0.6
(benchmarks/ocr.py --choose)."""

_MAX_LINES, _MAX_LINE_RATIO, _MAX_TOTAL_RATIO = 200, 60.0, 1500.0
"""Bounds of what is recognised of one picture: regions, and their widths in units of their heights."""

_MAX_CHARACTERS = 500
_CV_NO_MEMORY = -4
"""The code of an error of OpenCV that could not allocate."""

_MODELS = ("PP-OCRv6_det_small.onnx", "ch_ppocr_mobile_v2.0_cls_mobile.onnx", "PP-OCRv6_rec_small.onnx")
_RULES = f"2 {MAX_SIDE} {MIN_CONFIDENCE} {_MAX_LINES} {_MAX_LINE_RATIO} {_MAX_TOTAL_RATIO}"


def recogniser_fingerprint() -> str:
    """Return what changes with the weights and with the rules here: 40 hexadecimal digits.

    Raises InvalidInputError where the extra is not installed.
    """
    hashed = hashlib.blake2b(_RULES.encode(), digest_size=20)
    for path in _model_files():
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


class TextRecogniser:
    """Reads the text of pictures; safe to use from several threads, each of which reads on its own."""

    def __init__(self) -> None:
        """Load the models. Raises InvalidInputError where the extra is not installed."""
        files = dict(zip(("Det", "Cls", "Rec"), _model_files(), strict=True))
        try:
            import cv2
            from rapidocr import RapidOCR
        except ImportError as error:
            raise _missing() from error
        cv2.setNumThreads(1)
        engine: Any = RapidOCR(
            params={f"{part}.model_path": str(path) for part, path in files.items()}
            | {
                "Global.log_level": "critical",
                "Det.limit_type": "max",
                "Det.limit_side_len": MAX_SIDE,
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        # What is called by parts can be bounded between them; see pyproject.toml for the versions that have these.
        self._detect, self._turn, self._recognise = (
            engine._load_det_model(),
            engine._load_cls_model(),
            engine._load_rec_model(),
        )

    def read(self, picture: Image) -> tuple[TextLine, ...]:
        """Return the lines of text in an upright RGB picture, from top to bottom.

        Raises PictureError where the picture is to blame; MemoryError, OSError or RuntimeError where the machine or the
        models fail, which may go well another time.
        """
        from rapidocr.inference_engine.onnxruntime.main import ONNXRuntimeError

        try:
            return tuple(self._read(np.asarray(shrink(picture))))
        except (MemoryError, OSError, RuntimeError):
            raise
        except ONNXRuntimeError as error:  # what its models get has a bounded size, so that it is memory that lacks
            raise RuntimeError(f"the models that recognise text failed ({str(error.__cause__)[:100]})") from error
        except Exception as error:
            if getattr(error, "code", 0) == _CV_NO_MEMORY:
                raise MemoryError(str(error)[:100]) from error
            raise PictureError(f"its text cannot be recognised ({str(error)[:100] or type(error).__name__})") from error

    def _read(self, pixels: NDArray[np.uint8]) -> Iterator[TextLine]:
        from rapidocr.ch_ppocr_rec import TextRecInput
        from rapidocr.utils.process_img import get_rotate_crop_image

        height, width = pixels.shape[:2]
        image, top = _padded(np.ascontiguousarray(pixels[:, :, ::-1]))
        boxes = self._detect(image).boxes
        if boxes is None:
            return
        kept = [boxes[i].astype(np.float32) for i in _choose(boxes)]
        if not kept:
            return
        crops = [get_rotate_crop_image(image, box.copy()) for box in kept]
        found = self._recognise(TextRecInput(img=self._turn(crops).img_list))
        size = np.array([width, height], np.float32)
        for box, said, confidence in zip(kept, found.txts or (), found.scores or (), strict=True):
            text = clean_line(said)
            if confidence >= MIN_CONFIDENCE and is_telling(text):
                corners = np.clip((box - (0, top)) / size, 0, 1).round(4).tolist()
                yield TextLine(text, tuple((x, y) for x, y in corners), round(float(confidence), 3))


def shrink(picture: Image) -> Image:
    """Return a picture no larger than MAX_SIDE."""
    from PIL.Image import Resampling

    scale = MAX_SIDE / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(scale * side)) for side in picture.size)
    return picture.resize((width, height), Resampling.BICUBIC, reducing_gap=2.0)


def clean_line(text: str) -> str:
    """Return a line as a catalog holds it: NFC, no control characters, single blanks."""
    visible = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text[:_MAX_CHARACTERS])
    return " ".join(normalize(visible).split())


def is_telling(text: str) -> bool:
    """Tell whether a line says anything: it has two letters or digits.

    One alone, such as 一, is mostly an edge of something else, also with a high confidence.
    """
    return sum(c.isalnum() for c in text) > 1


def _padded(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Put black above and below a picture that is too flat for the model, as rapidocr does; return its new top too."""
    height, width = image.shape[:2]
    wanted = max(2 * width // 8, 60) if height <= 30 or width > 8 * height else height
    top = (wanted - height) // 2
    return (np.pad(image, ((top, top), (0, 0), (0, 0))), top) if top > 0 else (image, 0)


def _choose(boxes: NDArray[Any]) -> list[int]:
    """Return which regions, (n, 4, 2), are recognised, in their order: the highest first, until the bounds are met."""
    corners = boxes.astype(np.float64)
    across, down = (np.linalg.norm(corners[:, 0] - corners[:, i], axis=1).clip(1) for i in (1, 3))
    high, ratio = np.minimum(across, down), np.maximum(across, down) / np.minimum(across, down)
    order = np.argsort(-high, kind="stable")
    order = order[ratio[order] <= _MAX_LINE_RATIO][:_MAX_LINES]
    return sorted(order[np.cumsum(ratio[order]) <= _MAX_TOTAL_RATIO].tolist())


def _model_files() -> list[Path]:
    found = importlib.util.find_spec("rapidocr")
    if found is None or found.origin is None:
        raise _missing()
    return [Path(found.origin).parent / "models" / name for name in _MODELS]


def _missing() -> InvalidInputError:
    return InvalidInputError(
        "Recognising text in pictures needs rapidocr, which is not installed. Run: pip install 'clipsearch[ocr]'"
    )
