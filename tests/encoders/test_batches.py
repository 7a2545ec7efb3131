"""What batches may not change: short rows beside long ones, and runs that memory does not suffice for."""

import numpy as np
import pytest

from clipsearch.encoders import export_folder, onnx_runtime
from clipsearch.encoders.onnx_runtime import OnnxEncoder
from clipsearch.encoders.tokenizer import TextTokenizer
from clipsearch.errors import EncoderError
from clipsearch.store.records import Encoded, Failed, FileRecord
from indexer.decode import Decoded
from indexer.encode import encode_batch

BUCKETING_ERROR = 1e-5
"""The most that one minus the cosine may be, of a text in a short row against the same text in a full one."""

CAPTIONS = [f"a photo of {'very ' * (number % 40)}old houses, number {number}" for number in range(200)]


@pytest.fixture
def export(models):
    return models.export("classic_clip")[0]


@pytest.fixture
def encoder(export):
    return OnnxEncoder(export, export_folder.verify_export(export), threads=2)


@pytest.mark.slow
def test_texts_in_short_rows_are_what_they_are_in_full_ones(encoder, export):
    from onnxruntime import InferenceSession

    meta = export_folder.verify_export(export)
    tokenizer = TextTokenizer.from_file(export / "tokenizer.json", meta.text)
    full = np.zeros((len(CAPTIONS), meta.text.context_length), np.int64)
    for row, text in zip(full, CAPTIONS, strict=True):
        ids = tokenizer.ids(text)
        row[: len(ids)] = ids
    session = InferenceSession(export / "text.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": full})
    assert len({len(tokenizer.ids(text)) for text in CAPTIONS}) > 30
    cosines = np.einsum("nd,nd->n", encoder.encode_texts(CAPTIONS), expected)
    assert 1 - cosines.min() <= BUCKETING_ERROR


def test_a_row_is_as_long_as_its_longest_text_only_where_the_tower_allows_it(export, models):
    rules = export_folder.verify_export(export).text
    tokenizer = TextTokenizer.from_file(export / "tokenizer.json", rules)
    assert rules.bucketed and tokenizer.rows(["a cat", "two old dogs"]).shape == (2, 5)
    assert tokenizer.rows(["cat " * 200]).shape == (1, rules.context_length)
    folder, meta = models.export("siglip_like")
    rules = meta.text
    padded = TextTokenizer.from_file(folder / "tokenizer.json", rules).rows(["a cat"])
    assert not rules.bucketed and padded.shape == (1, rules.context_length)


def test_texts_past_what_is_sorted_together_keep_their_order(encoder, monkeypatch):
    expected = encoder.encode_texts(CAPTIONS)
    monkeypatch.setattr(onnx_runtime, "_TEXTS_SORTED", 60)
    found = encoder.encode_texts(CAPTIONS)
    assert np.einsum("nd,nd->n", found, expected).min() >= 1 - BUCKETING_ERROR


def greedy_tower(path, side, dim, limit):
    """Write a graph that asks for petabytes when it gets more than `limit` pictures, or one whose corner is white."""
    from onnx import TensorProto, helper, numpy_helper, save

    constants = {
        "limit": np.array([limit], np.int64),
        "zero": np.zeros(1, np.int64),
        "one": np.ones(1, np.int64),
        "huge": np.array([2**50], np.int64),
        "dim": np.array([dim], np.int64),
        "corner": np.array([0, 0, 0, 0], np.int64),
        "edge": np.array([2**31, 1, 1, 1], np.int64),
        "white": np.array([254], np.uint8),
        "unit": np.eye(1, dim, dtype=np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Shape", ["input"], ["count"], start=0, end=1),
        node("Greater", ["count", "limit"], ["crowded"]),
        node("Slice", ["input", "corner", "edge"], ["corners"]),
        node("Cast", ["corners"], ["numbers"], to=TensorProto.INT32),
        node("ReduceMax", ["numbers"], ["most"], keepdims=0),
        node("Cast", ["white"], ["bound"], to=TensorProto.INT32),
        node("Greater", ["most", "bound"], ["bad"]),
        node("Or", ["crowded", "bad"], ["too_much"]),
        node("Where", ["too_much", "huge", "zero"], ["wanted"]),
        node("ConstantOfShape", ["wanted"], ["waste"]),
        node("ReduceSum", ["waste"], ["nothing"], keepdims=0),
        node("Concat", ["count", "dim"], ["shape"], axis=0),
        node("Expand", ["unit", "shape"], ["rows"]),
        node("Add", ["rows", "nothing"], ["vectors"]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.UINT8, ["n", side, side, 3])
    made = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", dim])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tower", [given], [made], tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def decoded(number, side, white=False):
    pixels = np.full((side, side, 3), 255 if white else number, np.uint8)
    return Decoded(FileRecord(1, f"{number}.png", 1, 1), f"hash {number}", ((pixels,),))


@pytest.fixture
def greedy(export, tmp_path):
    """Make an encoder whose image tower runs out of memory with more than two pictures."""
    meta = export_folder.verify_export(export)
    greedy_tower(tmp_path / "image.onnx", meta.picture.side, meta.dim, limit=2)
    return OnnxEncoder(tmp_path, meta, threads=2)


def test_an_out_of_memory_of_onnx_runtime_is_our_error(greedy):
    side = greedy.picture_side
    assert greedy.encode_pixels([decoded(1, side).pixels[0]] * 2).shape == (2, greedy.dim)
    with pytest.raises(EncoderError, match="failed on a batch of 3"):
        greedy.encode_pixels([decoded(1, side).pixels[0]] * 3)


def test_a_batch_that_is_too_large_for_memory_is_halved_until_it_fits(greedy):
    outcomes = encode_batch(greedy, [decoded(number, greedy.picture_side) for number in range(13)])
    assert [type(outcome) for outcome in outcomes] == [Encoded] * 13
    assert [outcome.record.path for outcome in outcomes] == [f"{number}.png" for number in range(13)]


def test_a_picture_that_makes_the_tower_fail_does_so_alone(greedy):
    outcomes = encode_batch(greedy, [decoded(number, greedy.picture_side, white=number == 5) for number in range(13)])
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert [outcome.record.path for outcome in failed] == ["5.png"] and failed[0].transient
    assert sum(isinstance(outcome, Encoded) for outcome in outcomes) == 12
