"""Files that took each other's names: which they are, and that their items follow them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from clipsearch.store.renames import Renamed
from clipsearch.store.writer import Writer
from indexer.doubts import hash_of


def follow_renames(writer: Writer, roots: Mapping[int, str], should_stop: Callable[[], bool]) -> None:
    """Let the items of files that took each other's names follow them; roots: id -> absolute path.

    A single file that replaces another is left out: it takes over the id and tags of the other one, as an edited copy
    does that is saved under the name of its original.
    """
    found: list[Renamed] = []
    for each in _chained(writer.ledger.renamed()):
        if should_stop():
            return
        if hash_of(each.record, roots[each.record.root_id]) == each.content_hash:
            found.append(each)
    if found := _chained(found):
        writer.follow_renames(found)


def _chained(renamed: list[Renamed]) -> list[Renamed]:
    """Return the files whose old name another has now, or that have the name of another; each item and name once."""
    once = list({each.item_id: each for each in {(e.record.root_id, e.after): e for e in renamed}.values()}.values())
    before = {(each.record.root_id, each.before) for each in once}
    after = {(each.record.root_id, each.after) for each in once}
    return [
        each
        for each in once
        if (each.record.root_id, each.before) in after or (each.record.root_id, each.after) in before
    ]
