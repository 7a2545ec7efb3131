"""Files that took each other's names: tags and ids stay with the picture, and nothing is encoded again."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.libraries import Place, photo

pytestmark = pytest.mark.slow


class Tagged(Place):
    """A place whose pictures a.jpg to d.jpg have the stems of their names as tags."""

    def tags(self) -> dict[str, list[str]]:
        """Return the tags of the live items, by name."""
        with SearchEngine(Library(self.library), encoder=self.encoder) as engine:
            return {os.path.basename(item.path): [*item.tags] for item in engine.find()}

    def rename(self, *names: str) -> None:
        """Rename the files: the first to the second, and so on; the last to the first if that is named again."""
        paths = [self.root / f"{name}.jpg" for name in names]
        kept = [path.rename(path.with_suffix(".moving")) for path in paths[:-1]]
        for path, new in zip(kept, paths[1:], strict=True):
            path.replace(new)


@pytest.fixture
def tagged(tmp_path: Path, encoder) -> Tagged:
    place = Tagged(tmp_path, encoder)
    for number, name in enumerate("abcd"):
        photo(place.root / f"{name}.jpg", number)
        os.utime(place.root / f"{name}.jpg", (10**9, 10**9))
    place.run()
    with SearchEngine(Library(place.library), encoder=encoder) as engine:
        for name in "abcd":
            engine.tag([str(place.root / f"{name}.jpg")], add=name)
    return place


def test_names_that_go_around_take_the_tags_along(tagged):
    tagged.rename("a", "b", "c", "a")
    found = tagged.run()
    assert (found["changed"], found["unchanged"], tagged.encoder.pictures) == (3, 1, 0)
    assert tagged.tags() == {"a.jpg": ["c"], "b.jpg": ["a"], "c.jpg": ["b"], "d.jpg": ["d"]}
    assert tagged.run() == {"unchanged": 4}


def test_numbers_that_close_a_gap_take_the_tags_along(tagged):
    tagged.rename("b", "a")
    tagged.rename("c", "b")
    tagged.rename("d", "c")
    found = tagged.run()
    assert (found["changed"], found["removed"], tagged.encoder.pictures) == (3, 1, 0)
    assert tagged.tags() == {"a.jpg": ["b"], "b.jpg": ["c"], "c.jpg": ["d"]}
    assert tagged.run() == {"unchanged": 3}


def test_a_file_that_replaces_another_takes_over_what_that_had(tagged):
    tagged.rename("b", "a")
    tagged.run()
    assert tagged.tags() == {"a.jpg": ["a"], "c.jpg": ["c"], "d.jpg": ["d"]}


def test_other_content_under_an_inode_and_links_move_nothing(tagged):
    tagged.rename("a", "b", "a")
    photo(tagged.root / "a.jpg", 9)  # over the same inode
    (tagged.root / "d.jpg").unlink()
    os.link(tagged.root / "c.jpg", tagged.root / "d.jpg")
    os.utime(tagged.root / "a.jpg", (10**9, 10**9))
    tagged.run()
    assert tagged.tags()["c.jpg"] == ["c"] and tagged.tags()["d.jpg"] == ["d"]
    assert tagged.tags()["a.jpg"] == ["a"]


@pytest.mark.sqlite
def test_no_item_is_read_that_has_nothing_to_do_with_a_rename(tagged):
    """Otherwise each changed file would be compared with all items of its root."""
    plans = []

    def explain(connection, cursor, statement, parameters, context, executemany):
        if "run_todo" in statement and statement.startswith("SELECT"):
            raw = connection.connection.driver_connection
            plans.extend(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    with closing(Library(tagged.library)) as library, library.writer() as writer:
        event.listen(writer._connection, "before_cursor_execute", explain)
        assert writer.ledger.renamed() == []
    items = [plan for plan in plans if " items " in f"{plan} "]
    assert len(items) == 2 and all("(root_id=? AND path=?)" in plan or "PRIMARY KEY" in plan for plan in items), plans
