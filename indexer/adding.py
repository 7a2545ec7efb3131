"""Adding records from Python: what of them is new is decoded and encoded as files are, and committed batch by batch."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, Pixels
from clipsearch.errors import EncoderError, InvalidInputError, LibraryError, MediaError, WorkerUnavailableError
from clipsearch.media.decode import read_regular
from clipsearch.media.text import split_passages
from clipsearch.paths import is_url
from clipsearch.records import AddReport, Record
from clipsearch.store.additions import BOTH, DIGEST_LENGTH, Addition, Known
from clipsearch.store.library import Library
from clipsearch.store.records import Captions, Encoded, Failed, FileRecord, Outcome
from clipsearch.store.records import Known as Unencoded
from clipsearch.store.resolve import Part
from clipsearch.store.vectors import ROW_DTYPE
from clipsearch.store.writer import Writer
from clipsearch.types import Modality, Passage, PictureInfo
from clipsearch.words import normalize
from indexer.decode import Decoded, Loaded, load_all
from indexer.encode import EncodeStage
from indexer.isolation import make_reader
from indexer.picture_reader import PictureReader
from indexer.pipeline import batches
from indexer.report import Progress, Silent
from indexer.sources.records import BLOCK_RECORDS, Block, Checked, RecordSource

logger = logging.getLogger("clipsearch")

THUMBNAIL, BYTES = "thumbnail", "bytes"

THUMBNAIL_SIDE = 320
"""Pixels of the longer side of a thumbnail that is kept."""

MAX_KEPT = 64 << 20
"""Bytes of a picture that is kept in the catalog."""


@dataclass(frozen=True, slots=True)
class AddOptions:
    """How records are added.

    keep: what is kept of pictures, THUMBNAIL, BYTES or None. batch_size: records of a commit, 0 for what suits them.
    """

    keep: str | None = None
    batch_size: int = 0

    def check(self) -> None:
        """Raise InvalidInputError for options that make no sense."""
        if self.keep not in (None, THUMBNAIL, BYTES):
            raise InvalidInputError(f"keep is {self.keep!r}, but must be {THUMBNAIL!r}, {BYTES!r} or None.")
        if type(self.batch_size) is not int or self.batch_size < 0:
            raise InvalidInputError(f"batch_size is {self.batch_size!r}, but must be a whole number of at least 1.")


def add(
    library: Library,
    writer: Writer,
    settings: Settings,
    options: AddOptions,
    load_encoder: Callable[[], Encoder] | None,
    progress: Progress | None,
    records: Iterable[Record | Mapping[str, object]],
) -> AddReport:
    """Add records to a library. load_encoder: gives its encoder, None where its vectors are made elsewhere."""
    return Adding(library, writer, settings, options, load_encoder, progress).run(records)


@dataclass(slots=True)
class _Task:
    """A record on its way into the library. vector: float16 (1, dim). digest: see `additions.Known`.

    same: whether the library has that picture or vector under this id. texts: whether the library has these texts.
    """

    checked: Checked
    own: Known | None
    record: FileRecord
    vector: NDArray[np.float16] | None
    digest: str = ""
    kept: tuple[bytes, str] | None = None
    picture: PictureInfo | None = None
    is_spoken: bool = False

    @property
    def is_same(self) -> bool:
        return self.own is not None and self.own.digest == self.digest

    @property
    def has_same_texts(self) -> bool:
        own, checked = self.own, self.checked
        return self.is_same and own is not None and (own.caption, own.text) == (checked.caption, checked.text)

    @property
    def stands_for_picture(self) -> bool:
        """Whether no picture has to be encoded, since its vector came with it."""
        return self.vector is not None and self.checked.stands_for is Modality.IMAGE


class Adding:
    """One call that adds records."""

    def __init__(
        self,
        library: Library,
        writer: Writer,
        settings: Settings,
        options: AddOptions,
        load_encoder: Callable[[], Encoder] | None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare; load_encoder: gives the library's encoder, None where its vectors are made elsewhere."""
        self._library = library
        self._writer = writer
        self._settings = settings
        self._options = options
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None
        self._progress = progress or Silent()
        self._reader: PictureReader = make_reader(settings)
        self._root_id = writer.add_records_root()
        self._failed: list[tuple[str, str]] = []
        self._added = self._replaced = self._unchanged = 0

    def run(self, records: Iterable[Record | Mapping[str, object]]) -> AddReport:
        """Add records. What was committed before an error stays."""
        pin = self._library.encoder
        assert pin is not None, "a library is pinned before anything is added"
        started = time.monotonic()
        source = RecordSource(pin.dim, self._settings, self._options.batch_size or BLOCK_RECORDS)
        try:
            for block in source.blocks(records):
                self._add(block)
                self._progress.advance(block.taken)
        finally:
            self._reader.close()
        seconds = round(time.monotonic() - started, 3)
        return AddReport(self._added, self._replaced, self._unchanged, tuple(self._failed), seconds)

    def _add(self, block: Block) -> None:
        self._failed += block.failed
        self._replaced += block.superseded
        known = self._writer.known_additions(self._root_id, block.records)
        ready: list[tuple[_Task, Outcome]] = []
        waiting: list[_Task] = []
        for checked in block.records.values():
            vector = None if checked.vector is None else block.vectors[checked.vector : checked.vector + 1]
            size = len(checked.image) if isinstance(checked.image, bytes) else 0
            record = FileRecord(self._root_id, checked.name, size, 0)
            task = _Task(checked, known.get(checked.name), record, vector)
            if self._is_ready(task):
                ready.append((task, Unencoded(record, "")))
            else:
                waiting.append(task)
        self._commit(ready)
        if waiting:
            self._encode(waiting)

    def _is_ready(self, task: _Task) -> bool:
        """Digest a task without a picture to read; tell whether there is nothing to encode."""
        checked = task.checked
        if checked.has_picture and not (task.stands_for_picture and self._options.keep is None):
            return False
        task.digest = _digest(task, b"")
        return not self._texts(task)

    def _texts(self, task: _Task) -> list[str]:
        """Return the texts of a record that are to be encoded."""
        if self._load_encoder is None or task.has_same_texts:
            return []
        checked = task.checked
        stands_for_text = task.vector is not None and checked.stands_for is Modality.TEXT
        texts = [checked.caption, None if stands_for_text and checked.text is not None else checked.text]
        if stands_for_text and checked.text is None:
            texts = []
        return [text for text in texts if text and text.strip()]

    def _encode(self, tasks: Sequence[_Task]) -> None:
        """Decode, encode and commit, each batch while the next are on their way."""
        by_name = {task.checked.name: task for task in tasks}
        encoder = self._encoder
        if encoder is None and self._load_encoder is not None:
            self._progress.preparing()
            encoder = self._encoder = self._load_encoder()
        size = self._options.batch_size or self._settings.batch_size or (encoder.batch_size if encoder else 64)

        def load(chunk: list[_File]) -> Iterator[Loaded]:
            return (self._load(file.task, encoder) for file in chunk)

        files = [_File(task, task.record.size) for task in tasks]
        with closing(load_all(files, load, self._settings.cores, size)) as loaded:
            if encoder is None:
                for batch in batches(loaded, size):
                    found = [entry for entry in batch if isinstance(entry, Unencoded | Failed)]
                    self._commit([(by_name[entry.record.path], entry) for entry in found])
                return
            with closing(EncodeStage(encoder, lambda hashes: ()).run(batches(loaded, size))) as encoded:
                for done in encoded:
                    self._commit([(by_name[outcome.record.path], outcome) for outcome in done.outcomes])

    def _load(self, task: _Task, encoder: Encoder | None) -> Loaded:
        """Read and decode what of a record is not in the library, or say why that fails."""
        try:
            return self._load_picture(task, encoder) if task.checked.has_picture else self._with_texts(task, encoder)
        except (EncoderError, LibraryError, WorkerUnavailableError):
            raise
        except (MediaError, InvalidInputError) as error:
            return Failed(task.record, str(error))
        except OSError as error:
            return Failed(task.record, f"cannot be read: {error.strerror or error}")
        except Exception as error:
            logger.debug("decoding failed", exc_info=error)
            return Failed(task.record, f"could not be decoded: {error!r:.200}")

    def _load_picture(self, task: _Task, encoder: Encoder | None) -> Loaded:
        checked, keep = task.checked, self._options.keep
        if encoder is None and not task.stands_for_picture:
            raise InvalidInputError(
                "pictures cannot be encoded in a library of vectors made elsewhere; give its vector"
            )
        if not self._needs_file(task):
            return self._with_texts(task, encoder)
        content = self._read(checked)
        data = content if isinstance(content, bytes) else content.tobytes() + repr(content.size).encode()
        task.digest = _digest(task, b"" if task.stands_for_picture else data)
        has_kept = task.is_same and task.own is not None and task.own.kept == keep and not task.stands_for_picture
        if keep is not None and not has_kept:
            task.kept = self._keep(content, keep)
        if task.is_same or task.stands_for_picture or encoder is None:
            return self._with_texts(task, encoder)
        pixels, task.picture = self._prepare(content, encoder)
        unique = f"{task.digest} {checked.name}"  # so that none is taken for another, whose vectors it would lack
        return Decoded(task.record, unique, pixels, task.picture, captions=self._captions(task, encoder))

    def _needs_file(self, task: _Task) -> bool:
        return not (task.stands_for_picture and self._options.keep is None)

    def _with_texts(self, task: _Task, encoder: Encoder | None) -> Loaded:
        return Unencoded(task.record, "", self._captions(task, encoder))

    def _captions(self, task: _Task, encoder: Encoder | None) -> Captions | None:
        """Return the passages of a record's texts that are to be encoded; None for none."""
        if encoder is None:
            return None
        passages: list[Passage] = []
        for text in self._texts(task):
            plain = normalize(text.replace("\r\n", "\n").replace("\r", "\n"))
            passages += split_passages(plain, count=encoder.count_tokens, limit=encoder.max_tokens)
        task.is_spoken = bool(passages)
        return Captions("", "", (), tuple(passages)) if passages else None

    def _read(self, checked: Checked) -> bytes | Image.Image:
        """Return the file of a picture, or the picture itself."""
        if checked.image is not None:
            return checked.image
        assert checked.source is not None
        most = self._settings.max_picture_bytes
        if is_url(checked.source):
            from clipsearch.media.fetch import fetch_bytes

            return fetch_bytes(checked.source, max_bytes=most, allow_private=self._settings.allow_private_urls)
        return read_regular(checked.source, most)[0]

    def _prepare(self, content: bytes | Image.Image, encoder: Encoder) -> tuple[Pixels, PictureInfo]:
        if isinstance(content, bytes):
            pixels, info, _ = self._reader.prepare(content, encoder, max_pixels=self._settings.max_pixels)
            return pixels, info
        return encoder.preprocess(content), PictureInfo(content.width, content.height)

    def _keep(self, content: bytes | Image.Image, keep: str) -> tuple[bytes, str]:
        """Return the file that is kept of a picture. Raises PictureError, InvalidInputError for a large one."""
        if keep == THUMBNAIL:
            return _jpeg(self._small(content)), THUMBNAIL
        if not isinstance(content, bytes):
            written = io.BytesIO()
            content.save(written, "PNG")
            content = written.getvalue()
        if len(content) > MAX_KEPT:
            raise InvalidInputError(
                f"the picture has {len(content)} bytes, but at most {MAX_KEPT} can be kept; keep a thumbnail"
            )
        return content, BYTES

    def _small(self, content: bytes | Image.Image) -> Image.Image:
        if isinstance(content, bytes):
            (pixels,), _, _ = self._reader.prepare(content, _Shrink(), max_pixels=self._settings.max_pixels)
            return Image.fromarray(pixels)
        return _shrink(content)

    def _commit(self, done: Sequence[tuple[_Task, Outcome]]) -> None:
        additions: list[Addition] = []
        unchanged = 0
        for task, outcome in done:
            if isinstance(outcome, Failed):
                self._failed.append((task.checked.name, outcome.reason))
                continue
            if task.is_spoken and outcome.captions is None:
                self._failed.append((task.checked.name, "its text could not be encoded"))
                continue
            addition = _addition(task, outcome, self._options.keep)
            if addition is None:
                unchanged += 1
            else:
                additions.append(addition)
        if additions:
            self._writer.commit_additions(self._root_id, additions)
        replaced = sum(addition.own is not None for addition in additions)
        self._replaced += replaced
        self._added += len(additions) - replaced
        self._unchanged += unchanged


