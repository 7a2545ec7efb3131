"""A row of a data set, by column, to a record: its picture, its captions, and everything else as metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from clipsearch.errors import InvalidInputError
from clipsearch.metadata import check_value
from clipsearch.paths import is_url
from clipsearch.records import Record
from clipsearch.types import MetadataValue
from indexer.sources.base import BadRow, Row
from indexer.sources.parquet import LeftOut

ROLES = ("image", "caption", "id")

_USUAL = {
    "image": (
        "image", "bytes", "image_bytes", "img", "path", "image_path", "file", "file_name", "filename", "filepath",
        "url", "image_url",
    ),
    "caption": ("caption", "captions", "text", "description", "alt_text"),
    "id": ("id", "key", "__key__"),
}  # fmt: skip
"""What the columns of a role are usually called, in lower case; of images and ids the first with a value counts."""

Picture = Callable[[str], "str | bytes"]


class _Layout(NamedTuple):
    """The columns of a row, and those with a role."""

    names: tuple[str, ...]
    images: list[str]
    captions: list[str]
    ids: list[str]


class RowReader:
    """Makes records of rows. What a row holds is checked, not trusted."""

    def __init__(self, columns: Iterable[tuple[str, str]]) -> None:
        """Prepare; columns: which columns have which role, for roles that the usual names do not fit."""
        self._named: dict[str, list[str]] = {}
        for role, name in columns:
            self._named.setdefault(role, []).append(name)
        self._layout = self._lay_out(())

    def fits(self, names: Iterable[str]) -> bool:
        """Tell whether a table with these columns has any with a picture or a caption."""
        layout = self._lay_out(tuple(names))
        return bool(layout.images or layout.captions)

    def read(self, number: int, name: str, fields: Mapping[str, object], picture: Picture) -> Row:
        """Make a row of its fields; picture: finds the picture that a path names. name: the id of a row without one."""
        try:
            return Row(number, self._record(name, fields, picture))
        except (ValueError, OSError, InvalidInputError) as error:
            return Row(number, BadRow(name, getattr(error, "strerror", None) or str(error)))

    def _record(self, name: str, fields: Mapping[str, object], picture: Picture) -> Record:
        for value in fields.values():
            if isinstance(value, LeftOut):
                raise ValueError(value.reason)
        layout = self._layout
        if layout.names != (names := tuple(fields)):
            layout = self._layout = self._lay_out(names)
        image, used = self._image([(column, fields[column]) for column in layout.images], picture)
        said = list(dict.fromkeys(_texts([fields[column] for column in layout.captions])))
        own, id_column = _id(layout, fields, name)
        if image is None and not said:
            raise ValueError("it has neither a picture nor a caption")
        left_out = {*layout.captions, *used, id_column}
        metadata = _metadata({key: value for key, value in fields.items() if key not in left_out})
        if image is None and len(said) == 1:
            return Record(own, text=said[0], metadata=metadata)
        lines = "\n".join(" ".join(text.split()) for text in said)
        return Record(own, image=image, caption=lines or None, metadata=metadata)

    def _lay_out(self, names: tuple[str, ...]) -> _Layout:
        """Say which columns have which role, in order of preference; most rows have the columns of the row before."""
        by_lower = {name.lower(): name for name in reversed(names)}
        found = {role: [by_lower[usual] for usual in _USUAL[role] if usual in by_lower] for role in ROLES}
        found |= {role: [name for name in named if name in names] for role, named in self._named.items()}
        return _Layout(names, found["image"], found["caption"], found["id"])

    def _image(self, given: Iterable[tuple[str, object]], picture: Picture) -> tuple[str | bytes | None, list[str]]:
        """Return the picture of a row, bytes before a path before a URL, and the columns that name it."""
        paths: list[tuple[str, str]] = []
        for column, value in given:
            data, path = _unpacked(value)
            if data is not None:
                return data, [column]
            if path:
                paths.append((column, path))
        for column, path in paths:
            if not is_url(path):
                return picture(path), [column]
        for column, url in paths:
            if url.lower().startswith(("http://", "https://")):
                return url, [column]
        if paths:
            raise ValueError(f"its picture {paths[0][1]!r:.80} is neither a path nor an http or https URL")
        return None, []


def _id(layout: _Layout, fields: Mapping[str, object], name: str) -> tuple[str, str | None]:
    """Return the id of a row and the column that has it, or else its name."""
    for column in layout.ids:
        value = fields[column]
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value), column
    return name, None


def _unpacked(value: object) -> tuple[bytes | None, str | None]:
    """Return the bytes of a picture, or where it is; both are in the structure that Hugging Face's tables have."""
    if isinstance(value, Mapping):
        data, path = value.get("bytes"), value.get("path")
        return (data if isinstance(data, bytes) and data else None), (path if isinstance(path, str) else None)
    if isinstance(value, bytes):
        return value or None, None
    return None, value.strip() if isinstance(value, str) else None


def _texts(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str) and value.strip():
            yield value.strip()
        elif isinstance(value, list | tuple):
            yield from _texts(each for each in value if isinstance(each, str))


def _metadata(fields: Mapping[str, object]) -> dict[str, MetadataValue] | None:
    """Return the fields that can be metadata; None for none."""
    kept: dict[str, MetadataValue] = {}
    for name, value in fields.items():
        if value is None or isinstance(value, bytes | Mapping):
            continue
        try:
            kept[name] = check_value(name, value)
        except InvalidInputError:
            continue
    return kept or None
