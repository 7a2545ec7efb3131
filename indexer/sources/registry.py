"""What opens a data set by its address: tables, WebDataset shards, and what fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.paths import suffix
from indexer.sources.base import Source
from indexer.sources.files import LocalStorage, Storage, is_address
from indexer.sources.rows import ROLES

TABLES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})
TARS = frozenset({".tar"})


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a data set is read; kept with it for later runs.

    Attributes:
        columns: Which columns play which role, as ("image", "img"); the roles are `image`, `caption` and `id`. A role
            that is not named has the columns with the usual names.
        pictures: The folder that relative paths in a local table start from, and that paths must not lead out of; None
            for the folder of the table.
        fetch_urls: Whether pictures that a row names by a URL are fetched.
    """

    columns: tuple[tuple[str, str], ...] = ()
    pictures: str | None = None
    fetch_urls: bool = False

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> SourceOptions:
        """Return the options that JSON holds, which has lists for tuples. Raises ValueError for anything else."""
        columns = tuple((str(role), str(name)) for role, name in values.get("columns", ()))
        pictures, fetch_urls = values.get("pictures"), values.get("fetch_urls", False)
        if not isinstance(pictures, str | None) or not isinstance(fetch_urls, bool):
            raise ValueError(f"not options of a data set: {values!r:.80}")
        return cls(columns, pictures, fetch_urls)

    def check(self) -> None:
        """Raise InvalidInputError for columns with a role that there is not."""
        for role, name in self.columns:
            if role not in ROLES or not name:
                raise InvalidInputError(
                    f"The columns have {role}={name}, but the roles are {', '.join(ROLES)}, each with the name of a "
                    "column, such as image=photo,caption=alt_text,id=key."
                )


def is_source(address: str) -> bool:
    """Tell whether an address is that of a data set: a table, a tar file, a pattern of these, or one of fsspec."""
    return is_address(address) or suffix(address) in TABLES | TARS


def canonical(address: str) -> str:
    """Return the address of a data set as it is from every folder of this machine."""
    if not is_address(address):
        return os.path.realpath(address)
    *parts, last = address.split("::")
    return "::".join([*parts, last if "://" in last else os.path.realpath(last)])


def open_source(address: str, options: SourceOptions | None = None) -> Source:
    """Open a data set; nothing of it is read before its shards are.

    Raises InvalidInputError for an address that is not one of a data set, or whose protocol is not allowed.
    """
    options = options or SourceOptions()
    options.check()
    if not is_source(address):
        raise InvalidInputError(
            f"{address} is not a data set. Name a table ({', '.join(sorted(TABLES))}), a .tar file, a pattern of "
            "these, or an address such as s3://BUCKET/FOLDER." + _address_of(address)
        )
    return _open(address, _storage(address), options)


def _address_of(path: str) -> str:
    """Return a sentence that gives a folder's address as a data set; "" if the path is not a folder."""
    return f" Name this folder as file://{os.path.realpath(path)}" if os.path.isdir(path) else ""


def _storage(address: str) -> Storage:
    protocol, _, path = address.partition("://")
    if "::" not in address and (not path or protocol.lower() in ("file", "local")) and suffix(address) in TABLES | TARS:
        return LocalStorage()
    from indexer.sources.remote import RemoteStorage

    return RemoteStorage(address)


def _open(address: str, storage: Storage, options: SourceOptions) -> Source:
    kind = suffix(storage.path_of(address))
    if kind in TABLES:
        from indexer.sources.table import TableSource

        return TableSource(address, storage, options.columns, options.pictures)
    if kind in TARS:
        from indexer.sources.webdataset import WebDataset

        return WebDataset(address, storage, options.columns)
    from indexer.sources.remote import RemoteFolder, RemoteStorage

    assert isinstance(storage, RemoteStorage), "a path that is neither a table nor a tar file is no data set"
    return RemoteFolder(address, storage)
