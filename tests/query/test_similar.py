"""clipsearch similar: nearest to an item, which is left out."""

import shutil

import numpy as np
import pytest

from clipsearch.cli.similar import similar
from clipsearch.errors import ClipSearchError
from clipsearch.store.library import Library
from clipsearch.store.lookup import item_at
from indexer.importing import import_embeddings
from tests.support.cli import run_cli
from tests.support.libraries import index, photo, photos


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("similar")
    photos(folder / "photos", 5)
    shutil.copy(folder / "photos" / "p002.jpg", folder / "photos" / "again.jpg")
    (folder / "photos" / "cats.txt").write_text("Feed the cat.\n")
    photo(folder / "elsewhere.jpg", 3)
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


def found(capfdbinary, *arguments):
    similar.main(list(arguments), standalone_mode=False)
    return capfdbinary.readouterr().out


def test_an_item_by_path_or_id_finds_its_copy_first_and_never_itself(home):
    by_path = run_cli("similar", "photos/p002.jpg", "--json", "--modality", "image", cwd=home)
    assert by_path.code == 0, by_path.err
    names = [hit["path"].rsplit("/")[-1] for hit in by_path.json["hits"]]
    assert names[0] == "again.jpg" and len(names) == 5 and "p002.jpg" not in names
    assert by_path.json["hits"][0]["score"] >= 0.999
    copy = by_path.json["hits"][0]["id"]
    by_id = run_cli("similar", str(copy), "--json", "--modality", "image", cwd=home).json
    assert by_id["hits"][0]["path"].endswith("p002.jpg") and by_id["query"] == f"id:{copy}"


def test_paths_and_k_are_those_of_query(home, monkeypatch, capfdbinary):
    monkeypatch.chdir(home)
    lines = found(capfdbinary, "photos/p002.jpg", "--modality", "image", "-k", "2", "-0").split(b"\0")
    assert lines[0] == bytes(home / "photos" / "again.jpg") and len(lines) == 3
    assert len(found(capfdbinary, "photos/cats.txt", "--paths").splitlines()) == 6  # a text finds pictures


def test_a_picture_that_is_not_in_the_library_is_encoded(home, monkeypatch, capfdbinary):
    monkeypatch.chdir(home)
    lines = found(capfdbinary, "elsewhere.jpg", "--paths", "--modality", "image").splitlines()
    assert lines[0] == bytes(home / "photos" / "p003.jpg")


@pytest.mark.parametrize("item", ["999", "nothing.jpg", "", "\0", "id:12345678901234567"])
def test_what_is_nowhere_is_told(home, monkeypatch, item):
    monkeypatch.chdir(home)
    with pytest.raises(ClipSearchError) as error:
        similar.main([item], standalone_mode=False)
    assert error.value.exit_code == 2


def test_a_record_is_found_by_its_name(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    names = ["http://a/b.jpg", "photos/x.jpg", "/else/where.jpg"]
    (tmp_path / "v.jsonl").write_text("".join(f'{{"path": "{name}"}}\n' for name in names))
    import_embeddings(tmp_path / "l", str(tmp_path / "v.npy"), encoder="a model of ours", items=tmp_path / "v.jsonl")
    library = Library(tmp_path / "l")
    assert [item_at(library, name) for name in [*names, "other"]] == [1, 2, 3, None]
    assert item_at(library, str(tmp_path / "photos" / "x.jpg")) is None
    library.close()
