"""A process that commits to a library in PostgreSQL until it is killed, and what must be there then."""

from __future__ import annotations

import subprocess
import sys

from clipsearch.filtering import Filter
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.postgres import address
from clipsearch.store.records import Encoded, FileRecord
from clipsearch.types import Modality
from tests.support.contents import hash_of, vectors_of
from tests.support.paths import ROOT
from tests.support.state import read_state


def picture(path: str, root: int = 1, content: str = "") -> Encoded:
    content = content or f"p{path}"
    return Encoded(FileRecord(root, path, 1, 1), hash_of(content), Modality.IMAGE, vectors_of(content))


def where(library: Library) -> address.CatalogAddress:
    marker = address.read_marker(library.folder)
    assert marker is not None
    return marker.address


def paths_in(library: Library) -> list[str]:
    with library.read() as snapshot:
        return sorted(item.path for item in snapshot.list_items(Filter(), None)[0])


WRITER = """
import sys
from pathlib import Path
from clipsearch.store.library import Library
from tests.support.postgres_writer import picture
with Library(Path(sys.argv[1])).writer(timeout=60) as opened:
    for number in range(int(sys.argv[2]), 10**6):
        opened.commit([picture(f"{number}-{i}") for i in range(3)])
        print(number, flush=True)
"""


def start_writer(library: Library, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(library.folder), str(first)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def committed(writer: subprocess.Popen[str]) -> int:
    assert writer.stdout is not None
    line = writer.stdout.readline()
    assert line, writer.communicate()[1]
    return int(line)


def check_all(library: Library, last: int) -> int:
    """All that was reported is there, in whole batches, and nothing else is but the batch in flight."""
    state = read_state(library.folder)
    batches = {int(path.split("-")[0]) for path in state.live}
    assert len(state.live) == 3 * len(batches) and batches >= set(range(last + 1))
    assert batches == set(range(len(batches)))
    assert not [f for f in examine(Library(library.folder), "build") if f.severity == "problem"]
    return len(batches)
