"""A shard to vectors, metadata and checksums, without a library."""

import dataclasses
import json

import numpy as np
import pytest

from clipsearch.errors import EncoderMismatchError, InvalidInputError
from clipsearch.types import Modality
from indexer import embed_shard as module
from indexer.embed_shard import EmbedTask, embed_shard
from indexer.embedded import EmbeddedBatch, unpack
from tests.support.shards import table, tasks_of


@pytest.fixture
def task(tmp_path, encoder):
    (found,) = tasks_of(str(table(tmp_path / "t.jsonl", 40)), encoder)
    return found


def embed(task, encoder):
    return [*embed_shard(task, lambda: encoder)]


def names(batches):
    found = [unpack(batch) for batch in batches]
    good = [record.addition.name for each in found for record in each.records]
    return good, dict(failure for each in found for failure in each.failed)


def test_every_row_becomes_a_record_or_a_failure(task, encoder):
    (batch,) = embed(task, encoder)
    good, failed = names([batch])
    assert (batch.first, batch.stop) == (0, 40)
    assert sorted(good) == sorted(f"t-{number}" for number in range(38))
    assert sorted(failed) == ["t-38", "t-39"]
    assert "missing-38.jpg" in failed["t-38"]
    assert [len(batch.vectors[modality]) for modality in Modality] == [3, 38]
    assert np.allclose(np.linalg.norm(batch.vectors[Modality.IMAGE].astype(np.float32), axis=1), 1, atol=1e-3)


def test_the_same_task_gives_the_same_bytes_wherever_it_runs(task, encoder):
    sent = EmbedTask.from_json(task.to_json())
    assert sent == task
    first, second = embed(task, encoder), [*embed_shard(sent)]  # which loads the encoder by its pin
    assert [each.checksum for each in first] == [each.checksum for each in second]


def test_the_rows_of_small_blocks_follow_each_other(task, encoder, monkeypatch):
    whole = names(embed(task, encoder))
    monkeypatch.setattr(module, "BLOCK_RECORDS", 7)
    batches = embed(task, encoder)
    assert [each.first for each in batches] == [0, *(each.stop for each in batches[:-1])]
    assert (batches[-1].stop, len(batches)) == (40, 6)
    assert names(batches) == whole
    rest = embed(dataclasses.replace(task, start=14), encoder)
    assert (rest[0].first, rest[-1].stop) == (14, 40)
    assert [each.checksum for each in rest] == [each.checksum for each in batches[2:]]


def test_bad_rows_alone_are_rows_too(tmp_path, encoder):
    path = tmp_path / "t.jsonl"
    path.write_text("nonsense\n" * 5)
    (batch,) = embed(tasks_of(str(path), encoder)[0], encoder)
    assert (batch.stop, len(names([batch])[1]), len(batch.vectors[Modality.TEXT])) == (5, 5, 0)


def test_a_failure_may_name_any_bytes():
    batch = EmbeddedBatch.of(0, 1, [], [("a\udcff\0", "b\udcff")], 4)
    assert unpack(batch).failed == [("a\\udcff ", "b\\udcff")]


def test_other_weights_under_the_same_name_are_refused(task):
    other = dataclasses.replace(task, encoder=dataclasses.replace(task.encoder, fingerprint="0" * 32))
    with pytest.raises(EncoderMismatchError):
        list(embed_shard(other))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": 1, "shard": 2}', "[" * 100_000, '{"shard": {"x": 1}}'])
def test_what_is_no_task_is_refused(text):
    with pytest.raises(InvalidInputError, match="not a task"):
        EmbedTask.from_json(text)


def changed(batch, number=0, **said):
    """The batch with other fields in one of its lines, None for none, and the checksum that fits."""
    line = json.loads(batch.lines[number]) | said
    lines = [*batch.lines]
    lines[number] = json.dumps({name: value for name, value in line.items() if value is not None}).encode() + b"\n"
    return dataclasses.replace(batch, lines=lines)


@pytest.mark.parametrize(
    "said",
    [
        {"id": ""},
        {"id": 7},
        {"id": "x" * 501},
        {"digest": "z" * 32},
        {"digest": None},
        {"modality": "sound"},
        {"picture": 1},
        {"image": "yes"},
        {"passages": None},
        {"passages": [["a", 1]] * 2},
        {"passages": []},
        {"passages": [["a", 0, 1]]},
        {"passages": [["\ud800", 1, 1]]},
        {"caption": ["a"]},
        {"caption": "a\0b"},
        {"metadata": "{"},
        {"metadata": '{"a":{"b":1}}'},
        {"metadata": '{"a": 1}'},
        {"width": -1},
        {"height": 1e9},
        {"taken_at": "yesterday"},
        {"latitude": 91},
        {"longitude": float("nan")},
        {"row": 7},
        {"failed": "why"},
    ],
)
def test_a_line_that_nobody_writes_is_refused(task, encoder, said):
    batch = embed(task, encoder)[0]
    text = next(number for number, line in enumerate(batch.lines) if b'"image":false' in line)
    for number in {text, 0 if "width" in said or "height" in said else text}:
        with pytest.raises(InvalidInputError):
            unpack(changed(batch, number, **said))


def test_vectors_and_pictures_that_do_not_fit_are_refused(task, encoder):
    batch = embed(task, encoder)[0]
    rows = batch.vectors
    zero, cut = np.zeros_like(rows[Modality.TEXT]), rows[Modality.TEXT][:-1]
    for bad in (zero, zero * np.float16("nan"), cut, rows[Modality.TEXT].astype(np.float32), np.zeros((0, 1, 1))):
        with pytest.raises(InvalidInputError):
            unpack(dataclasses.replace(batch, vectors={**rows, Modality.TEXT: bad}))
    for line in (b"{", b"[]", b"[" * 100_000, b"\xff"):
        with pytest.raises(InvalidInputError):
            unpack(dataclasses.replace(batch, lines=[line]))


def test_a_checksum_covers_all_that_a_batch_says(task, encoder):
    batch = embed(task, encoder)[0]
    batch.check()
    rows = {**batch.vectors, Modality.TEXT: batch.vectors[Modality.TEXT][::-1]}
    lines = batch.lines[::-1]
    for bad in ({"first": 1}, {"stop": 39}, {"lines": lines}, {"vectors": rows}, {"checksum": ""}):
        with pytest.raises(InvalidInputError, match="checksum"):
            dataclasses.replace(batch, **bad).check()
    assert EmbeddedBatch.of(0, 0, [], [], 4).checksum == EmbeddedBatch.of(0, 0, [], [], 4).checksum
