"""What a caller puts into a library from Python, and what became of it."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from clipsearch.errors import InvalidInputError
from clipsearch.types import MetadataValue, Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    RecordImage = str | os.PathLike[str] | bytes | Image | NDArray[np.uint8]
    RecordVector = NDArray[np.floating[Any]] | Sequence[float]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One thing to find: a picture, a text, a vector, or several of these together.

    Attributes:
        id: The caller's own, unique in the library: 1 to 500 characters.
        image: A path, a URL (http or https), the bytes of a picture file, a Pillow image, or pixels: uint8 (h, w, 3),
            red, green and blue.
        text: A text of any length; long ones are found by their passages.
        caption: What is said of it, such as the caption of a picture or a title.
        metadata: JSON scalars and lists of str, by name.
        vector: Made elsewhere with the library's encoder: shape (dim,), of any length but zero. It stands for the
            picture if there is one, else for the text, else for what `modality` says.
        modality: What `vector` was made from, `image` or `text`, where that is not as said above.
    """

    id: str
    image: RecordImage | None = None
    text: str | None = None
    caption: str | None = None
    metadata: Mapping[str, MetadataValue] | None = None
    vector: RecordVector | None = None
    modality: Modality | str | None = None

    def __repr__(self) -> str:
        """Return what is given, short: pictures and vectors are long."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return f"Record({', '.join(f'{name}={_REPR.repr(value)}' for name, value in given if value is not None)})"


@dataclass(frozen=True, slots=True)
class AddReport:
    """What became of the records of one call.

    Attributes:
        added: How many are new.
        replaced: How many took the place of one with the same id.
        unchanged: How many were there already, as they are.
        failed: The id of each that was refused, and the reason; the library is as it was for these.
        seconds: Wall time.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0


_NAMES = frozenset(field.name for field in fields(Record))


def as_record(given: object) -> Record:
    """Return a record, made of a mapping if it is one. Raises InvalidInputError for anything else."""
    if isinstance(given, Record):
        return given
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"a record must be a Record or a mapping, not {type(given).__name__}")
    unknown = sorted(map(str, given.keys() - _NAMES))
    if unknown:
        raise InvalidInputError(f"a record has no field {unknown[0]!r:.80}; it has {', '.join(sorted(_NAMES))}")
    return Record(**{"id": None, **given})


def field_of(given: object, name: str) -> object:
    """Return a field of a record as it is; None where that cannot be said, and for an id that is no str."""
    value = getattr(given, name, None) if isinstance(given, Record) else None
    if isinstance(given, Mapping):
        try:
            value = given.get(name)
        except Exception:  # of a mapping of the caller's own
            return None
    if name != "id":
        return value
    return str.__str__(value) if isinstance(value, str) else None


def name_of(given: object) -> str:
    """Return what a record is called in a report, whatever it is."""
    name = field_of(given, "id")
    if isinstance(name, str):
        return name
    try:
        return f"{given!r:.80}"
    except Exception:  # of an object of the caller's own
        return f"a {type(given).__name__}"
