"""Items of a library to the vectors of another encoder, from what the library knows of them and from their files.

Texts, captions and the text in pictures are in the catalog; pictures and the files of texts are read again, and only
while they hold what was indexed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, LibraryError, MediaError, WorkerUnavailableError
from clipsearch.media.decode import read_regular
from clipsearch.media.text import split_passages
from clipsearch.paths import is_url, unquote_path, unquote_source
from clipsearch.store.additions import DIGEST_LENGTH
from clipsearch.store.library import Library
from clipsearch.store.picture_files import read_kept
from clipsearch.store.records import Captions, Encoded, Failed, FileRecord, Known, Root, RootKind
from clipsearch.store.resolve import Part, parts_of, stored_rows
from clipsearch.store.schema import FIRST_RECOGNISED_PART
from clipsearch.store.second_items import StoredItem
from clipsearch.store.second_writer import SecondItem
from clipsearch.store.vectors import ROW_DTYPE
from clipsearch.types import Modality, Passage
from indexer.captioning import clean, encode_captions
from indexer.decode import Decoded, Decoder, Loaded, Vanished
from indexer.encode import encode_batch
from indexer.kept import BYTES, THUMBNAIL
from indexer.picture_reader import PictureReader

logger = logging.getLogger("clipsearch")

CHANGED = "its file has changed since it was indexed; bring the library up to date first: clipsearch index"


@dataclass(frozen=True, slots=True)
class ReadItem:
    """An item whose parts are ready to be encoded.

    decoded: its picture, or the passages of its file; None for neither. captions: passages of its captions, or of a
    record's texts. lines: passages of the text in its picture. imported: a caption that stands for an imported text.
    reason: why a part cannot be encoded.
    """

    item: StoredItem
    decoded: Decoded | None = None
    captions: tuple[Passage, ...] = ()
    lines: tuple[Passage, ...] = ()
    imported: str | None = None
    reason: str | None = None

    @property
    def record(self) -> FileRecord:
        """What stands for the item in the stages."""
        return record_of(self.item)

    @property
    def texts(self) -> tuple[Passage, ...]:
        """All passages of it that are encoded beside what was decoded."""
        whole = () if self.imported is None else (Passage(self.imported, 1, 1),)
        return (*whole, *self.captions, *self.lines)

    @property
    def size(self) -> int:
        """How many vectors it will have."""
        return len(self.texts) + (self.decoded.parts if self.decoded else 0)


def record_of(item: StoredItem) -> FileRecord:
    """Return the item as the stages take a file."""
    return FileRecord(item.root_id, unquote_path(item.path), item.size, item.mtime_ns)


class ItemReader:
    """Reads and decodes items; called from several threads."""

    def __init__(
        self, library: Library, encoder: Encoder, settings: Settings, roots: Sequence[Root], reader: PictureReader
    ) -> None:
        """Prepare. reader: decodes pictures."""
        self._library = library
        self._encoder = encoder
        self._settings = settings
        self._roots = {root.id: root.path for root in roots}
        self._decoder = Decoder(encoder, settings, self._roots, reader=reader)
        self._reader = reader

    def __call__(self, wanted: Iterable[StoredItem]) -> Iterator[ReadItem]:
        """Return what is to be encoded of each item, in their order."""
        some = list(wanted)
        files = iter(self._decoder([record_of(item) for item in some if _is_file(item)]))
        for item in some:
            yield self._read(item, next(files) if _is_file(item) else None)

    def _read(self, item: StoredItem, loaded: Loaded | None) -> ReadItem:
        if not item.is_sound:
            return ReadItem(item, reason="its entry in the catalog is damaged; repair it: clipsearch repair")
        lines = self._split(["\n".join(item.lines)]) if item.lines else ()
        if loaded is not None:
            is_spoken = item.modality is Modality.IMAGE and not (isinstance(loaded, Decoded) and loaded.passages)
            captions = self._split(item.captions) if is_spoken else ()
            return self._of_file(ReadItem(item, captions=captions, lines=lines), loaded)
        if item.kind is RootKind.COLLECTION:
            return self._imported(item)
        texts = [clean(text) for text in (item.caption, item.text) if text and text.strip()]
        read = ReadItem(item, captions=self._split(texts, from_one=True))
        if item.has_picture:
            return self._of_record(read)
        reason = None if read.captions else "its vector came with it, without a text; add it again"
        return replace(read, reason=reason)

    def _split(self, texts: Iterable[str], *, from_one: bool = False) -> tuple[Passage, ...]:
        """Cut texts into passages, each by itself; their lines go on, or begin at 1 for each: from_one."""
        passages: list[Passage] = []
        lines = 0
        for text in texts:
            found = split_passages(text, count=self._encoder.count_tokens, limit=self._encoder.max_tokens)
            passages += [replace(each, line=each.line + lines, end_line=each.end_line + lines) for each in found]
            lines += 0 if from_one else text.count("\n") + 1
        return tuple(passages)

    def _of_file(self, read: ReadItem, loaded: Loaded) -> ReadItem:
        item = read.item
        if isinstance(loaded, Vanished):
            root = self._roots[item.root_id]
            is_there = os.path.lexists(root) or os.path.isdir(os.path.dirname(root))
            return replace(read, reason="its file is gone" if is_there else f"{root} cannot be reached")
        if isinstance(loaded, Failed):
            return replace(read, reason=loaded.reason)
        if not isinstance(loaded, Decoded) or loaded.content_hash != item.content_hash:
            return replace(read, reason=CHANGED)
        return replace(read, decoded=replace(loaded, captions=None))

    def _imported(self, item: StoredItem) -> ReadItem:
        """Encode the caption of an imported record; there is no picture of it."""
        imported = item.caption if item.has_text else None
        read = ReadItem(item, imported=imported)
        if item.has_picture or not imported:
            reason = "its vector was imported; import those of the new encoder: clipsearch import-embeddings"
            return replace(read, reason=reason)
        return read

    def _of_record(self, read: ReadItem) -> ReadItem:
        try:
            content = self._picture_of(read.item)
            if isinstance(content, str):
                return replace(read, reason=content)
            pixels, info, _ = self._reader.prepare(content, self._encoder, max_pixels=self._settings.max_pixels)
        except (EncoderError, LibraryError, WorkerUnavailableError):
            raise
        except (MediaError, OSError, MemoryError, ValueError) as error:
            return replace(read, reason=f"its picture cannot be read: {getattr(error, 'strerror', None) or error}")
        unique = f"{read.item.content_hash} {read.item.path}"
        return replace(read, decoded=Decoded(read.record, unique, (pixels,), info))

    def _picture_of(self, item: StoredItem) -> bytes | str:
        """Return the file of a record's picture as it was added, or why it is not there."""
        if item.kept == BYTES:
            return read_kept(self._library, item.id, self._settings.max_picture_bytes)
        kept = "only a thumbnail of its picture is kept" if item.kept == THUMBNAIL else "its picture is not kept"
        source = None if item.source is None else unquote_source(item.source)
        if source is None or is_url(source):
            return f"{kept}; add it again"
        try:
            data, _ = read_regular(source, self._settings.max_picture_bytes)
        except (OSError, MediaError):
            return f"{kept}, and its file cannot be read; add it again"
        digest = hashlib.blake2b(data, digest_size=DIGEST_LENGTH // 2).hexdigest()
        return data if item.content_hash.endswith(digest) else f"{kept}, and its file has changed; add it again"


def _is_file(item: StoredItem) -> bool:
    return item.kind is RootKind.FOLDER


def encode_items(encoder: Encoder, batch: Sequence[ReadItem], *, works: bool) -> list[SecondItem]:
    """Encode what was read of items. works: whether the encoder is known to work, as in `encode_batch`.

    Raises EncoderError if an encoder that is not known to work fails for all, DeviceError.
    """
    fresh = [read.decoded for read in batch if read.decoded is not None]
    outcomes = encode_batch(encoder, fresh, works=works)
    by_hash = {each.content_hash: each for each in outcomes if isinstance(each, Encoded)}
    failed = {each.record: each.reason for each in outcomes if isinstance(each, Failed)}
    made = {each.record: by_hash.get(each.content_hash) for each in outcomes if isinstance(each, Encoded | Known)}
    spoken = [(read.record, Captions("", None, (), read.texts)) for read in batch if read.texts]
    said = encode_captions(encoder, spoken) if spoken else {}
    return [_item(read, made.get(read.record), failed, said) for read in batch]


def _item(
    read: ReadItem,
    made: Encoded | None,
    failed: Mapping[FileRecord, str],
    said: Mapping[FileRecord, Captions | None],
) -> SecondItem:
    """Put the vectors of an item together."""
    parts: list[Part] = []
    rows: dict[Modality, NDArray[np.float16]] = {}
    reason = read.reason or failed.get(read.record)
    if made is not None:
        parts += parts_of(made)
        rows |= stored_rows(made)
    spoken = said.get(read.record)
    if spoken is not None and spoken.vectors is not None:
        parts += _text_parts(read)
        spoken_rows = spoken.vectors.astype(ROW_DTYPE)
        own = rows.get(Modality.TEXT)
        rows[Modality.TEXT] = spoken_rows if own is None else np.concatenate([own, spoken_rows])
    elif read.texts:
        reason = reason or "its texts cannot be encoded"
    return SecondItem(read.item.id, read.item.stamp, parts, rows, reason)


def _text_parts(read: ReadItem) -> Iterator[Part]:
    if read.imported is not None:
        yield Part(Modality.TEXT, 0)
    for number, passage in enumerate(read.captions):
        yield Part.of_passage(number, passage)
    for number, passage in enumerate(read.lines, FIRST_RECOGNISED_PART):
        yield Part.of_passage(number, passage)
