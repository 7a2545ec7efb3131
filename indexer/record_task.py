"""One record on its way into the library: what of it is new, and what is stored of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.paths import quote_source
from clipsearch.store.additions import BOTH, DIGEST_LENGTH, Addition, StoredRecord
from clipsearch.store.records import Captions
from clipsearch.store.resolve import ItemColumns, Part
from clipsearch.store.vectors import ROW_DTYPE
from clipsearch.types import Modality, PictureInfo
from indexer.sources.records import CheckedRecord

_PICTURE = (Part(Modality.IMAGE, 0),)
Vectors = NDArray[np.float16] | NDArray[np.float32]
_NOTHING: frozenset[Modality] = frozenset()
_TEXTS = frozenset({Modality.TEXT})


@dataclass(slots=True)
class RecordTask:
    """A record, and what the library has under its id.

    vector: float16 (1, dim), if it came with one. digest: see `StoredRecord`; "" before it is known. kept: the file
    that is kept of the picture, if it is new, and what it is. picture: what its file says. has_passages: whether it has
    passages to encode.
    """

    checked: CheckedRecord
    own: StoredRecord | None
    vector: NDArray[np.float16] | None
    digest: str = ""
    kept: tuple[bytes, str] | None = None
    picture: PictureInfo | None = None
    has_passages: bool = False

    def set_digest(self, content: bytes | Image.Image | None) -> None:
        """Digest what decides the rows, but for the texts: the picture that is encoded, and the vector it came with."""
        digest = hashlib.blake2b(digest_size=DIGEST_LENGTH // 2)
        if self.vector is not None:
            digest.update(self.checked.stands_for.encode())
            digest.update(self.vector.data)
        if isinstance(content, bytes):
            digest.update(content)
        elif content is not None:
            digest.update(repr(content.size).encode())
            digest.update(content.tobytes())
        self.digest = digest.hexdigest()

    @property
    def has_picture_vector(self) -> bool:
        """Whether no picture has to be encoded, since its vector came with it."""
        return self.vector is not None and self.checked.stands_for is Modality.IMAGE

    @property
    def is_same(self) -> bool:
        """Whether the library has this picture, or vector, under this id."""
        return self.own is not None and self.own.digest == self.digest

    @property
    def has_same_texts(self) -> bool:
        """Whether the library has these texts too."""
        own, checked = self.own, self.checked
        return own is not None and self.is_same and own.caption == checked.caption and own.text == checked.text

    def texts(self) -> list[str]:
        """Return the texts that are to be encoded, unless the library has them."""
        checked = self.checked
        if (checked.caption is None and checked.text is None) or self.has_same_texts:
            return []
        texts = [checked.caption, checked.text]
        if self.vector is not None and not self.has_picture_vector:  # it is the vector of the text, else of the caption
            texts = [] if checked.text is None else [checked.caption]
        return [text for text in texts if text and text.strip()]

    def addition(self, pixels: Vectors | None = None, captions: Captions | None = None) -> Addition | None:
        """Return what is to be stored; None if the library has it as it is.

        pixels: the vector of its picture, (1, dim); captions: the passages of its texts with their
        vectors, as far as they were encoded.
        """
        checked = self.checked
        source = None if checked.source is None else quote_source(checked.source)
        is_picture = checked.has_picture or self.has_picture_vector
        parts, rows = self._parts(pixels, captions)
        modality = Modality.IMAGE if is_picture else Modality.TEXT
        complete = Addition(
            checked.name, ItemColumns.of_content(modality, self.digest, self.picture), checked.caption, checked.text,
            checked.metadata, source, self.kept, None, BOTH, parts, rows,
        )  # fmt: skip
        return renew(complete, self.own, has_picture=checked.has_picture)

    def _parts(
        self, pixels: Vectors | None, captions: Captions | None
    ) -> tuple[tuple[Part, ...], dict[Modality, NDArray[np.float16]]]:
        """Return its parts as far as they were encoded, and their rows."""
        parts: tuple[Part, ...] = ()
        rows: dict[Modality, NDArray[np.float16]] = {}
        picture = self.vector if self.has_picture_vector else None
        picture = picture if pixels is None else pixels.astype(ROW_DTYPE, copy=False)
        if picture is not None:
            parts = _PICTURE
            rows[Modality.IMAGE] = picture
        texts: list[Part] = []
        blocks: list[NDArray[np.float16]] = []
        if self.vector is not None and not self.has_picture_vector:
            texts.append(_whole(self.checked.text))
            blocks.append(self.vector)
        if captions is not None and captions.vectors is not None:
            texts += [Part.of_passage(number, each) for number, each in enumerate(captions.passages, len(texts))]
            blocks.append(captions.vectors.astype(ROW_DTYPE, copy=False))
        if blocks:
            parts += tuple(texts)
            rows[Modality.TEXT] = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return parts, rows


def renew(complete: Addition, own: StoredRecord | None, *, has_picture: bool) -> Addition | None:
    """Return what is to be stored of a record where the library has `own` under its id; None if nothing.

    complete: all that is known of the record. has_picture: whether its picture is given or named.
    """
    if own is None:
        return complete
    renewed, keeps, kept = BOTH, False, complete.kept
    if own.digest == complete.columns.content_hash:
        has_same_texts = (own.caption, own.text) == (complete.caption, complete.text)
        renewed = _NOTHING if has_same_texts else _TEXTS
        keeps = kept is None and own.kept is not None and has_picture
        is_kept = kept is None and (keeps or own.kept is None)
        if not renewed and is_kept and (own.metadata, own.source) == (complete.metadata, complete.source):
            return None
    parts = tuple(part for part in complete.parts if part.modality in renewed)
    rows = {modality: rows for modality, rows in complete.rows.items() if modality in renewed}
    return replace(complete, own=own, renewed=renewed, parts=parts, rows=rows, keeps=keeps)


def _whole(text: str | None) -> Part:
    """Return the part of a vector that stands for a whole text, or without a text, for the caption."""
    return Part(Modality.TEXT, 0) if text is None else Part(Modality.TEXT, 0, text, 1, text.count("\n") + 1)
