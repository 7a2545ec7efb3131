"""Decoding at reduced size changes no vector that counts: beside the plain way, by full-size pixels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.builtin import BUILTIN_VARIANTS, BuiltinEncoder
from clipsearch.media.decode import decode_picture
from tests.support.paths import PHOTOGRAPHS
from tests.support.pictures import encode, enlarge

SIZES = [(600, 1, 7), (750, 2, 7), (1500, 4, 4), (3000, 8, 2)]
"""Pixels of the shorter side; by how much a JPEG of them is reduced for an input of 224 to 260; pictures to try."""


@pytest.fixture(scope="module", params=BUILTIN_VARIANTS)
def encoder(request, isolated_user):
    return BuiltinEncoder(request.param, threads=2)


@pytest.fixture(scope="module")
def samples():
    data = pytest.importorskip("skimage.data", reason="scikit-image, whose pictures are used, is not installed")
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn, whose pictures are used, is not installed")
    files = ("chelsea.png", "coffee.png", "astronaut.png", "brick.png", "hubble_deep_field.jpg")
    pictures = [Image.open(path).convert("RGB") for name in files if (path := Path(data.__path__[0], name)).is_file()]
    pictures = [*(Image.fromarray(values) for values in datasets.load_sample_images().images), *pictures]
    return {
        side: [encode(enlarge(picture, side), quality=90) for picture in pictures[:count]] for side, _, count in SIZES
    }


@pytest.fixture(scope="module")
def photographs():
    """Give captions as texts, the number of the photograph of each, and the photographs as files."""
    if not (PHOTOGRAPHS / "captions.csv").is_file():
        pytest.skip("the folder shared/data/flickr8k-mini is not beside the project")
    with open(PHOTOGRAPHS / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["image"] for row in rows})[::15]
    files = []
    for name in names:
        with Image.open(PHOTOGRAPHS / "images" / name) as picture:
            files.append(encode(enlarge(picture.convert("RGB"), 750), quality=90))
    chosen = [row for row in rows if row["image"] in names]
    return [row["caption"] for row in chosen], np.array([names.index(row["image"]) for row in chosen]), files


def reduced(encoder: Encoder, files: Sequence[bytes]) -> list[Image.Image]:
    return [decode_picture(data, min_side=encoder.picture_side, max_pixels=10**8)[0] for data in files]


def at_full_size(files: Sequence[bytes]) -> list[Image.Image]:
    return [Image.open(BytesIO(data)).convert("RGB") for data in files]


@pytest.mark.slow
@pytest.mark.parametrize(("side", "scale", "count"), SIZES)
def test_vectors_of_reduced_pictures_are_those_of_full_ones(encoder, samples, side, scale, count):
    small = reduced(encoder, samples[side])
    assert {min(picture.size) for picture in small} == {-(-side // scale)}
    cosines = (encoder.encode_images(small) * encoder.encode_images(at_full_size(samples[side]))).sum(axis=1)
    assert cosines.min() >= 0.995


def first_ten(texts: NDArray[np.float32], pictures: NDArray[np.float32], answers: NDArray[np.int64]) -> float:
    """Return the share of the texts that find their picture among the first ten."""
    scores = texts @ pictures.T
    return float(((scores > scores[np.arange(len(texts)), answers][:, None]).sum(axis=1) < 10).mean())


@pytest.mark.slow
def test_no_caption_loses_its_photograph(encoder, photographs):
    captions, answers, files = photographs
    texts = encoder.encode_queries(captions)
    full, small = encoder.encode_images(at_full_size(files)), encoder.encode_images(reduced(encoder, files))
    # A few photographs are touchy: one grey level of noise moves the vector of builtin-small to a cosine of 0.990.
    assert (full * small).sum(axis=1).mean() >= 0.997
    assert first_ten(texts, small, answers) >= first_ten(texts, full, answers) - 1 / len(texts)
