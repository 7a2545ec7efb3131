"""Exported open_clip models against open_clip itself, on small models with random weights."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipsearch.encoders import export_folder, exporting, openclip, registry
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.onnx_runtime import OnnxEncoder
from clipsearch.encoders.preprocessing import PictureTransform
from clipsearch.encoders.tokenizer import TextRules, TextTokenizer
from clipsearch.encoders.tokenizer_export import DIFFICULT_TEXTS, convert_tokenizer
from clipsearch.errors import EncoderError, EncoderMismatchError, EncoderUnavailableError
from tests.support import tiny_openclip
from tests.support.vectors import cosines

SIZES = [(1, 1), (32, 32), (33, 31), (48, 40), (640, 427), (97, 301), (1, 57), (223, 225)]
KINDS = ("classic_clip", "siglip_like")


class Exported:
    """A reference model, its export and the folders of both."""

    def __init__(self, kind: str, models: tiny_openclip.Models) -> None:
        self.source = models.source(kind)
        self.name = f"openclip:local-dir:{self.source}"
        self.reference = openclip.fetch(f"local-dir:{self.source}", offline=True)
        self.folder, meta = models.export(kind)
        self.encoder = OnnxEncoder(self.folder, meta, threads=2)

    def copied_to(self, cache: Path) -> Path:
        """Copy the export to where it is looked for in that cache."""
        return Path(shutil.copytree(self.folder, cache / "openclip" / self.folder.name))

    def texts(self, texts: list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self.reference.model.encode_text(self.reference.tokenizer(texts), normalize=True).numpy()

    def images(self, pictures: list[Image.Image]) -> np.ndarray:
        import torch
        from open_clip.transform import PreprocessCfg, image_transform_v2

        transform = image_transform_v2(PreprocessCfg(**self.reference.model.visual.preprocess_cfg), is_train=False)
        with torch.inference_mode():
            batch = torch.stack([transform(picture) for picture in pictures])
            return self.reference.model.encode_image(batch, normalize=True).numpy()


@pytest.fixture(scope="module")
def make_exported(models):
    return functools.cache(lambda kind: Exported(kind, models))


@pytest.fixture(scope="module", params=KINDS)
def exported(request, make_exported):
    return make_exported(request.param)


@pytest.fixture(scope="module")
def classic(make_exported):
    return make_exported("classic_clip")


@pytest.fixture(scope="module")
def siglip(make_exported):
    return make_exported("siglip_like")


@pytest.fixture
def cache(monkeypatch, tmp_path, exported):
    """Point the user's cache to a copy of the export."""
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    return exported.copied_to(tmp_path / "cache").parent


