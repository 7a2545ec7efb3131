"""Copies and bursts inside an answer are shown once, and k is filled all the same."""

import json
import shutil

import numpy as np
import pytest

from clipsearch.query.engine import SearchEngine
from clipsearch.query.opening import open_library
from clipsearch.query.terms import Indexed
from clipsearch.store.library import Library
from indexer.importing import import_embeddings
from tests.support.cli import run_cli
from tests.support.libraries import index
from tests.support.pictures import photograph

DIM = 32


def rotated(vector, other, cosine):
    """A unit vector with that cosine to the first, towards the second."""
    other = other - (other @ vector) * vector
    return cosine * vector + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Ten different pictures on the axes; of the first a burst, a later one of the same place, and a near copy."""
    folder = tmp_path_factory.mktemp("collapse")
    axes = np.eye(DIM)
    rows = [*axes[:10]]
    rows += [rotated(axes[0], axes[20 + i], 0.9) for i in range(3)]  # 10 to 12
    rows += [rotated(axes[0], axes[24], 0.985), rotated(axes[0], axes[25], 0.8)]  # 13, 14
    times = {0: "10:00:00", 10: "10:00:04", 11: "10:00:10", 12: "10:01:00", 14: "10:00:01"}
    with (folder / "v.jsonl").open("w") as file:
        for row in range(len(rows)):
            taken = {"taken_at": f"2024-05-01T{times[row]}"} if row in times else {}
            file.write(json.dumps({"path": f"/p/{row}.jpg", "width": 4, "height": 3, **taken}) + "\n")
    np.save(folder / "v.npy", np.array(rows, np.float32))
    import_embeddings(folder / "l", str(folder / "v.npy"), encoder="hf-hub:someone/model", items=folder / "v.jsonl")
    opened = Library(folder / "l")
    yield opened
    opened.close()


def names(items):
    return [item.path.rsplit("/")[-1].removesuffix(".jpg") for item in items]


def query():
    """Nearest to 0, then to what is like it, then to the others in order."""
    vector = np.zeros(DIM)
    vector[0], vector[1:10] = 1.0, np.linspace(0.2, 0.1, 9)
    return vector


def test_a_burst_and_what_is_all_but_the_same_are_shown_once_and_k_is_filled(library):
    with library.read() as snapshot:
        assert 0.8 < snapshot.copy_distance().near < 0.9 < snapshot.copy_distance().same < 0.985
    engine = SearchEngine(library)
    plain = engine.search(vector=query(), k=6)
    assert names(plain)[:5] == ["0", "13", "10", "11", "12"] and all(hit.also is None for hit in plain)
    hits = engine.search(vector=query(), k=6, collapse=True)
    assert names(hits) == ["0", "12", "14", "1", "2", "3"]  # 12 was taken later, 14 is not near enough
    assert names(hits[0].also) == ["13", "10", "11"] and all(hit.also == () for hit in hits[1:])
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
    assert hits[0].score == plain[0].score and hits.confident == plain.confident


def test_k_is_what_there_is_where_the_library_ends(library):
    hits = SearchEngine(library).search(vector=query(), k=500, collapse=True)
    assert len(hits) == 12
    assert sorted(names(hits) + names(hits[0].also), key=int) == [str(row) for row in range(15)]


def test_a_composed_query_and_a_batch_collapse_too(library):
    engine = SearchEngine(library)
    first = engine.search(vector=np.eye(DIM)[0]).hits[0].item.id
    hits = engine.search(Indexed(first), k=3, collapse=True)
    assert "0" not in names(hits) and len(hits) == 3
    both = engine.search(vector=np.eye(DIM)[:2], k=3, collapse=True)
    assert [names(each)[0] for each in both] == ["0", "1"] and [len(each) for each in both] == [3, 3]


@pytest.mark.slow
def test_many_copies_of_the_best_do_not_crowd_out_the_rest(tmp_path, encoder):
    (tmp_path / "photos").mkdir()
    for i, name in enumerate(("chelsea.png", "coffee.png", "rocket.jpg", "retina.jpg")):
        shutil.copy(photograph(name), tmp_path / "photos" / f"p00{i}.jpg")
    for number in range(40):
        shutil.copy(tmp_path / "photos" / "p001.jpg", tmp_path / "photos" / f"copy{number}.jpg")
    for name in ("a", "b"):
        (tmp_path / "photos" / f"{name}.txt").write_text("Feed the cat.\n")
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    with open_library(tmp_path / ".clipsearch") as engine:
        engine._encoder = encoder
        hits = engine.search(image=tmp_path / "photos" / "p001.jpg", k=3, modality="image", collapse=True)
        texts = engine.search("a cat", k=5, modality="text", collapse=True)
    assert len(hits) == 3 and len(hits[0].also) == 40
    assert len({hit.item.content_hash for hit in hits}) == 3
    assert len(texts) == 1 and len(texts[0].also) == 1
    done = run_cli("similar", "photos/p000.jpg", "--modality", "image", "--collapse", "-k", "3", cwd=tmp_path)
    assert done.code == 0 and "(+40 like it)" in done.out.decode()
    plain, collapsed = (
        run_cli("query", "--image", "photos/p000.jpg", "--json", "--modality", "image", *more, cwd=tmp_path).json[
            "hits"
        ]
        for more in ([], ["--collapse"])
    )
    assert "also" not in plain[0] and len(plain) == 10 and len(collapsed) == 4
    assert [len(hit["also"]) for hit in collapsed if "p00" not in hit["path"] or "p001" in hit["path"]] == [40]
    assert list(collapsed[0])[-1] == "also" and all(list(each) == ["id", "path"] for each in collapsed[0]["also"])
