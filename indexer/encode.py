"""Batches of decoded files to vectors."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder, Pixels, check_unit_rows
from clipsearch.errors import ClipSearchError, DeviceError, EncoderError
from clipsearch.store.records import Captions, Encoded, Failed, FileRecord, Known, Outcome
from clipsearch.store.vectors import ROW_DTYPE
from clipsearch.types import Modality
from indexer.captioning import attach, encode_captions
from indexer.decode import Decoded, Loaded

logger = logging.getLogger("clipsearch")

_SLICE = 256
"""Passages of a long text, or pictures, that are encoded before the run may be stopped."""

_Done = tuple[list[Outcome], dict[FileRecord, Captions | None]]


@dataclass(frozen=True, slots=True)
class Job:
    """A batch on its way: what was loaded, and which of it has to be encoded."""

    loaded: Sequence[Loaded]
    fresh: Sequence[Decoded]


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What came of a batch: its outcomes, and how many files it had. hashes: of the content that was encoded."""

    files: int
    outcomes: list[Outcome]
    hashes: frozenset[str]


class EncodeStage:
    """Encodes batches in threads of its own while the next are decoded and those before are committed."""

    def __init__(
        self,
        encoder: Encoder,
        find_known: Callable[[Collection[str]], Collection[str]],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare; find_known: which content hashes the library holds."""
        self._encoder = encoder
        self._find_known = find_known
        self._should_stop = should_stop
        self._pending: deque[tuple[Job, Future[_Done]]] = deque()
        self._under_way: set[str] = set()
        self._works = False

    def run(self, batches: Iterable[Sequence[Loaded]]) -> Generator[EncodedBatch]:
        """Yield what came of each batch, in order; all but a batch for each stream wait to be decoded.

        Content that a batch before this one holds, committed or still on its way, is an outcome `Known`: whoever
        commits it finds out if encoding that other file failed. Once should_stop holds, what has not been begun is
        left out.
        """
        streams = max(1, self._encoder.streams)
        with ThreadPoolExecutor(streams, thread_name_prefix="encode") as pool:
            try:
                for batch in batches:
                    job = self._prepare(batch)
                    self._pending.append((job, pool.submit(self._encode, job)))
                    if len(self._pending) > streams:
                        yield self._finish()
                while self._pending:
                    yield self._finish()
            finally:
                pool.shutdown(cancel_futures=True)

    def release(self, batch: EncodedBatch) -> None:
        """Forget the content of a committed batch, which the library has now."""
        self._under_way -= batch.hashes

    def _prepare(self, batch: Sequence[Loaded]) -> Job:
        decoded = [d for d in batch if isinstance(d, Decoded) and d.content_hash not in self._under_way]
        known = self._find_known({d.content_hash for d in decoded})
        fresh = [d for d in decoded if d.content_hash not in known]
        self._under_way.update(d.content_hash for d in fresh)
        return Job(batch, fresh)

    def _encode(self, job: Job) -> _Done:
        if self._should_stop():
            return [], {}
        outcomes = encode_batch(self._encoder, job.fresh, self._should_stop, works=self._works)
        self._works = self._works or any(isinstance(outcome, Encoded) for outcome in outcomes)
        return outcomes, encode_captions(self._encoder, captions_of(job.loaded))

    def _finish(self) -> EncodedBatch:
        job, future = self._pending.popleft()
        outcomes, captions = future.result()
        fresh = {id(entry) for entry in job.fresh}
        for entry in job.loaded:
            if isinstance(entry, Decoded) and id(entry) not in fresh:
                outcomes.append(_known(entry))
            elif isinstance(entry, Known | Failed):
                outcomes.append(entry)
        hashes = frozenset(entry.content_hash for entry in job.fresh)
        return EncodedBatch(len(job.loaded), attach(outcomes, captions), hashes)


def captions_of(loaded: Sequence[Loaded]) -> list[tuple[FileRecord, Captions]]:
    """Return the captions that are to be encoded, with their files."""
    spoken = [(entry.record, entry.captions) for entry in loaded if isinstance(entry, Decoded | Known)]
    return [(record, captions) for record, captions in spoken if captions is not None and captions.passages]


def _known(decoded: Decoded) -> Known:
    return Known(decoded.record, decoded.content_hash, decoded.captions)


def encode_batch(
    encoder: Encoder,
    batch: Sequence[Decoded],
    should_stop: Callable[[], bool] = lambda: False,
    *,
    works: bool = False,
) -> list[Outcome]:
    """Encode files, each content once; a file that makes the encoder fail does so alone, and is tried again next time.

    should_stop: asked between slices of a long text; the texts that are not done then are left out. works: whether the
    encoder is known to work, so that it is the files that are to blame.
    Returns one outcome for each other file. Raises EncoderError if an encoder that is not known to work fails for every
    file of several, DeviceError, which is no fault of a file, in any case.
    """
    first: dict[str, Decoded] = {}
    for decoded in batch:
        first.setdefault(decoded.content_hash, decoded)
    outcomes = _encode(encoder, list(first.values()), should_stop)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if len(failed) == len(outcomes) > 1 and not works:
        raise EncoderError(f"The encoder {encoder.name} fails on every file; the first error: {failed[0].reason}.")
    reasons = {outcome.record: outcome.reason for outcome in failed}
    for decoded in batch:
        original = first[decoded.content_hash]
        if original is decoded:
            continue
        reason = reasons.get(original.record)
        known = _known(decoded)
        outcomes.append(known if reason is None else Failed(decoded.record, reason, transient=True))
    return outcomes


def _encode(encoder: Encoder, batch: Sequence[Decoded], should_stop: Callable[[], bool]) -> list[Outcome]:
    try:
        pictures = [d for d in batch if d.pixels]
        texts = [d for d in batch if not d.pixels]
        return [*_encode_pictures(encoder, pictures, should_stop), *_encode_texts(encoder, texts, should_stop)]
    except DeviceError:
        raise
    except (ClipSearchError, MemoryError, RuntimeError, ValueError) as error:
        if len(batch) == 1:
            logger.debug("encoding failed", exc_info=True)
            return [Failed(batch[0].record, f"could not be encoded: {error}", transient=True)]
        half = len(batch) // 2
        return [*_encode(encoder, batch[:half], should_stop), *_encode(encoder, batch[half:], should_stop)]


def _encode_pictures(encoder: Encoder, batch: Sequence[Decoded], should_stop: Callable[[], bool]) -> list[Outcome]:
    """Encode pictures, and the passages of those that are documents."""
    if not batch:
        return []
    vectors = _encode_slices(encoder, [pixels for decoded in batch for pixels in decoded.pixels], should_stop)
    said = _encode_passages(encoder, batch, should_stop)
    outcomes: list[Outcome] = []
    end = spoken = 0
    for decoded in batch:
        start, end = end, end + len(decoded.pixels)
        first, spoken = spoken, spoken + len(decoded.passages)
        if end > len(vectors) or spoken > len(said):
            break
        outcomes.append(
            Encoded(
                decoded.record,
                decoded.content_hash,
                Modality.IMAGE,
                vectors[start:end],
                decoded.picture,
                decoded.passages,
                decoded.captions,
                decoded.media,
                decoded.positions,
                said[first:spoken] if decoded.passages else None,
            )
        )
    return outcomes


def _encode_slices(encoder: Encoder, pixels: Sequence[Pixels], should_stop: Callable[[], bool]) -> NDArray[np.float16]:
    """Encode pictures, as far as the run goes on: float16 (n, dim), unit rows."""
    slices: list[NDArray[np.float32]] = []
    for start in range(0, len(pixels), _SLICE):
        if slices and should_stop():
            break
        slices.append(encoder.encode_pixels(pixels[start : start + _SLICE]))
    vectors = np.concatenate(slices)
    check_unit_rows(vectors)
    return vectors.astype(ROW_DTYPE)


def _encode_passages(
    encoder: Encoder, batch: Sequence[Decoded], should_stop: Callable[[], bool]
) -> NDArray[np.float16]:
    """Encode the passages of files, as far as the run goes on: float16 (n, dim), unit rows."""
    texts = [passage.text for decoded in batch for passage in decoded.passages]
    slices: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), _SLICE):
        if slices and should_stop():
            break
        slices.append(encoder.encode_texts(texts[start : start + _SLICE]))
    vectors = np.concatenate([np.empty((0, encoder.dim), np.float32), *slices])
    check_unit_rows(vectors)
    return vectors.astype(ROW_DTYPE)


def _encode_texts(encoder: Encoder, batch: Sequence[Decoded], should_stop: Callable[[], bool]) -> list[Outcome]:
    rows = _encode_passages(encoder, batch, should_stop)
    ends = np.cumsum([decoded.parts for decoded in batch])
    return [
        Encoded(
            decoded.record,
            decoded.content_hash,
            Modality.TEXT,
            rows[end - decoded.parts : end],
            passages=decoded.passages,
            media=decoded.media,
        )
        for decoded, end in zip(batch, ends, strict=True)
        if end <= len(rows)
    ]
