"""The names that files and folders of a library have. Nothing of any other name is read, cut or deleted."""

from __future__ import annotations

import re
import time

from clipsearch.types import Modality

VECTORS, LOCK = "vectors", "lock"
SUFFIX = ".f16"

_MODALITIES = "|".join(Modality)
_SEGMENT = re.compile(
    rf"(?:{_MODALITIES})-\d{{12,}}(?:-[0-9a-f]{{1,32}})?\{SUFFIX}", re.ASCII
)  # the first format had no stamp
_GENERATION = re.compile(rf"(?:{_MODALITIES})-[0-9a-f]{{1,32}}", re.ASCII)
_TEMPORARY = ".new-"
_INDEX_FILE = r"[a-z_]{1,32}\.[a-z]{1,8}"


def segment_name(modality: Modality, first_row: int) -> str:
    """Return a name that no other segment ever has."""
    return f"{modality}-{first_row:012d}-{time.time_ns():x}{SUFFIX}"


def generation_name(modality: Modality) -> str:
    """Return a name that no other generation ever has."""
    return f"{modality}-{time.time_ns():x}"


def temporary_name(generation: str) -> str:
    """Return the name of a generation's folder until it is complete."""
    return _TEMPORARY + generation


def is_segment_name(name: str) -> bool:
    """Tell whether a file of that name is a segment."""
    return re.fullmatch(_SEGMENT, name) is not None


def is_generation_name(name: str) -> bool:
    """Tell whether a folder of that name is a generation."""
    return re.fullmatch(_GENERATION, name) is not None


def is_temporary_name(name: str) -> bool:
    """Tell whether a folder of that name is a generation that is not complete."""
    return name.startswith(_TEMPORARY) and is_generation_name(name.removeprefix(_TEMPORARY))


def is_index_file_name(name: str) -> bool:
    """Tell whether a file of that name is one of a generation's."""
    return re.fullmatch(_INDEX_FILE, name) is not None
