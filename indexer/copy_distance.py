"""Measure how far an encoder moves copies: a few pictures of the library are cut a little and encoded again.

They are cut at the size that the encoder sees, after they were decoded as those of an indexing run are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.config import Settings
from clipsearch.copy_distance import COPY_DISTANCE_KEY, measure
from clipsearch.encoders.base import Encoder, Pixels
from clipsearch.errors import EncoderError, EncoderMismatchError, MediaError
from clipsearch.media.content_hash import hash_content
from clipsearch.media.decode import read_regular
from clipsearch.ranking import MIN_SAMPLE, exact_scores
from clipsearch.store.catalog import Match
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.writer import SettingsWriter
from clipsearch.types import Modality
from indexer.calibration import LoadEncoder
from indexer.picture_reader import PictureReader
from indexer.spreads import GROWTH

logger = logging.getLogger("clipsearch")

_PICTURES, _MIN_PICTURES, _MAX_BYTES = 9, 6, 32 << 20
_CANDIDATES = 65
"""Rows that are looked at to find _PICTURES: most may be of films and documents."""

_FAILURES = (MemoryError, OSError, RuntimeError, ValueError)
"""What decoding and encoding may raise; no run ends because of what it can do without."""

MARGIN = 0.06
"""Of the edits that were tried, a margin moves small and large pictures most alike: what JPEG or a smaller size does to
a picture depends on how much detail it had (benchmarks/copy_distance.py)."""


def refresh_copy_distance(
    library: Library, writer: SettingsWriter, load_encoder: LoadEncoder, reader: PictureReader, settings: Settings
) -> None:
    """Measure the distance of copies if it was not measured yet or the library has grown.

    If the encoder is unavailable or fails, or hardly any of the pictures that were chosen can be read, all stays as it
    is, and the next run tries again. reader: decodes the pictures.
    """
    with library.read() as snapshot:
        known, rows = snapshot.copy_distance(), len(snapshot.rows(Modality.IMAGE))
        sample = snapshot.sample(Modality.IMAGE)
        if len(sample) < MIN_SAMPLE or rows < GROWTH * known.rows:
            return
        files = _read(snapshot, settings)
        if len(files) < _MIN_PICTURES:
            return
        try:
            encoder = load_encoder()
            cropped = _prepare(files, encoder, reader, settings)
            made = encoder.encode_pixels([*cropped.values()])
        except (EncoderError, EncoderMismatchError, MediaError, *_FAILURES) as error:
            logger.debug("The distance of copies is not measured: %r", error)
            return
        own = snapshot.rows(Modality.IMAGE).gather(np.array([*cropped], np.int64))
    if len(cropped) >= _MIN_PICTURES:
        moved = [1 - exact_scores(one, other[None])[0] for one, other in zip(made, own, strict=True)]
        writer.set_setting(COPY_DISTANCE_KEY, measure(np.array(moved), sample, rows).dump())


def _read(snapshot: Snapshot, settings: Settings) -> dict[int, bytes]:
    """Read the files of a few pictures, evenly spread, by row; without those that are not as they were encoded."""
    found = {}
    for row, match in _choose(snapshot).items():
        item = match.item
        try:
            data, _ = read_regular(item.path, min(settings.max_picture_bytes, _MAX_BYTES))
        except (OSError, MediaError):
            continue
        if hash_content(data, item.path) == item.content_hash and snapshot.is_sound(match):
            found[row] = data
    return found


def _choose(snapshot: Snapshot) -> dict[int, Match]:
    """Choose picture files, evenly spread, by row: no records, frames of films or pages of documents."""
    rows, live = snapshot.rows(Modality.IMAGE), snapshot.live(Modality.IMAGE)
    numbers = np.arange(len(rows)) if live is None else np.flatnonzero(live)
    matches = snapshot.matches(Modality.IMAGE, _spread(numbers.tolist(), _CANDIDATES))
    pictures = [row for row, match in sorted(matches.items()) if _is_picture_file(match)]
    return {row: matches[row] for row in _spread(pictures, _PICTURES)}


def _spread(rows: Sequence[int], most: int) -> list[int]:
    """Choose at most `most` of these, evenly spread."""
    places = np.linspace(0, len(rows) - 1, most if rows else 0).astype(np.int64)
    return [rows[place] for place in np.unique(places)]


def _is_picture_file(match: Match) -> bool:
    return os.path.isabs(match.item.path) and match.position is None


def _prepare(
    files: Mapping[int, bytes], encoder: Encoder, reader: PictureReader, settings: Settings
) -> dict[int, Pixels]:
    """Decode pictures and cut their margins; without those that cannot be decoded."""

    def prepare(data: bytes) -> Pixels | None:
        try:
            return reader.prepare(data, encoder, max_pixels=settings.max_pixels)[0]
        except MediaError:
            return None

    with ThreadPoolExecutor(settings.cores) as pool:
        pixels = zip(files, pool.map(prepare, files.values()), strict=True)
        return {row: tuple(map(cut_margins, arrays)) for row, arrays in pixels if arrays is not None}


def cut_margins(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut MARGIN off each side of a picture, uint8 (height, width, 3), and bring it back to its size."""
    height, width = pixels.shape[:2]
    box = (MARGIN * width, MARGIN * height, (1 - MARGIN) * width, (1 - MARGIN) * height)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, box))
