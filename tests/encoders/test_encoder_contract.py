"""The contract of Encoder, over every implementation: both builtin variants, and open_clip models of both kinds, on
ONNX Runtime and on torch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from PIL import Image

from clipsearch.encoders import names, registry
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.preprocessing import pack_transforms, read_transforms
from clipsearch.media.decode import decode_picture
from clipsearch.query.unicode_scripts import SCRIPTS, SPELT_OUT, explain_unread
from tests.support import tiny_openclip
from tests.support.pictures import encode, exif_block, noise_picture, stored_turned
from tests.support.vectors import cosines

TEXTS = ["a cat on a sofa", "", "two dogs", "a red car parked in front of a white house in the rain", "猫", "🐈"]
NAMES = ["builtin-small", "builtin-base", "classic_clip", "siglip_like"]
ON_TORCH = [f"{kind} {where}" for kind in NAMES[2:] for where in ("cpu fp32", "cpu bf16", "cuda:0 auto")]


@pytest.fixture(scope="module", params=[*NAMES, *ON_TORCH])
def any_encoder(request, models):
    name, *compute = request.param.split()
    if name.startswith("builtin"):
        return registry.load(name, threads=2, offline=True)
    folder = models.source(name)
    if not compute:
        return registry.load(f"openclip:local-dir:{folder}", threads=2, offline=True)
    device, precision = compute
    if device != "cpu":
        tiny_openclip.require_gpu()
    return tiny_openclip.on_torch(folder, [device], precision=precision)


@pytest.fixture(scope="module")
def pictures():
    return [
        noise_picture(seed, size) for seed, size in enumerate([(300, 200), (64, 64), (33, 500), (1, 1), (640, 480)])
    ]


def same(one, other, encoder):
    """Equal to the bit; on a GPU, which may choose other kernels on another stream, as near as the contract says."""
    return cosines(one, other).min() >= 0.999 if encoder.streams > 1 else np.array_equal(one, other)


def test_it_is_an_encoder(any_encoder):
    assert isinstance(any_encoder, Encoder)
    assert any_encoder.dim > 0 and any_encoder.picture_side > 0 and any_encoder.max_tokens > 0
    assert any_encoder.name == names.resolve(any_encoder.name, offline=True).name
    assert any_encoder.logit_scale > 0
    assert set(any_encoder.fingerprint) <= set("0123456789abcdef") and len(any_encoder.fingerprint) >= 32


def test_rows_are_float32_of_unit_length(any_encoder, pictures):
    for rows, count in ((any_encoder.encode_images(pictures), 5), (any_encoder.encode_texts(TEXTS), len(TEXTS))):
        assert rows.dtype == np.float32 and rows.shape == (count, any_encoder.dim)
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-4)
    assert any_encoder.encode_queries(TEXTS).shape == (len(TEXTS), any_encoder.dim)


def test_nothing_gives_no_rows(any_encoder):
    empty = (0, any_encoder.dim)
    assert any_encoder.encode_images([]).shape == any_encoder.encode_pixels([]).shape == empty
    assert any_encoder.encode_texts([]).shape == any_encoder.encode_queries([]).shape == empty


def test_preprocess_then_encode_pixels_is_encode_images(any_encoder, pictures):
    prepared = [any_encoder.preprocess(picture) for picture in pictures]
    assert all(array.dtype == np.uint8 and array.shape[2] == 3 for arrays in prepared for array in arrays)
    assert same(any_encoder.encode_pixels(prepared), any_encoder.encode_images(pictures), any_encoder)


def test_its_transforms_are_its_preprocess(any_encoder, pictures):
    transforms = read_transforms(pack_transforms(any_encoder.picture_transforms))
    assert transforms == any_encoder.picture_transforms
    for picture in pictures:
        made, expected = [each.apply(picture) for each in transforms], any_encoder.preprocess(picture)
        assert [each.shape for each in made] == [(each.height, each.width, 3) for each in transforms]
        assert len(made) == len(expected) and all(map(np.array_equal, made, expected))


def test_a_row_does_not_depend_on_its_batch(any_encoder, pictures):
    whole = any_encoder.encode_images(pictures)
    alone = np.concatenate([any_encoder.encode_images([picture]) for picture in pictures])
    assert cosines(whole, alone).min() >= 0.999
    texts = TEXTS * 7
    alone = np.concatenate([any_encoder.encode_texts([text]) for text in texts])
    assert cosines(any_encoder.encode_texts(texts), alone).min() >= 0.999


def test_the_same_input_gives_the_same_row(any_encoder, pictures):
    assert same(any_encoder.encode_images(pictures[:2]), any_encoder.encode_images(pictures[:2]), any_encoder)
    assert same(any_encoder.encode_texts(TEXTS), any_encoder.encode_texts(TEXTS), any_encoder)


def test_different_inputs_give_different_rows(any_encoder, pictures):
    assert cosines(any_encoder.encode_images(pictures[:1]), any_encoder.encode_images(pictures[1:2]))[0] < 0.9999
    assert cosines(any_encoder.encode_texts(TEXTS[:1]), any_encoder.encode_texts(TEXTS[2:3]))[0] < 0.9999


def test_tokens_are_counted_uncut_and_long_texts_are_cut(any_encoder):
    longest = "cat " * 3000
    assert any_encoder.count_tokens("a cat") <= any_encoder.max_tokens < any_encoder.count_tokens(longest)
    cut = any_encoder.encode_texts([longest, "cat " * 6000])
    assert cosines(cut[:1], cut[1:])[0] >= 0.999


def test_letters_that_the_tokenizer_never_learnt_are_told(any_encoder):
    unread = [script for script in SCRIPTS if any_encoder.tokens_per_letter(script.sample) >= SPELT_OUT]
    assert {"Hebrew letters", "Devanagari letters"} <= {script.name for script in unread}
    for script in unread:
        (warning,) = explain_unread(script.sample, any_encoder)
        assert script.name in warning and any_encoder.name in warning
    assert explain_unread("naïve Łódź, 5 μm 🐈 (・ω・)ノ", any_encoder) == ()


def test_threads_get_the_rows_of_one_thread(any_encoder, pictures):
    expected = any_encoder.encode_images(pictures[:2]), any_encoder.encode_texts(TEXTS[:2])

    def work(number):
        rows = any_encoder.encode_texts(TEXTS[:2]) if number % 2 else any_encoder.encode_images(pictures[:2])
        return cosines(rows, expected[number % 2]).min()

    with ThreadPoolExecutor(6) as pool:
        assert min(pool.map(work, range(24))) >= 0.999


def test_all_eight_orientations_agree_with_the_upright_copy(any_encoder):
    upright = Image.fromarray(skimage.data.chelsea())
    files = [
        encode(stored_turned(upright, orientation), exif=exif_block(orientation=orientation), quality=95)
        for orientation in range(1, 9)
    ]
    decoded = [decode_picture(data, min_side=any_encoder.picture_side, max_pixels=10**8)[0] for data in files]
    assert len({picture.size for picture in decoded}) == 1 and decoded[0].width > decoded[0].height
    rows = any_encoder.encode_images(decoded)
    assert cosines(np.repeat(rows[:1], 8, axis=0), rows).min() >= 0.98
