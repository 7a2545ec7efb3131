"""Run an open_clip model with torch on GPUs; the vectors are those of the export that answers queries.

Pictures are still resized in the decode threads, by Pillow: that gives the very bytes of open_clip's own transform,
the decoder has reduced them by then, and a whole picture would be many times as much to upload. Scaling them to
floats, four times the bytes, is left to the device. The weights are cast as a whole to the lower precision: layer
norms still sum in float32 inside their kernel, and the rows are compared with float32 before any is used.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipsearch.encoders import openclip
from clipsearch.encoders.base import Pixels
from clipsearch.encoders.device_batch import DeviceBatch
from clipsearch.encoders.export_folder import TOKENIZER, ExportMeta
from clipsearch.encoders.exporting import compute_fingerprint
from clipsearch.encoders.precision import FP16, FP16_ROOM, Precision, choices, watch_activations
from clipsearch.encoders.prepared import PreparedModel
from clipsearch.encoders.tokenizer_export import DIFFICULT_TEXTS
from clipsearch.encoders.torch_compiling import COMPILE_AFTER, Tower
from clipsearch.encoders.torch_graphs import capture_nothing, capture_on
from clipsearch.encoders.torch_lanes import LANES_PER_DEVICE, Lane, Lanes
from clipsearch.errors import DeviceError, EncoderError, EncoderUnavailableError

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("clipsearch")

DEVICE_BATCH = 256
"""Inputs at a time: fills a large GPU with the smallest towers, and is halved where memory runs out."""

COMMIT_BATCH = 1024
"""Pictures or passages a call: a few device batches, so that a lane is seldom empty, and a second's work or less."""


def load(folder: Path, meta: ExportMeta, devices: Sequence[str], precision: str, *, offline: bool) -> TorchEncoder:
    """Load the weights that an export was made from.

    folder, meta: the verified export. devices: torch's names. precision: as in Compute, but int8.
    Raises EncoderUnavailableError when the weights are gone or are others by now.
    """
    name = meta.name.removeprefix("openclip:")
    reference = openclip.fetch(name, offline=offline)
    found = compute_fingerprint(reference, (folder / TOKENIZER).read_text(encoding="utf-8"), meta.text)
    if found != meta.fingerprint:
        raise EncoderUnavailableError(
            f"The weights of {name} have fingerprint {found[:12]}, but the model was prepared from other weights, "
            f"{meta.fingerprint[:12]}. Restore those, or go on with the prepared model: "
            "`--device cpu` (in Python: Settings(device='cpu'))."
        )
    return TorchEncoder(folder, meta, reference, devices, precision=precision)


