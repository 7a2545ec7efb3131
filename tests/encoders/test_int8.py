"""Encoders in int8: near fp32, independent of the batch, made once, and refused where they cannot serve."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.encoders import export_folder, int8, registry
from clipsearch.encoders.onnx_runtime import OnnxEncoder
from clipsearch.errors import EncoderUnavailableError
from tests.support.cli import run_cli
from tests.support.libraries import photos
from tests.support.vectors import cosines

TEXTS = ["a cat on a sofa", "", "two dogs", "a red car parked in front of a white house in the rain " * 3, "猫"]


@pytest.fixture(scope="module", params=["classic_clip", "siglip_like"])
def model(request, models):
    """An exported model: its export, and its name."""
    folder, meta = models.export(request.param)
    return folder, meta.name


@pytest.fixture
def export(model, tmp_path, monkeypatch):
    """A copy of the export, in a cache of its own."""
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(model[0], tmp_path / "cache" / "openclip" / model[0].name))


def encoder(export, *, rounded=True, threads=2):
    return OnnxEncoder(export, export_folder.verify_export(export), threads=threads, int8=rounded)


def pictures(count=6):
    rng = np.random.default_rng(1)
    coarse = [Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)) for _ in range(count)]
    return [picture.resize((90, 70), Image.Resampling.BICUBIC) for picture in coarse]


def kept(export):
    return export.parent / int8.FOLDER


def test_vectors_in_int8_are_near_those_in_fp32_and_bear_the_same_fingerprint(export):
    rounded, exact = encoder(export), encoder(export, rounded=False)
    assert rounded.fingerprint == exact.fingerprint
    for found, expected in (
        (rounded.encode_images(pictures()), exact.encode_images(pictures())),
        (rounded.encode_texts(TEXTS), exact.encode_texts(TEXTS)),
    ):
        assert found.dtype == np.float32 and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        assert int8.MIN_COSINE <= cosines(found, expected).min() < 0.9999999
    assert np.array_equal(rounded.encode_queries(TEXTS), exact.encode_queries(TEXTS))


def test_a_row_in_int8_is_the_same_alone_and_in_any_batch(export):
    rounded, black = encoder(export), Image.new("RGB", (64, 64))
    together = rounded.encode_images([*pictures(), black])
    assert np.array_equal(together[:6], np.concatenate([rounded.encode_images([one]) for one in pictures()]))
    together = rounded.encode_texts([*TEXTS, "cat " * 400])
    assert np.array_equal(together[:5], np.concatenate([rounded.encode_texts([text]) for text in TEXTS]))
    for nothing in (rounded.encode_images([]), rounded.encode_pixels([]), rounded.encode_texts([])):
        assert nothing.shape == (0, rounded.dim)


def test_int8_is_made_once_and_made_again_when_damaged(export):
    expected = encoder(export).encode_images(pictures(2))
    (folder,) = kept(export).iterdir()
    stamp = (folder / "image.onnx.data").stat().st_ino
    assert np.array_equal(encoder(export).encode_images(pictures(2)), expected)
    assert (folder / "image.onnx.data").stat().st_ino == stamp
    with open(folder / "image.onnx.data", "r+b") as file:
        file.truncate(1000)
    assert np.array_equal(encoder(export).encode_images(pictures(2)), expected)
    assert list(kept(export).iterdir()) == [folder]
    assert export_folder.verify_export(folder).fingerprint == encoder(export).fingerprint
    assert (folder / "image.onnx.data").stat().st_size < (export / "image.onnx.data").stat().st_size


def test_a_cache_that_cannot_be_written_still_serves_int8(export, caplog):
    expected = encoder(export).encode_images(pictures(2))
    shutil.rmtree(kept(export))
    kept(export).write_text("a file stands where the folder would be")
    assert np.array_equal(encoder(export).encode_images(pictures(2)), expected)
    assert "cannot be stored" in caplog.text
    assert kept(export).is_file() and len(os.listdir(export.parent)) == 2


def test_a_model_that_changes_too_much_is_refused_and_its_texts_stay_exact(export, monkeypatch, caplog):
    monkeypatch.setattr(int8, "MIN_COSINE", 1.1)
    with pytest.raises(EncoderUnavailableError, match=r"image.onnx to a cosine of 0\.9\d+.*--precision fp32"):
        encoder(export).encode_images(pictures(1))
    assert np.array_equal(encoder(export).encode_texts(TEXTS), encoder(export, rounded=False).encode_texts(TEXTS))
    assert "Texts are encoded in fp32" in caplog.text
    assert list(kept(export).iterdir()) == []


def test_a_tower_of_convolutions_is_refused(export):
    from onnx import TensorProto, helper, numpy_helper, save

    rounded, weights = encoder(export), np.ones((4, 3, 2, 2), np.float32)
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])
    found = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, None)
    node = helper.make_node("Conv", ["input", "weights"], ["vectors"])
    graph = helper.make_graph([node], "tower", [given], [found], [numpy_helper.from_array(weights, "weights")])
    save(helper.make_model(graph), export / "image.onnx")
    with pytest.raises(EncoderUnavailableError, match=r"covers only 0% of the weights .*--precision fp32"):
        rounded.encode_images(pictures(1))


def test_what_int8_does_not_serve_is_refused_when_it_is_loaded(model, export, monkeypatch):
    monkeypatch.setattr(int8, "MIN_COSINE", 1.1)
    with pytest.raises(EncoderUnavailableError, match="int8 is not suitable for"):
        registry.load(model[1], threads=1, offline=True, device="cpu", precision="int8")


@pytest.mark.slow
def test_index_in_int8_then_index_and_query_without(model, export, tmp_path):
    photos(tmp_path / "photos", 3)
    named = ("--library", tmp_path / "lib")
    options = ("--model", model[1].removeprefix("openclip:"), "--device", "cpu", "--precision", "int8")
    ran = run_cli("index", tmp_path / "photos", *named, *options)
    assert ran.code == 0 and "3 added" in ran.err and len(list(kept(export).iterdir())) == 1
    again = run_cli("index", tmp_path / "photos", *named, "--device", "cpu")
    assert again.code == 0 and "3 unchanged" in again.err
    assert len(run_cli("query", "--paths", "a cat", *named).out.splitlines()) == 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precisions_that_a_processor_does_not_run_are_refused(model, precision):
    with pytest.raises(EncoderUnavailableError, match=f"cannot run in {precision} on a processor.*--precision fp32"):
        registry.load(model[1], threads=1, offline=True, device="cpu", precision=precision)


def test_int8_is_never_chosen_by_itself(model, export):
    loaded = {
        name: registry.load(model[1], threads=1, offline=True, device="cpu", precision=name)
        for name in ("auto", "fp32", "int8")
    }
    rows = {name: loaded[name].encode_images(pictures(2)) for name in loaded}
    assert np.array_equal(rows["auto"], rows["fp32"]) and not np.array_equal(rows["int8"], rows["fp32"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp32"}, "made in int8 and cannot run in fp32.*--precision auto"),
        ({"precision": "bf16"}, "made in int8 and cannot run in bf16"),
        ({"device": "cuda:1"}, "on the processor only, not on cuda:1.*--device auto"),
        ({"device": "mps"}, "on the processor only"),
    ],
)
def test_the_builtin_encoder_says_what_it_cannot_do(options, message):
    with pytest.raises(EncoderUnavailableError, match=message):
        registry.load("builtin-small", threads=1, offline=True, **options)
    assert registry.load("builtin-small", threads=1, offline=True, device="auto", precision="int8").dim > 0
