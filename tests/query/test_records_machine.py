"""Any sequence of adding, updating, deleting and reopening agrees with a dictionary and brute force."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import clipsearch
from clipsearch import Filter, Modality, Settings
from clipsearch.store.findings import Severity
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from tests.support.libraries import compact

SETTINGS = Settings(threads=1, offline=True)
DIM = 6

IDS = st.sampled_from(["a", "b", "c", "sku/17", "100%", "/etc/passwd", "ü", "http://x/y"])
WORDS = ["zebra", "horse", "cat and dog", "", "Ünïcode"]
METADATA = st.dictionaries(
    st.sampled_from(["n", "brand", "a.b", "ü"]),
    st.one_of(st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["x", "y", ""]), st.booleans(), st.none())
    | st.lists(st.sampled_from(["x", "y"]), max_size=2),
    max_size=3,
)
ROWS = st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM).filter(any)
TEXTS = st.none() | st.sampled_from(WORDS)
RECORDS = st.builds(
    lambda name, text, caption, metadata, row, modality: {
        "id": name, "text": text, "caption": caption, "metadata": metadata,
        "vector": row, "modality": modality if row else None,
    },
    IDS, TEXTS, TEXTS, METADATA, st.none() | ROWS, st.sampled_from([None, "image", "text"]),
).filter(lambda r: r["vector"] or r["text"] or r["caption"])  # fmt: skip


def modality_of(record) -> str | None:
    """What the vector of a record stands for."""
    if not record["vector"]:
        return None
    return record["modality"] or ("text" if record["text"] is not None else "image")


class RecordsMachine(RuleBasedStateMachine):
    """The model is a dictionary of the records by id, whose metadata and captions change as the library's do."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[str, dict] = {}
        self.ids: dict[str, int] = {}

    @initialize()
    def create(self) -> None:
        self.engine = clipsearch.open(self.folder / "lib", create=True, model="m", dim=DIM, settings=SETTINGS)

    def teardown(self) -> None:
        self.engine.close()
        library = Library(self.folder / "lib")
        found = [each.found for each in examine(library, "clipsearch build") if each.severity is Severity.PROBLEM]
        library.close()
        shutil.rmtree(self.folder)
        assert found == []

    @rule(records=st.lists(RECORDS, max_size=6), size=st.sampled_from([None, 1, 2]))
    def add(self, records, size) -> None:
        report = self.engine.add(iter(records), batch_size=size)
        assert report.failed == ()
        assert report.added == len({record["id"] for record in records} - {*self.model})
        assert report.added + report.replaced + report.unchanged == len(records)
        for record in records:
            self.model[record["id"]] = record | {"caption": record["caption"] or None}

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def add_again(self, data) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        record = self.model[name]
        report = self.engine.add([record])
        if record["vector"] or record["text"] or record["caption"]:
            assert report.unchanged == 1
        else:  # an update took all away that it could be found by
            assert len(report.failed) == 1

    @precondition(lambda self: self.model)
    @rule(data=st.data(), other=RECORDS, field=st.sampled_from(["metadata", "text", "caption"]))
    def change_one(self, data, other, field) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        before = self.model[name]
        changed = before | {field: other[field]}
        if changed["vector"] or changed["text"] or changed["caption"]:
            changed["caption"] = changed["caption"] or None
            report = self.engine.add([changed])
            assert (report.replaced, report.unchanged) == ((0, 1) if repr(changed) == repr(before) else (1, 0))
            self.model[name] = changed

    @rule(names=st.lists(IDS, max_size=3))
    def delete(self, names) -> None:
        gone = {*names} & {*self.model}
        assert self.engine.delete(names) == len(gone)
        for name in gone:
            del self.model[name], self.ids[name]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), changed=METADATA, caption=TEXTS)
    def update(self, data, changed, caption) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        removed = data.draw(st.sets(st.sampled_from(["n", "brand"])))
        self.engine.update(name, metadata=changed, remove=removed, caption=caption)
        record = self.model[name]
        kept = {key: value for key, value in record["metadata"].items() if key not in removed}
        self.model[name] = record | {"metadata": {**kept, **changed}}
        if caption is not None:
            self.model[name]["caption"] = caption or None

    @rule()
    def reopen(self) -> None:
        self.engine.close()
        self.engine = clipsearch.open(self.folder / "lib", settings=SETTINGS)

    @rule(modality=st.sampled_from([*Modality]))
    def compact(self, modality) -> None:
        with self.engine.library.read() as snapshot:
            rows = len(snapshot.rows(modality))
        if rows:
            compact(self.engine.library, modality)

    @rule(row=ROWS, modality=st.sampled_from(["image", "text"]), wanted=st.none() | st.sampled_from(["x", 1, True]))
    def search(self, row, modality, wanted) -> None:
        filters = None if wanted is None else Filter(where={"n": wanted})
        hits = self.engine.search(vector=row, modality=modality, k=20, filters=filters, hybrid=False)
        query = np.array(row) / np.linalg.norm(row)
        expected = {
            name: float(query @ record["vector"]) / float(np.linalg.norm(record["vector"]))
            for name, record in self.model.items()
            if modality_of(record) == modality and (wanted is None or has(record["metadata"], "n", wanted))
        }
        assert {hit.item.key for hit in hits} == {*expected}
        for hit in hits:
            assert hit.score == pytest.approx(expected[hit.item.key], abs=2e-3)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    @rule(word=st.sampled_from(["zebra", "horse", "dog"]))
    def find(self, word) -> None:
        found = {item.key for item in self.engine.find(Filter(caption=word))}
        assert found == {
            name for name, record in self.model.items() if word in f"{record['caption'] or ''} {record['text'] or ''}"
        }

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "engine"):
            return
        items = {item.key: item for item in self.engine.items()}
        assert {*items} == {*self.model}
        for name, record in self.model.items():
            item = items[name]
            assert (item.text, item.caption, item.path) == (record["text"], record["caption"], f"record:{name}")
            assert item.metadata == record["metadata"]
            assert item.modality == (modality_of(record) or "text")
            assert self.ids.setdefault(name, item.id) == item.id  # it stays
        assert self.engine.count() == len(self.model)


def has(metadata, name, wanted) -> bool:
    """Brute force: numbers equal numbers, truth values only truth values, a list has what is looked for."""
    value = metadata.get(name)
    values = value if isinstance(value, list) else [value]
    return any(isinstance(each, bool) is isinstance(wanted, bool) and each == wanted for each in values)


TestRecords = RecordsMachine.TestCase
TestRecords.settings = settings(max_examples=8, stateful_step_count=12)


@pytest.mark.slow
class TestRecordsAtLength(RecordsMachine.TestCase):
    settings = settings(max_examples=60, stateful_step_count=25)
