"""The files that a table of captions names: on disk they may differ in case, in their folder, or in how Unicode is put.

A name counts from the folder of the table. Backslashes separate folders, as on Windows. A path that is not there, as
one from another machine, counts from where it names the folder of the table. What differs in case alone is the file, if
there is one such file; a bare name that is not beside the table is a picture below it, if one alone has that name.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable

from clipsearch.paths import suffix
from clipsearch.types import PICTURE_SUFFIXES
from clipsearch.words import normalize


def name_key(written: str) -> str:
    """Return a path as tables are asked for it: plain, and in the one of Unicode's forms that most write."""
    return normalize(posixpath.normpath(written.replace("\\", "/")))


class PictureNames:
    """Finds the pictures below a folder that names stand for. It remembers each folder that it has listed."""

    def __init__(self, folder: str, is_wanted: Callable[[str], bool]) -> None:
        """Take a folder, an absolute path. is_wanted: whether a path below it may be looked into."""
        self._folder = folder
        self._own_name = os.path.basename(folder).casefold()
        self._is_wanted = is_wanted
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Return the paths below the folder that each key stands for: one, none, or several that it may mean.

        keys: as `name_key` returns them.
        """
        found = {key: self._find(key) for key in keys}
        bare: dict[str, list[str]] = {}
        for key, paths in found.items():
            if not paths and "/" not in key and suffix(key) in PICTURE_SUFFIXES:
                bare.setdefault(key.casefold(), []).append(key)
        for folder, names in self._below() if bare else ():
            for name in names:
                for key in bare.get(normalize(name).casefold(), ()):
                    found[key].append(f"{folder}/{name}")
        return found

    def has(self, key: str) -> bool:
        """Tell whether a key stands for a picture by its path from the folder."""
        return bool(self._find(key))

    def _find(self, key: str) -> list[str]:
        """Look for a path below the folder."""
        parts = key.split("/")
        for start in self._starts(parts):
            if paths := self._descend(parts[start:]):
                return paths
        return []

    def _starts(self, parts: list[str]) -> list[int]:
        """Return from where on the parts of a path may count; one that leads out of a folder counts as it is."""
        inside = (
            [] if ".." in parts else [at + 1 for at, part in enumerate(parts[:-1]) if part.casefold() == self._own_name]
        )
        return [0, *reversed(inside)]

    def _descend(self, parts: list[str]) -> list[str]:
        """Return the files that a path means whose parts may differ in case."""
        folder = ""
        for part in parts[:-1]:
            names = self._alike(folder, part)
            folder = f"{folder}/{names[0]}" if folder and names else "".join(names[:1])
            if len(names) != 1 or not self._is_wanted(folder):
                return []
        names = self._alike(folder, parts[-1])
        if suffix(parts[-1]) not in PICTURE_SUFFIXES:
            return []
        return [f"{folder}/{name}" if folder else name for name in names]

    def _alike(self, folder: str, name: str) -> list[str]:
        """Return the entries of a folder that a name may mean: the one that is written so, else all that sound so."""
        alike = self._list(folder).get(name.casefold(), [])
        same = [each for each in alike if normalize(each) == name]
        return same[:1] or alike

    def _list(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listed:
            names: dict[str, list[str]] = {}
            try:
                for name in os.listdir(os.path.join(self._folder, folder)):
                    names.setdefault(normalize(name).casefold(), []).append(name)
            except OSError:
                pass  # such as one that is not there
            self._listed[folder] = names
        return self._listed[folder]

    def _below(self) -> Iterable[tuple[str, list[str]]]:
        """Yield the folders below, and the names of their files."""
        start = len(os.path.join(self._folder, ""))
        for path, folders, names in os.walk(self._folder):
            folder = path[start:].replace(os.sep, "/")
            folders[:] = [each for each in folders if self._is_wanted(f"{folder}/{each}" if folder else each)]
            if folder:
                yield folder, names
