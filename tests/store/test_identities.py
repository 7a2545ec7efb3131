"""The identities of files in the catalog: learnt, doubted, believed; and roots that get another path."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipsearch.store.ledger import Doubt
from clipsearch.store.library import Library
from clipsearch.store.records import CaptionSource, FileIdentity, FileRecord, Scope
from clipsearch.store.verification import count_damaged
from clipsearch.store.writer import Writer
from tests.support.contents import add_root, new_library, outcome

NAMES = ("a", "b", "sub/c")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Three files of which no identity is known."""
    made = new_library(tmp_path / "library")
    root = add_root(made)
    with made.writer() as writer:
        writer.commit([outcome(record(name), f"p{number}") for number, name in enumerate(NAMES)])
    assert root == 1
    return made


def record(name: str, ctime_ns: int | None = None, inode: int | None = None) -> FileRecord:
    return FileRecord(1, name, 2, 1, CaptionSource(stamp=None), FileIdentity(ctime_ns, inode))


def note(writer: Writer, ctime_ns: int | None, inode: int | None) -> tuple[int, dict[Doubt, int]]:
    tally = writer.ledger.note([record(name, ctime_ns, inode) for name in NAMES], retry_failed=False)
    return tally.unchanged, dict(tally.doubted)


def test_identities_are_learnt_and_then_compared(library):
    for seen, found in (
        ((None, None), (3, {})),
        ((7, None), (3, {})),  # learnt
        ((7, 1), (3, {})),
        ((None, None), (3, {})),  # a system that says nothing
        ((7, 2), (0, {Doubt.RENUMBERED: 3})),
        ((8, 1), (0, {Doubt.TOUCHED: 3})),
        ((8, 2), (0, {Doubt.REPLACED: 3})),
    ):
        with library.writer() as writer:
            assert note(writer, *seen) == found


def test_what_is_believed_is_noted_and_nothing_else(library):
    with library.writer() as writer:
        note(writer, 7, 1)
    with library.writer() as writer:
        note(writer, 8, 2)
        assert len(writer.ledger.sample(Scope(1), Doubt.REPLACED, 2)) == 2
        assert {known for _, known in writer.ledger.doubted()} == {
            outcome(record(name), f"p{number}").content_hash for number, name in enumerate(NAMES)
        }
        writer.ledger.believe(Scope(1, "sub"), Doubt.REPLACED)
        assert [each.path for each in writer.ledger.todo()] == ["a", "b"]
    with library.writer() as writer:
        assert note(writer, 8, 2) == (1, {Doubt.REPLACED: 2})


def test_an_identity_is_no_part_of_a_digest(library):
    with library.writer() as writer:
        note(writer, 7, 1)
    with library.query() as connection:
        assert not any(count for count, _ in count_damaged(connection).values())


def test_a_root_that_gets_another_path_keeps_its_items(library):
    with library.writer() as writer:
        writer.relocate("", 1, "/elsewhere")
        assert [(root.id, root.path) for root in writer.roots("")] == [(1, "/elsewhere")]
        assert {each.path for each, _ in writer.sample_files(1, 10)} == set(NAMES)
        assert len(writer.sample_files(1, 2)) == 2
