"""Files of the same size and time whose identity is another: which of them are read again.

A file whose change time is another may have other content, as after `cp -p`, a date corrected in place or two names
that were swapped. So it is read; content that is known costs its hash, and nothing is encoded. But a drive that was
copied or restored gives nearly all of its files another change time and another inode, and one whose inodes are not
stable, such as FAT, gives files another inode whenever it is mounted. There a sample is read, and if none of it has
changed, all are taken for unchanged.
"""

from __future__ import annotations

from clipsearch.errors import MediaError
from clipsearch.media.content_hash import hash_content
from clipsearch.media.decode import read_regular
from clipsearch.media.extras import FILM_SUFFIXES
from clipsearch.media.films.process import open_film
from clipsearch.paths import join, quote_path, suffix
from clipsearch.store.ledger import Doubt, Ledger, Tally
from clipsearch.store.records import FileRecord, Root, Scope
from indexer.films import hash_film

SAMPLE = 64
"""Files that are read of many. If 5 in 100 have changed, 26 in 27 samples have one of these."""

MOST = 0.9
"""Share of the files of a walk that have another change time and another inode after a copy or a restore."""


def believe_sampled(ledger: Ledger, scope: Scope, root: Root, tally: Tally) -> int:
    """Take the files of a scope for unchanged that a sample speaks for; return how many. tally: of its walk."""
    believed = 0
    for doubt in (Doubt.REPLACED, Doubt.RENUMBERED):
        count = tally.doubted[doubt]
        if count > SAMPLE and _is_general(doubt, tally) and _is_same(ledger, scope, root, doubt):
            ledger.believe(scope, doubt)
            believed += count
    return believed


def _is_general(doubt: Doubt, tally: Tally) -> bool:
    """Tell whether a doubt comes from what holds the files. A mere inode proves little, however few have another."""
    whole = tally.identified + tally.doubted.total()
    return doubt is Doubt.RENUMBERED or tally.doubted[doubt] >= MOST * whole


def _is_same(ledger: Ledger, scope: Scope, root: Root, doubt: Doubt) -> bool:
    """Read a sample; tell whether all of it that can be read is as it was indexed."""
    found = [(hash_of(record, root.path), known) for record, known in ledger.sample(scope, doubt, SAMPLE)]
    read = [(now, known) for now, known in found if now is not None]
    return bool(read) and all(now == known for now, known in read)


def hash_of(record: FileRecord, root: str) -> str | None:
    """Return the hash of what a file holds now; None for one that cannot be read or has grown. root: its path."""
    path = join(root, quote_path(record.path))
    try:
        if suffix(path) in FILM_SUFFIXES:
            with open_film(path, record.size) as (descriptor, _):
                return hash_film(descriptor)
        return hash_content(read_regular(path, record.size)[0], path)
    except (OSError, MediaError, MemoryError):
        return None
