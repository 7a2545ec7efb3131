"""What is made of scores does not depend on the range that the cosines of an encoder happen to have.

One contract over encoders of very different ranges: builtin-small (pictures at random at a cosine near 0), a CLIP and a
SigLIP with random weights (0.9 and more; the latter with a bias), and builtin-small squeezed into a tenth of its range.
Random weights know nothing of what pictures show, so what stands out is only held where weights were learnt.
"""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch import Picture, Text
from clipsearch.config import Settings
from clipsearch.encoders import openclip, registry
from clipsearch.progress import SilentStages
from clipsearch.query.duplicates import find_duplicates
from clipsearch.query.engine import SearchEngine
from clipsearch.query.labelling import label_pictures
from clipsearch.store.library import Library
from clipsearch.types import Modality
from tests.support.libraries import index, names
from tests.support.pictures import photograph
from tests.support.squeezed import Squeezed

PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
LEARNT = ["builtin-small", "squeezed"]
RANGES = [*LEARNT, "classic_clip", "siglip_like"]
LABELS = ["cat", "coffee", "rocket", "motorcycle"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs, two parts of each, and of two of them a copy and one that was compressed again."""
    root = tmp_path_factory.mktemp("ranges")
    for name in PHOTOGRAPHS:
        picture = Image.open(photograph(name)).convert("RGB")
        picture.thumbnail((400, 400))
        stem, (width, height) = Path(name).stem, (picture.width // 2, picture.height // 2)
        picture.save(root / f"{stem}.png")
        for part, (left, top) in enumerate(((0, 0), (width, height))):
            picture.crop((left, top, left + width, top + height)).save(root / f"{stem}-part{part}.png")
    for stem in ("chelsea", "coffee"):
        picture = Image.open(root / f"{stem}.png")
        picture.save(root / f"{stem}-copy.png", optimize=True)  # other bytes, the same pixels
        picture.save(root / f"{stem}-jpeg.jpg", quality=85)
    return root


@pytest.fixture(scope="module")
def open_engine(tmp_path_factory, folder, encoder, models):
    """Open an engine over the photographs, indexed with the encoder of a range."""
    engines = {}
    with ExitStack() as stack:

        def get(name):
            if name not in engines:
                if name == "squeezed":
                    chosen = Squeezed(encoder)
                elif name == "builtin-small":
                    chosen = encoder
                else:
                    chosen = registry.load(f"openclip:local-dir:{models.source(name)}", threads=1, offline=True)
                library = tmp_path_factory.mktemp(name) / "library"
                index(library, folder, encoder=chosen)
                engines[name] = stack.enter_context(SearchEngine(Library(library), encoder=chosen))
            return engines[name]

        yield get


@pytest.fixture(params=RANGES)
def engine(request, open_engine):
    return open_engine(request.param)


@pytest.fixture(params=LEARNT)
def learnt(request, open_engine):
    return open_engine(request.param)


def sample(engine):
    with engine.library.read() as snapshot:
        return snapshot.sample(Modality.IMAGE)


@pytest.mark.slow
def test_the_ranges_are_what_they_are_named_for(open_engine):
    medians = {name: float(np.median(rows @ rows.T)) for name in RANGES for rows in [sample(open_engine(name))]}
    assert medians["builtin-small"] < 0.5 and all(medians[name] > 0.89 for name in RANGES[1:])


@pytest.mark.slow
def test_copies_are_found_and_other_photographs_are_not(engine):
    found = find_duplicates(engine.library, Settings(threads=1), SilentStages())
    groups = {frozenset(Path(copy.item.path).name for copy in group.copies) for group in found.groups}
    assert groups == {
        frozenset({f"{stem}.png", f"{stem}-copy.png", f"{stem}-jpeg.jpg"}) for stem in ("chelsea", "coffee")
    }


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["chelsea", "coffee"])
def test_copies_are_shown_once_and_other_photographs_for_themselves(engine, folder, stem):
    first, *others = engine.search(image=folder / f"{stem}.png", k=100, collapse=True)
    group = {Path(item.path).stem for item in (first.item, *first.also)}
    assert {stem, f"{stem}-copy", f"{stem}-jpeg"} <= group and all(name.startswith(stem) for name in group)
    shown = {Path(hit.path).stem.split("-")[0] for hit in others}
    assert {"astronaut", "chelsea", "coffee", "ihc", "motorcycle_left", "retina"} - {stem} <= shown


def test_how_far_apart_copies_are_is_measured_in_the_range_of_the_encoder(open_engine):
    plain, squeezed = map(open_engine, LEARNT)
    with plain.library.read() as one, squeezed.library.read() as other:
        assert one.copy_distance().rows == other.copy_distance().rows == 46
        assert other.copy_distance().distance == pytest.approx(one.copy_distance().distance / 10, rel=0.02)
        for kind in ("text", "image"):
            wide, narrow = (each.spreads().get(kind, Modality.IMAGE) for each in (one, other))
            assert narrow == pytest.approx(wide / 10, rel=0.02)


def test_a_picture_that_is_there_is_sure_and_a_vector_that_means_nothing_is_not(learnt, folder):
    assert learnt.search(image=folder / "rocket.png", k=1)[0].confidence > 0.99
    assert learnt.search(vector=sample(learnt)[7], k=1)[0].confidence > 0.99
    vectors = np.random.default_rng(0).standard_normal((20, learnt.encoder.dim)).astype(np.float32)
    nothing = [results[0].confidence for results in learnt.search(vector=vectors, k=1)]
    assert np.median(nothing) < 0.75


def test_confidences_are_chances_and_a_picture_has_most(engine, folder):
    hits = engine.search(image=folder / "rocket.png", k=60)
    assert names(hits)[0] == "rocket.png"
    confidences = [hit.confidence for hit in hits]
    assert all(0 <= each <= 1 for each in confidences) and confidences[0] == max(confidences)


def test_a_cut_keeps_what_stands_out(engine, folder):
    hits = names(engine.search(image=folder / "chelsea.png", k=60, cut=True))
    assert {"chelsea.png", "chelsea-copy.png", "chelsea-jpeg.jpg"} <= set(hits) and len(hits) < 46


QUERIES = {
    "words": lambda folder: "a cat",
    "words without words": lambda folder: Text("a vehicle") - Text("a rocket"),
    "words, words and words": lambda folder: Text("a cat") + Text("a cup of coffee") - Text("a wall"),
    "a picture and words": lambda folder: Picture(f"{folder}/coffee.png") + Text("a table"),
    "a picture without words": lambda folder: Picture(f"{folder}/chelsea.png") - Text("a face"),
    "a picture without a picture": lambda folder: Picture(f"{folder}/chelsea.png") - Picture(f"{folder}/coffee.png"),
}


@pytest.mark.parametrize("fusion", ["auto", "decision"])
@pytest.mark.parametrize("kind", QUERIES)
def test_another_range_gives_the_same_answer(open_engine, folder, kind, fusion):
    plain, squeezed = (
        open_engine(name).search(QUERIES[kind](folder), k=10, fusion=fusion) for name in ("builtin-small", "squeezed")
    )
    assert names(plain)[:5] == names(squeezed)[:5]
    if fusion == "decision":  # a difference of two vectors is in no range that was measured
        assert [hit.confidence for hit in squeezed] == pytest.approx([hit.confidence for hit in plain], abs=0.02)
    cut = (open_engine(name).search(QUERIES[kind](folder), k=10, fusion=fusion, cut=True) for name in LEARNT)
    assert len({len(hits) for hits in cut}) == 1


def test_what_a_negative_names_is_below_what_is_asked_for(engine, folder):
    query = Picture(f"{folder}/chelsea.png") - Picture(f"{folder}/coffee.png")
    hits = names(engine.search(query, k=60))
    assert hits.index("chelsea.png") < hits.index("coffee.png")


def test_a_negative_of_learnt_weights_keeps_out_what_it_names(learnt, folder):
    hits = names(learnt.search(Picture(f"{folder}/chelsea.png") - Picture(f"{folder}/coffee.png"), k=60))
    assert hits.index("chelsea.png") < 5 and hits.index("coffee.png") > 30


def test_labels_have_chances(engine, open_engine):
    found = next(iter(label_pictures(engine, LABELS)))
    assert found.chances.sum(axis=1) == pytest.approx(1.0)
    assert np.median(np.ptp(found.chances, axis=1)) > 0.01
    if engine in (plain := open_engine("builtin-small"), open_engine("squeezed")):
        expected = next(iter(label_pictures(plain, LABELS)))
        np.testing.assert_allclose(found.chances, expected.chances, atol=0.01)
        best = {Path(p.path).stem: LABELS[i] for p, i in zip(found.pictures, found.chances.argmax(1), strict=True)}
        assert (best["chelsea"], best["coffee"], best["rocket"]) == ("cat", "coffee", "rocket")


def test_of_a_model_with_a_bias_chances_are_what_its_sigmoid_says_if_one_label_fits(open_engine, models):
    engine = open_engine("siglip_like")
    model = openclip.fetch(f"local-dir:{models.source('siglip_like')}", offline=True).model
    scale, bias = float(model.logit_scale.detach().exp()), float(model.logit_bias.detach())
    assert scale == pytest.approx(np.exp(4.6)) and bias == -10
    found = label_pictures(engine, LABELS)
    each = 1 / (1 + np.exp(-(scale * (sample(engine) @ found.vectors.T).astype(np.float64) + bias)))
    one = np.stack([each[:, i] * np.delete(1 - each, i, axis=1).prod(axis=1) for i in range(len(LABELS))], axis=1)
    np.testing.assert_allclose(next(iter(found)).chances, one / one.sum(axis=1, keepdims=True), atol=2e-3)
