"""Where a collection on a Milvus server is, how it was made, and what its name and description say."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass

from clipsearch.ann import server_trust
from clipsearch.errors import AnnIndexError, InvalidInputError
from clipsearch.types import Modality

SEGMENT_BYTES = 512 << 20
"""A server cuts a collection into segments of about this size, each with lists of its own."""

MAX_LISTS = 8192
MAX_DIM = 32_768
DIM_STEP = 8

_COLLECTION = re.compile(
    rf"clipsearch_(?P<library>[0-9a-f]{{32}})_(?P<modality>{'|'.join(Modality)})_[0-9a-f]{{1,32}}", re.ASCII
)


@dataclass(frozen=True, slots=True)
class MilvusParams:
    """Where a collection is, and how it was made.

    nlist: lists in each segment. m: sub-quantisers, each of 8 bits. rows: how many it was made for. own_score: the
    least score that rows got as queries for themselves when it was made.
    """

    dim: int
    nlist: int
    m: int
    rows: int
    uri: str
    collection: str
    own_score: float = 1.0

    @property
    def padded_dim(self) -> int:
        """The dimension on the server: zeros are added to make it a multiple of DIM_STEP."""
        return -(-self.dim // DIM_STEP) * DIM_STEP

    def check(self) -> None:
        """Raise AnnIndexError for what no build has written."""
        numbers = (self.dim, self.nlist, self.m, self.rows)
        is_whole = all(type(number) is int and number > 0 for number in numbers)
        try:
            is_ours = server_trust.read_uri(self.uri) == self.uri and is_collection(self.collection)
        except (InvalidInputError, TypeError):
            is_ours = False
        if not (is_whole and is_ours and self.dim <= MAX_DIM and -1 <= self.own_score <= 2):
            raise AnnIndexError("The catalog has a wrong entry for the Milvus index. Build it again: clipsearch build")


def is_collection(name: str) -> bool:
    """Tell whether a collection has a name that clipsearch gives."""
    return re.fullmatch(_COLLECTION, name) is not None


def collection_name(library_id: str, modality: Modality) -> str:
    """Return a name that no other collection ever has."""
    return f"{prefix(library_id)}{modality}_{time.time_ns():x}"


def prefix(library_id: str) -> str:
    """Return how the names of all collections of a library begin."""
    return f"clipsearch_{library_id}_"


def choose_lists(rows: int, dim: int) -> tuple[int, int]:
    """Choose lists in each segment, and sub-quantisers: a byte for 8 dimensions, for 4 of few."""
    padded = -(-dim // DIM_STEP) * DIM_STEP
    in_segment = min(rows, SEGMENT_BYTES // (4 * padded))
    nlist = max(2, min(MAX_LISTS, int(4 * in_segment**0.5), in_segment // 39))
    return nlist, padded // (4 if dim < 256 else 8)


def library_of_name(name: str) -> str:
    """Return the id of the library in the name of a collection; "" for a name that clipsearch does not give."""
    match = re.fullmatch(_COLLECTION, name)
    return match["library"] if match else ""


def label(library_id: str, place: str) -> str:
    """Return the description of a collection. place: the folder of the library, in any form that tells it apart."""
    return json.dumps({"clipsearch": library_id, "place": place})


def library_of(description: str) -> str:
    """Return the id of the library that a collection says it is of; "" for another one's."""
    return _label_field(description, "clipsearch")


def place_of(description: str) -> str:
    """Return the place of the library that a collection says it is of; "" for another one's."""
    return _label_field(description, "place")


def _label_field(description: str, name: str) -> str:
    try:
        found = json.loads(description)
        return str(found[name]) if isinstance(found, dict) and name in found else ""
    except (ValueError, RecursionError):
        return ""