def noise(width, height, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_is_an_encoder(exported):
    assert isinstance(exported.encoder, Encoder)
    assert exported.encoder.dim == exported.reference.model.visual.output_dim
    assert exported.encoder.max_tokens == exported.reference.model.context_length
    assert exported.encoder.picture_side == max(np.atleast_1d(exported.reference.model.visual.image_size))


def test_the_scale_that_the_model_learnt_is_kept(exported):
    learnt = float(exported.reference.model.logit_scale.detach().exp())
    assert exported.encoder.logit_scale == pytest.approx(learnt)
    meta = json.loads(exported.encoder._meta.dump())
    assert meta["logit_scale"] == exported.encoder.logit_scale


def test_texts_equal_open_clip(exported):
    texts = [*DIFFICULT_TEXTS, "two green boats on the beach"]
    found = exported.encoder.encode_texts(texts)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert cosines(found, exported.texts(texts)).min() >= 0.9999
    assert np.allclose(exported.encoder.encode_queries(texts[:3]), found[:3], atol=1e-5)


def test_pictures_equal_open_clip(exported):
    pictures = [noise(*size, mode=mode) for size in SIZES for mode in ("RGB", "L", "RGBA")]
    found = exported.encoder.encode_images(pictures)
    assert found.dtype == np.float32
    assert cosines(found, exported.images(pictures)).min() >= 0.9999
    prepared = [exported.encoder.preprocess(picture) for picture in pictures]
    assert np.array_equal(exported.encoder.encode_pixels(prepared), found)


def test_rows_do_not_depend_on_the_batch(exported):
    texts = [f"a photo of {'very ' * (index % 9)}old houses {index}" for index in range(70)]
    together = exported.encoder.encode_texts(texts)
    alone = np.concatenate([exported.encoder.encode_texts([text]) for text in texts])
    assert cosines(together, alone).min() >= 0.99999
    pictures = [noise(40, 30, seed=index) for index in range(19)]
    together = exported.encoder.encode_images(pictures)
    alone = np.concatenate([exported.encoder.encode_images([picture]) for picture in pictures])
    assert cosines(together, alone).min() >= 0.99999


def test_nothing_in_gives_nothing_out(exported):
    assert exported.encoder.encode_texts([]).shape == (0, exported.encoder.dim)
    assert exported.encoder.encode_images([]).shape == (0, exported.encoder.dim)
    assert exported.encoder.encode_pixels([]).shape == (0, exported.encoder.dim)


def test_many_threads_give_the_same_rows(exported):
    texts = [f"{count} cats" for count in range(12)]
    expected = exported.encoder.encode_texts(texts)
    fresh = OnnxEncoder(exported.folder, export_folder.verify_export(exported.folder), threads=2)
    rows: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        rows[index] = fresh.encode_texts([texts[index]] if index % 2 else texts[index : index + 2])[0]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cosines(np.stack([rows[index] for index in range(12)]), expected).min() >= 0.99999


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_equal_open_clip(kind, tmp_path_factory):
    reference, converted = _tokenizers(kind, tmp_path_factory)

    @settings(max_examples=300, deadline=None)
    @given(_hard_texts())
    def check(text):
        expected = reference([text]).numpy()
        found = converted.rows([text])
        assert np.array_equal(expected[:, : found.shape[1]], found)
        assert not (expected[:, found.shape[1] :] != converted.rules.pad_id).any()

    check()


def _hard_texts():
    words = st.sampled_from([*DIFFICULT_TEXTS[:16], "'s", "'\u017f", "&amp;", "<end_of_text>", "\u212a", "cat", " "])
    return st.one_of(st.text(max_size=200), st.lists(words | st.text(max_size=4), max_size=30).map("".join))


def _tokenizers(kind, tmp_path_factory):
    with openclip.quiet():
        import open_clip

        if kind == "classic_clip":
            reference = open_clip.get_tokenizer("ViT-B-32")
        else:
            folder = tiny_openclip.siglip_like(tmp_path_factory.mktemp("tokenizer"))
            reference = open_clip.get_tokenizer(f"local-dir:{folder}")
    from tokenizers import Tokenizer

    text, rules = convert_tokenizer(reference, reference.context_length, bucketed=kind == "classic_clip")
    assert TextRules.from_dict(json.loads(json.dumps(rules.as_dict()))) == rules
    return reference, TextTokenizer(Tokenizer.from_str(text), rules)


@pytest.mark.slow
@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_every_character_is_read_as_open_clip_reads_it(clean):
    from open_clip.tokenizer import SimpleTokenizer
    from tokenizers import Tokenizer

    reference = SimpleTokenizer(clean=clean)
    text, rules = convert_tokenizer(reference, 77, bucketed=False)
    converted = TextTokenizer(Tokenizer.from_str(text), rules)
    characters = [chr(code) for code in [*range(0x3100), *range(0xA640, 0xAC00), *range(0xF900, 0x10000)]]
    # A letter, a digit and an apostrophe around each show to which class of characters it goes.
    for start in range(0, len(characters), 20):
        line = " ".join(f"a{char}{char}'{char}1" for char in characters[start : start + 20])
        room = len(converted._body(line)) + 2
        assert [*reference(line, context_length=room)[0].tolist()][1:-1] == converted._body(line)


def test_counts_tokens_uncut(classic):
    assert classic.encoder.count_tokens("") == 2
    assert classic.encoder.count_tokens("a cat") == 4
    assert classic.encoder.count_tokens("cat " * 500) == 502


def test_a_tokenizer_that_cannot_be_reproduced_is_refused():
    from open_clip.tokenizer import SimpleTokenizer

    with pytest.raises(EncoderUnavailableError, match="at random"):
        convert_tokenizer(SimpleTokenizer(reduction_mask="random"), 77, bucketed=False)

    class Reversed(SimpleTokenizer):
        def encode(self, text):
            return super().encode(text)[::-1]

    Reversed.__name__ = "SimpleTokenizer"
    with pytest.raises(EncoderUnavailableError, match=r"reads .* differently"):
        convert_tokenizer(Reversed(), 77, bucketed=False)


@pytest.mark.parametrize("size", [32, (48, 32), (31, 77)])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_equal_open_clip(size, mode, interpolation):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(size=size, resize_mode=mode, interpolation=interpolation, fill_color=127)
    reference = image_transform_v2(config, is_train=False)
    scaled, transform = image_transform_v2(config, is_train=False), PictureTransform.from_open_clip(vars(config))
    reference.transforms = reference.transforms[:-2]
    assert PictureTransform.from_dict(json.loads(json.dumps(transform.as_dict()))) == transform
    for width, height in SIZES:
        for colours in ("RGB", "L", "RGBA", "P", "1"):
            picture = noise(width, height, colours)
            found = transform.apply(picture)
            assert np.array_equal(found, np.asarray(reference(picture))), (width, height, colours)
            assert np.abs(transform.scale(found[None])[0] - scaled(picture).numpy()).max() < 1e-6


def test_a_thin_picture_does_not_grow_without_bound(monkeypatch):
    from clipsearch.encoders import preprocessing

    transform = PictureTransform(224, 224, "shortest", "bicubic", 0, (0.5,) * 3, (0.5,) * 3)
    ramp = np.tile(np.linspace(0, 255, 700)[:, None, None], (1, 3, 3)).astype(np.uint8)
    whole = transform.apply(Image.fromarray(ramp)).astype(int)
    monkeypatch.setattr(preprocessing, "_MAX_RESIZED_PIXELS", 1000)
    assert np.abs(transform.apply(Image.fromarray(ramp)) - whole).max() <= 2
    assert transform.apply(noise(1, 60_000)).shape == (224, 224, 3)


def test_a_text_query_imports_nothing_heavy(exported, cache):
    code = f"""
import sys
from clipsearch.encoders import registry
encoder = registry.load({exported.name!r}, threads=2, offline=False, fingerprint={exported.encoder.fingerprint!r})
assert encoder.encode_queries(["a cat"]).shape == (1, encoder.dim)
heavy = {{"torch", "torchvision", "open_clip", "transformers", "timm", "onnx", "PIL", "huggingface_hub"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = run(code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_prepared_model_outlives_its_weights(exported, cache):
    away = exported.source.with_name("away")
    exported.source.rename(away)
    try:
        encoder = registry.load(exported.name, threads=1, offline=True)
    finally:
        away.rename(exported.source)
    assert (encoder.name, encoder.fingerprint) == (exported.name, exported.encoder.fingerprint)
    assert np.allclose(encoder.encode_texts(["a cat"]), exported.encoder.encode_texts(["a cat"]), atol=1e-6)


def test_another_fingerprint_is_refused(exported, cache):
    with pytest.raises(EncoderMismatchError, match="cannot be compared"):
        registry.load(exported.name, threads=1, offline=True, fingerprint="0" * 64)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "meta", "meta-value"])
def test_a_damaged_export_is_made_again(classic, tmp_path, monkeypatch, damage, caplog):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    folder = classic.copied_to(tmp_path / "cache")
    _damage(folder, damage)
    made = []

    def export(reference, name, root, *, threads):
        # The real export takes seconds; the copy that it would make is at hand.
        made.append(name)
        with export_folder.new_folder(root) as work:
            for path in classic.folder.iterdir():
                shutil.copy2(path, work / path.name)
            return export_folder.publish(work, root / classic.folder.name)

    monkeypatch.setattr(exporting, "export", export)
    monkeypatch.setattr(openclip, "fetch", lambda name, *, offline: classic.reference)
    encoder = registry.load(classic.name, threads=1, offline=True)
    assert made == [classic.name]
    assert "cannot be used" in caplog.text
    assert np.allclose(encoder.encode_texts(["a cat"]), classic.encoder.encode_texts(["a cat"]), atol=1e-6)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def _damage(folder, how):
    weights, meta = folder / "text.onnx.data", folder / "meta.json"
    if how == "flip":
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 0x10
        weights.write_bytes(content)
    elif how == "cut":
        os.truncate(weights, 1000)
    elif how == "remove":
        (folder / "image.onnx").unlink()
    elif how == "meta":
        meta.write_text(meta.read_text()[:-40])
    else:
        meta.write_text(meta.read_text().replace('"dim": 24', '"dim": 25'))


def test_a_damaged_export_without_weights_says_so(classic, tmp_path, monkeypatch):
    shutil.copytree(classic.source, tmp_path / "model")
    name = f"openclip:local-dir:{tmp_path / 'model'}"
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "openclip" / f"{export_folder.slug(name)}.{classic.encoder.fingerprint[:16]}"
    shutil.copytree(classic.folder, folder)
    _damage(folder, "cut")
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(EncoderUnavailableError, match=r"library was made with .* does not exist"):
        registry.load(name, threads=1, offline=True, fingerprint=classic.encoder.fingerprint)


def test_a_graph_that_cannot_be_loaded_is_our_error(classic, tmp_path):
    shutil.copytree(classic.folder, tmp_path / "export")
    encoder = OnnxEncoder(tmp_path / "export", export_folder.verify_export(tmp_path / "export"), threads=1)
    (tmp_path / "export" / "text.onnx").write_bytes(b"not a graph")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        encoder.encode_texts(["a cat"])


def test_a_copied_export_is_hashed_once(classic, tmp_path):
    shutil.copytree(classic.folder, tmp_path / "export", copy_function=shutil.copy)
    weights = tmp_path / "export" / "text.onnx.data"
    recorded = export_folder.ExportMeta.load(tmp_path / "export").files[weights.name]["mtime_ns"]
    assert weights.stat().st_mtime_ns != recorded
    export_folder.verify_export(tmp_path / "export")
    assert weights.stat().st_mtime_ns == recorded


def test_two_exports_at_once_leave_one_whole_folder(classic, tmp_path):
    def work() -> None:
        with export_folder.new_folder(tmp_path) as folder:
            for path in classic.folder.iterdir():
                shutil.copy2(path, folder / path.name)
            barrier.wait()
            export_folder.publish(folder, tmp_path / "final")

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["final"]
    export_folder.verify_export(tmp_path / "final")


@pytest.mark.slow
def test_an_export_that_fails_leaves_nothing(siglip, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_MIN_COSINE", 1.1)
    with pytest.raises(EncoderError, match="differs from the model"):
        exporting.export(siglip.reference, siglip.name, tmp_path, threads=1)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_from_torch_is_refused(siglip):
    expected = siglip.texts(["a cat", "two dogs"])
    ids = siglip.reference.tokenizer(["a cat", "two dogs"]).numpy()
    exporting._compare(siglip.folder / "text.onnx", [ids, ids[:1]], expected, 1)
    with pytest.raises(EncoderError, match="cosine"):
        exporting._compare(siglip.folder / "text.onnx", [ids], expected[::-1], 1)


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_that_is_used(siglip, tmp_path):
    code = f"""
from clipsearch.encoders import registry
registry.load("openclip:local-dir:{siglip.source}", threads=1, offline=True)
"""
    root = tmp_path / "openclip"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "CLIPSEARCH_CACHE": str(tmp_path)}, stderr=subprocess.PIPE
    )
    while process.poll() is None and not list(root.glob("*/image.onnx")):
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert [path.name[:5] for path in root.iterdir()] == [".tmp-"]
    assert export_folder.find_exports(root) == []


def test_a_stale_half_export_is_removed(tmp_path):
    stale, busy = tmp_path / ".tmp-1-a", tmp_path / ".tmp-2-b"
    stale.mkdir()
    busy.mkdir()
    os.utime(stale, (time.time() - 1e6,) * 2)
    with export_folder.new_folder(tmp_path) as work:
        assert sorted(tmp_path.iterdir()) == sorted([busy, work])
    assert export_folder.find_exports(tmp_path) == []


def test_the_fingerprint_follows_the_model(siglip, tmp_path):
    meta = export_folder.ExportMeta.load(siglip.folder)
    text, rules, expected = (siglip.folder / "tokenizer.json").read_text(), meta.text, meta.fingerprint
    again = openclip.fetch(f"local-dir:{siglip.source}", offline=True)
    assert exporting.compute_fingerprint(again, text, rules) == expected
    assert exporting.compute_fingerprint(again, json.dumps(json.loads(text), indent=1), rules) == expected
    for tensor in again.model.state_dict().values():
        tensor.flatten()[:1].add_(1e-3)
        break
    one = siglip.reference
    mirrored = dataclasses.replace(one, picture=dataclasses.replace(one.picture, interpolation="bilinear"))
    fields = json.loads(text)
    fields["model"]["vocab"][9][0] += "x"
    others = [
        exporting.compute_fingerprint(again, text, rules),
        exporting.compute_fingerprint(mirrored, text, rules),
        exporting.compute_fingerprint(one, json.dumps(fields), rules),
        exporting.compute_fingerprint(one, text, dataclasses.replace(rules, context_length=20)),
        exporting.compute_fingerprint(one, text, dataclasses.replace(rules, clean="lower")),
    ]
    assert len({expected, *others}) == 6


def test_a_missing_package_is_named(siglip, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderUnavailableError, match=r"needs a package .*`pip install transformers`"):
        openclip.fetch(f"local-dir:{siglip.source}", offline=True)


@pytest.mark.slow
def test_a_text_tower_of_transformers_is_exported(tmp_path):
    folder = tiny_openclip.roberta_clip(tmp_path / "model")
    reference = openclip.fetch(f"local-dir:{folder}", offline=True)
    path = exporting.export(reference, "x", tmp_path / "exports", threads=2)
    encoder = OnnxEncoder(path, export_folder.verify_export(path), threads=2)
    import torch

    texts = ["a cat", "", "two green boats on the beach " * 9]
    with torch.inference_mode():
        expected = reference.model.encode_text(reference.tokenizer(texts), normalize=True).numpy()
    assert cosines(encoder.encode_texts(texts), expected).min() >= 0.9999


@pytest.mark.slow
def test_first_load_exports_quietly_and_without_a_connection(tmp_path):
    source = tiny_openclip.siglip_like(tmp_path / "model")
    code = f"""
import socket
def refuse(*arguments):
    raise AssertionError("a connection was tried")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from clipsearch.encoders import names, registry
name = names.resolve("local-dir:{source}", offline=True).name
encoder = registry.load(name, threads=2, offline=True)
print(encoder.encode_texts(["a cat"]).shape, encoder.name == name)
"""
    done = run(code, CLIPSEARCH_CACHE=str(tmp_path / "cache"))
    assert (done.stdout, done.stderr) == ("(1, 32) True\n", "")
