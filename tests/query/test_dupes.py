"""clipsearch dupes: groups of equal files and of pictures that look the same."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from clipsearch.cli.dupes import dupes
from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.media.phash import distance, perceptual_hash
from clipsearch.progress import SilentStages
from clipsearch.query import neighbors
from clipsearch.query.duplicates import MAX_BITS, find_duplicates
from clipsearch.query.neighbors import Groups, near_pairs
from clipsearch.store.library import Library
from indexer.build import build
from indexer.importing import import_embeddings
from indexer.plan import IndexPlan
from tests.support.cli import run_cli
from tests.support.libraries import index, photo, photos
from tests.support.pictures import noise_picture, photograph
from tests.support.state import tree_digest


def real_photo(name):
    return Image.open(photograph(name)).convert("RGB")


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    """Two photographs with copies of every kind, others without, and equal texts."""
    folder = tmp_path_factory.mktemp("dupes")
    where = folder / "photos"
    photos(where, 4)
    cat, cup = real_photo("chelsea.png"), real_photo("coffee.png")
    cat.save(where / "cat.png")
    shutil.copy(where / "cat.png", where / "cat-copy.png")
    cat.resize((cat.width // 2, cat.height // 2)).save(where / "cat-small.jpg", quality=60)
    ImageEnhance.Brightness(cat).enhance(1.2).save(where / "cat-bright.jpg")
    cup.save(where / "cup.jpg", quality=95)
    cup.save(where / "cup-worse.jpg", quality=30)
    shutil.copy(where / "p000.jpg", where / "p000-copy.jpg")
    for colour in ("white", "red"):
        Image.new("RGB", (64, 64), colour).save(where / f"{colour}.png")
    for name in ("a.txt", "b.txt"):
        (where / name).write_text("the same words\n")
    index(folder / ".clipsearch", where, encoder=encoder)
    return folder


def found(folder, **options):
    library = Library(folder / ".clipsearch")
    result = find_duplicates(library, Settings(threads=2), SilentStages(), **options)
    library.close()
    groups = {tuple(os.path.basename(c.item.path) for c in group.copies): group for group in result.groups}
    return groups, result.unchecked


def test_equal_files_and_looks_are_grouped_and_the_best_comes_first(home):
    groups, unchecked = found(home)
    assert sorted(map(sorted, groups)) == [
        ["a.txt", "b.txt"],
        ["cat-bright.jpg", "cat-copy.png", "cat-small.jpg", "cat.png"],
        ["cup-worse.jpg", "cup.jpg"],
        ["p000-copy.jpg", "p000.jpg"],
    ]
    assert ("cup.jpg", "cup-worse.jpg") in groups
    assert unchecked == ()
    cats = max(groups.values(), key=lambda group: len(group.copies)).copies
    assert {os.path.basename(copy.item.path) for copy in cats[:2]} == {"cat.png", "cat-copy.png"}
    assert [copy.bits for copy in cats[:2]] == [0, 0] and all(copy.bits <= MAX_BITS for copy in cats)
    assert cats[0].score == pytest.approx(1.0) and all(copy.score >= 0.85 for copy in cats)
    assert [g.exact for g in groups.values()].count(False) == 2


def test_mirror_images_are_copies_where_that_is_wanted(home, tmp_path, encoder, monkeypatch, capfdbinary):
    shutil.copytree(home / "photos", tmp_path / "photos")
    cat = real_photo("chelsea.png")
    ImageOps.mirror(cat).save(tmp_path / "photos" / "cat-mirrored.jpg", quality=70)
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    plain, _ = found(tmp_path)
    assert not any("cat-mirrored.jpg" in names for names in plain)
    groups, unchecked = found(tmp_path, mirrored=True)
    assert unchecked == () and sorted(map(sorted, groups)) == sorted(
        [*(n for n in map(sorted, plain) if "cat.png" not in n),
         ["cat-bright.jpg", "cat-copy.png", "cat-mirrored.jpg", "cat-small.jpg", "cat.png"]]
    )  # fmt: skip
    cats = max(groups.values(), key=lambda group: len(group.copies)).copies
    assert [os.path.basename(copy.item.path) for copy in cats if copy.mirrored] == ["cat-mirrored.jpg"]
    assert all(copy.bits <= MAX_BITS for copy in cats)
    monkeypatch.chdir(tmp_path)
    dupes.main(["--mirrored", "--json"], standalone_mode=False)
    groups = json.loads(capfdbinary.readouterr().out)["groups"]
    files = [file for group in groups for file in group["files"]]
    assert [os.path.basename(f["path"]) for f in files if f["mirrored"]] == ["cat-mirrored.jpg"]
    dupes.main(["--mirrored"], standalone_mode=False)
    assert b"cat-mirrored.jpg  (mirrored)\n" in capfdbinary.readouterr().out


def test_exact_reads_no_picture(home, tmp_path, encoder):
    shutil.copytree(home / "photos", tmp_path / "photos")
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    shutil.rmtree(tmp_path / "photos")
    groups, unchecked = found(tmp_path, exact=True)
    assert sorted(map(sorted, groups)) == [
        ["a.txt", "b.txt"], ["cat-copy.png", "cat.png"], ["p000-copy.jpg", "p000.jpg"]
    ]  # fmt: skip
    assert unchecked == () and all(copy.score is None for group in groups.values() for copy in group.copies)


def test_pictures_that_cannot_be_read_are_told_and_never_grouped(home, tmp_path, encoder):
    shutil.copytree(home / "photos", tmp_path / "photos")
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    (tmp_path / "photos" / "cup-worse.jpg").unlink()
    groups, unchecked = found(tmp_path)
    assert not any("cup.jpg" in names for names in groups)
    assert [os.path.basename(path) for path, _ in unchecked] == ["cup-worse.jpg"]
    assert "no such file" in unchecked[0][1]


def test_the_command_prints_the_contract_and_changes_nothing(home):
    before = tree_digest(home / "photos")
    done = run_cli("dupes", "--json", cwd=home)
    assert done.code == 0, done.err
    assert list(done.json) == ["library", "similarity", "groups", "unchecked"] and done.json["unchecked"] == []
    for group in done.json["groups"]:
        assert list(group) == ["kind", "files"] and len(group["files"]) >= 2
        assert all(
            list(f) == ["id", "path", "bytes", "width", "height", "content_hash", "score", "bits"]
            for f in group["files"]
        )
    kinds = [group["kind"] for group in done.json["groups"]]
    assert kinds.count("near") == 2 and kinds.count("exact") == 2
    assert "4 groups, 10 files. Nothing was changed." in done.err
    assert tree_digest(home / "photos") == before


def test_a_table_for_people(home, monkeypatch, capfdbinary):
    monkeypatch.chdir(home)
    dupes.main(["--exact"], standalone_mode=False)
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0].endswith("2 equal files") and lines[1].endswith("photos/a.txt") and lines[3] == ""
    with pytest.raises(InvalidInputError, match="one of them"):
        dupes.main(["--exact", "--similarity", "0.9"], standalone_mode=False)
    with pytest.raises(InvalidInputError, match="one of them"):
        dupes.main(["--exact", "--mirrored"], standalone_mode=False)


def rows_library(tmp_path, vectors):
    np.save(tmp_path / "v.npy", vectors)
    import_embeddings(tmp_path / "l", str(tmp_path / "v.npy"), encoder="hf-hub:someone/model")
    return Library(tmp_path / "l")


def clustered(count, dim=16):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    vectors[1::7] = vectors[: len(vectors[1::7])] + 0.05 * rng.standard_normal(vectors[1::7].shape)
    return vectors


def pairs_of(library, chosen, least):
    seen: list[int] = []
    with library.read() as snapshot:
        pairs = [set(zip(*map(np.ndarray.tolist, p), strict=True)) for p in near_pairs(library, snapshot, chosen, least, seen.append)]  # noqa: E501  # fmt: skip
    assert sum(seen) == len(chosen)
    return set().union(*pairs)


def test_near_pairs_are_those_of_the_full_table(tmp_path, monkeypatch):
    vectors = clustered(900)
    library = rows_library(tmp_path, vectors)
    chosen = np.setdiff1d(np.arange(900), [5, 17, 300])
    unit = vectors[chosen] / np.linalg.norm(vectors[chosen], axis=1, keepdims=True)
    expected = set(zip(*(a.tolist() for a in np.nonzero(np.triu(unit @ unit.T >= 0.95, 1))), strict=True))
    assert len(expected) > 90
    monkeypatch.setattr(neighbors, "_LEFT", 100)
    monkeypatch.setattr(neighbors, "_RIGHT", 170)
    exact = pairs_of(library, chosen, 0.95)
    assert len(exact ^ expected) <= 2  # float16 rows stand about the limit
    with library.writer() as writer:
        build(library, writer, IndexPlan("pq4"))
    monkeypatch.setattr(neighbors, "MAX_EXACT_ROWS", 10)
    by_index = pairs_of(library, chosen, 0.95)
    assert by_index <= exact and len(by_index) >= 0.97 * len(exact)
    library.close()


@given(pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20), cut=st.integers(0, 20))
def test_groups_are_connected_components(pairs, cut):
    groups = Groups(12)
    for part in (pairs[:cut], pairs[cut:]):
        table = np.array(part, np.int64).reshape(-1, 2)
        groups.join(table[:, 0], table[:, 1])
    expected = {frozenset([i]) for i in range(12)}
    for i, j in pairs:
        touched = {group for group in expected if i in group or j in group}
        expected = (expected - touched) | {frozenset().union(*touched)}
    assert {frozenset(group.tolist()) for group in groups.several()} == {g for g in expected if len(g) > 1}


def bits_between(one, other):
    return int(distance(np.uint64(perceptual_hash(one)), np.uint64(perceptual_hash(other))))


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "rocket.jpg"])
def test_looks_survive_scaling_and_light_and_not_mirroring_or_another_picture(name):
    picture = real_photo(name)
    third = picture.resize((picture.width // 3, picture.height // 3))
    assert bits_between(picture, third) <= 4
    assert bits_between(picture, ImageEnhance.Brightness(picture).enhance(1.2)) <= MAX_BITS
    assert bits_between(picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > 2 * MAX_BITS
    assert all(bits_between(picture, noise_picture(seed, (64, 48))) > MAX_BITS for seed in range(8))


def test_of_a_picture_without_structure_nothing_is_told():
    assert perceptual_hash(Image.new("RGB", (50, 50), "red")) is None


def test_an_empty_library_and_one_picture_have_no_copies(tmp_path, encoder):
    photo(tmp_path / "photos" / "one.jpg", 1)
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    assert found(tmp_path) == ({}, ())