@dataclass(frozen=True, slots=True)
class _File:
    """A task as `load_all` takes it. size: bytes that are held already."""

    task: _Task
    size: int


class _Shrink:
    """Makes thumbnails, where an encoder would prepare its input."""

    picture_side = THUMBNAIL_SIDE

    def preprocess(self, picture: Image.Image) -> Pixels:
        """Return a thumbnail: uint8 (h, w, 3)."""
        return (np.asarray(_shrink(picture)),)


def _shrink(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return small


def _jpeg(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=85)
    return written.getvalue()


def _digest(task: _Task, picture: bytes) -> str:
    """Digest what decides the rows of a record, but for its texts: BLAKE2b-128, hexadecimal."""
    digest = hashlib.blake2b(picture, digest_size=DIGEST_LENGTH // 2)
    if task.vector is not None:
        digest.update(task.checked.stands_for.encode() + task.vector.tobytes())
    return digest.hexdigest()


def _addition(task: _Task, outcome: Encoded | Unencoded, keep: str | None) -> Addition | None:
    """Return what is to be stored of a record; None if the library has it as it is."""
    checked, own = task.checked, task.own
    renewed = frozenset() if task.has_same_texts else frozenset({Modality.TEXT}) if task.is_same else BOTH
    keeps = checked.has_picture and task.is_same and task.kept is None and own is not None and own.kept is not None
    if own is not None and not renewed and task.kept is None:
        if (own.metadata, own.source) == (checked.metadata, checked.source):
            return None
    parts, rows = _parts(task, outcome, renewed)
    has_picture = checked.has_picture or any(part.modality is Modality.IMAGE for part in parts)
    modality = Modality.IMAGE if has_picture or task.stands_for_picture else Modality.TEXT
    return Addition(
        checked.name, modality, task.digest, task.picture, checked.caption, checked.text, checked.metadata,
        checked.source, task.kept, own, renewed, parts, rows, keeps,
    )  # fmt: skip


def _parts(
    task: _Task, outcome: Encoded | Unencoded, renewed: frozenset[Modality]
) -> tuple[list[Part], dict[Modality, NDArray[np.float16]]]:
    """Return the parts of a record in the renewed modalities, and their rows."""
    parts: list[Part] = []
    rows: dict[Modality, NDArray[np.float16]] = {}
    if Modality.IMAGE in renewed:
        vectors = task.vector if task.stands_for_picture else None
        if isinstance(outcome, Encoded):
            vectors = outcome.vectors.astype(ROW_DTYPE)
        if vectors is not None:
            parts.append(Part(Modality.IMAGE, 0))
            rows[Modality.IMAGE] = vectors
    if Modality.TEXT in renewed:
        blocks: list[NDArray[np.float16]] = []
        if task.vector is not None and not task.stands_for_picture:
            text = task.checked.text
            last = None if text is None else text.count("\n") + 1
            parts.append(Part(Modality.TEXT, 0, text, last and 1, last))
            blocks.append(task.vector)
        if outcome.captions is not None and outcome.captions.vectors is not None:
            first = len(blocks)
            parts += [
                Part(Modality.TEXT, first + i, passage.text, passage.line, passage.end_line)
                for i, passage in enumerate(outcome.captions.passages)
            ]
            blocks.append(outcome.captions.vectors.astype(ROW_DTYPE))
        if blocks:
            rows[Modality.TEXT] = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return parts, rows