class TorchEncoder(PreparedModel):
    """A model on one or more devices; see clipsearch.encoders.base.Encoder for what the methods promise.

    Both towers go to every device when the first batch comes. They are checked against the model in float32 on the
    processor then, and `auto` goes on with a higher precision where one changes the vectors too much. A device that
    is lost ends the work of all: its batches would have to be encoded again, and a slow run would hide the fault.
    """

    def __init__(
        self,
        folder: Path,
        meta: ExportMeta,
        reference: openclip.Reference,
        devices: Sequence[str],
        *,
        precision: str = "auto",
        device_batch: int = DEVICE_BATCH,
        compile_after: float = COMPILE_AFTER,
    ) -> None:
        """Take a verified export and the model that it was made from.

        devices: torch's names, at least one. device_batch: inputs at a time. compile_after: seconds of work of the
        image tower.
        """
        super().__init__(folder, meta)
        self._reference: openclip.Reference | None = reference
        self._devices = [torch.device(name) for name in devices]
        self._precision = precision
        self._device_batch = device_batch
        self._compile_after = compile_after
        self._lock = threading.Lock()
        self._opened: tuple[Lanes, Lanes] | EncoderError = EncoderError(f"{meta.name} is not loaded.")

    @property
    def batch_size(self) -> int:
        """Pictures or passages preferred for a call."""
        return COMMIT_BATCH

    @property
    def streams(self) -> int:
        """Calls at a time that keep every device busy."""
        return self._lanes_each * len(self._devices)

    @property
    def _lanes_each(self) -> int:
        # Apple's GPUs have one queue here, which is not meant for several threads.
        return 1 if any(device.type == "mps" for device in self._devices) else LANES_PER_DEVICE

    def encode_pixels(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Encode prepared pictures into float32 (n, dim)."""
        return self._encode(0, (arrays[0] for arrays in batch))

    def encode_images(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """Encode upright pictures into float32 (n, dim)."""
        return self._encode(0, (self.preprocess(picture)[0] for picture in pictures))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode passages into float32 (n, dim), each cut at max_tokens."""
        tokenizer = self._load_tokenizer()
        # Rows of like length share a batch, so that a short text is not padded to a long one; a causal tower
        # meets few lengths, because the tokenizer rounds them up.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        result = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(order), self._device_batch):
            chosen = order[start : start + self._device_batch]
            result[chosen] = self._encode(1, iter(tokenizer.rows([texts[index] for index in chosen])))
        return result

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode search texts into float32 (n, dim), as encode_texts does."""
        return self.encode_texts(texts)

    def _encode(self, tower: int, rows: Iterator[NDArray[Any]]) -> NDArray[np.float32]:
        try:
            return self._load()[tower].encode(rows)
        except (RuntimeError, ValueError) as error:
            raise EncoderError(
                f"The encoder {self.name} failed on {self._devices[0]}: {openclip.brief(error)}."
            ) from error

    def _load(self) -> tuple[Lanes, Lanes]:
        with self._lock:
            if self._reference is not None:
                reference, self._reference = self._reference, None
                try:
                    self._opened = self._open(reference)
                except EncoderError as error:
                    self._opened = error
                except RuntimeError as error:
                    self._opened = DeviceError(
                        f"{self.name} cannot run on {self._devices[0]}: {openclip.brief(error)}. Free the device, or "
                        "write `--device cpu` (in Python: Settings(device='cpu'))."
                    )
            if isinstance(self._opened, EncoderError):
                # Kept, because it is the same for every batch, and finding it out took long.
                raise DeviceError(str(self._opened))
            return self._opened

    def _open(self, reference: openclip.Reference) -> tuple[Lanes, Lanes]:
        """Copy the model to the devices in the first precision that keeps its vectors."""
        pixels, ids = self._probes()
        expected, largest = _reference_rows(reference, pixels, ids)
        reason = ""
        for precision in choices(self._precision, self._devices):
            if precision is FP16 and self._precision == "auto" and largest > FP16_ROOM:
                reason = f"{self.name} has activations of {largest:.0f}, too near to the largest number of fp16"
                continue
            if reason:
                log.info("%s, so it encodes in %s.", reason, precision.name)
            lanes = self._lanes_of(reference, precision)
            rows = np.concatenate([lanes[0].encode(iter(pixels)), lanes[1].encode(iter(ids))])
            cosine = float((rows * expected).sum(axis=1).min())
            if cosine >= precision.least:
                return lanes
            del lanes  # its memory may be needed for the next
            reason = f"{self.name} in {precision.name} gives vectors with a cosine of {cosine:.4f} to those in fp32"
        raise EncoderError(
            f"{reason}. Use `--precision fp32` or `--device cpu` (in Python: those arguments of Settings)."
        )

    def _lanes_of(self, reference: openclip.Reference, precision: Precision) -> tuple[Lanes, Lanes]:
        from clipsearch.encoders.towers import build_towers

        picture, meta = reference.picture, self._meta
        built = [(device, build_towers(reference.model, picture, device, precision.dtype)) for device in self._devices]
        for device in self._devices:
            if device.type == "cuda":  # the weights went up on another stream than the lanes will use
                torch.cuda.synchronize(device)

        def lanes(
            which: int, row_shape: tuple[int, ...], input_type: torch.dtype, compile_after: float, *, one_shape: bool
        ) -> Lanes:
            batch = DeviceBatch(self._device_batch, self.name)
            towers = [(device, Tower(both[which], compile_after, tf32=precision.tf32)) for device, both in built]
            capture = capture_on if one_shape else capture_nothing
            replicas = towers * self._lanes_each
            return Lanes([Lane(tower, d, batch, row_shape, input_type, meta.dim, capture) for d, tower in replicas])

        # Texts are little work; where rows may be short they come in many lengths.
        image_shape, text_shape = (picture.height, picture.width, 3), (meta.text.context_length,)
        return (
            lanes(0, image_shape, torch.uint8, self._compile_after, one_shape=True),
            lanes(1, text_shape, torch.int64, math.inf, one_shape=not meta.text.bucketed),
        )

    def _probes(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Make a few pictures, from smooth to noise, and a few texts."""
        picture, rng = self._meta.picture, np.random.default_rng(0)
        noise = rng.integers(0, 256, (4, picture.height, picture.width, 3)).astype(np.float32)
        slope = np.linspace(0, 255, picture.width, dtype=np.float32)[:, None]
        share = np.array([0, 0.2, 0.5, 1], np.float32)[:, None, None, None]
        pixels = (share * noise + (1 - share) * slope).astype(np.uint8)
        return pixels, self._load_tokenizer().rows([DIFFICULT_TEXTS[index] for index in (3, 4, 6, 12)])


@torch.inference_mode()
def _reference_rows(
    reference: openclip.Reference, pixels: NDArray[np.uint8], ids: NDArray[np.int64]
) -> tuple[NDArray[np.float32], float]:
    """Return the right rows, float32 (n, dim), and the largest activation on the way to them."""
    from clipsearch.encoders.towers import ImageTower, text_tower

    with watch_activations(reference.model) as largest:
        pictures = ImageTower(reference.model, reference.picture).eval()(torch.from_numpy(pixels))
        texts = text_tower(reference.model)(torch.from_numpy(ids))
    rows: NDArray[np.float32] = torch.cat([pictures, texts]).numpy()
    return rows, max(largest, default=0.0)
