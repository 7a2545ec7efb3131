"""`clipsearch embed`: vectors of pictures and texts in a file, and their way back by `import-embeddings`."""

import json
import os

import numpy as np
import pytest

from clipsearch.cli.main import cli
from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.types import Modality
from indexer.importing import import_embeddings
from tests.support.cli import run_cli
from tests.support.libraries import index, photos

SMALL = ("--model", "builtin-small")


@pytest.fixture
def embed(capfdbinary, encoder):
    """Run the command in this process; return its JSON and what it says on stderr."""

    def run(*arguments):
        cli.main(["embed", *map(str, arguments), "--json"], standalone_mode=False)
        out, err = capfdbinary.readouterr()
        return json.loads(out), err.decode()

    return run


def read_rows(items):
    return [json.loads(line) for line in items.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("embed")
    photos(made / "photos" / "sub", 5)
    (made / "photos" / "bad.jpg").write_bytes(b"no picture")
    (made / "photos" / "note.txt").write_text("not a picture\n")
    return made


@pytest.mark.slow
def test_pictures_go_out_and_come_back_by_import_embeddings(folder, encoder):
    """In processes of their own, as a user runs the commands."""
    out = folder / "out.npy"
    ran = run_cli("embed", folder / "photos", "--out", out, *SMALL, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["embedded"] == 5 and ran.json["dim"] == encoder.dim and ran.json["encoder"] == "builtin-small"
    assert [os.path.basename(each["key"]) for each in ran.json["failed"]] == ["bad.jpg"] and "bad.jpg" in ran.err
    vectors, items = np.load(out, allow_pickle=False), read_rows(out.with_suffix(".jsonl"))
    assert vectors.shape == (5, encoder.dim) and vectors.dtype == np.float32
    assert not list(folder.glob("*.part"))

    back = ("--items", out.with_suffix(".jsonl"), "--encoder", "builtin-small", "--library", folder / "imported")
    ran = run_cli("import-embeddings", out, *back)
    assert ran.code == 0, ran.err
    index(folder / "indexed", folder / "photos" / "sub", encoder=encoder)
    settings = Settings(threads=1, offline=True)
    with (
        SearchEngine(Library(folder / "imported"), settings, encoder=encoder) as imported,
        SearchEngine(Library(folder / "indexed"), settings, encoder=encoder) as indexed,
    ):
        for row, item in zip(vectors, items, strict=True):
            assert imported.search(vector=row, k=1)[0].path == item["path"]
        answers = [engine.search("a picture", k=5, modality="image") for engine in (imported, indexed)]
    assert [hit.path for hit in answers[0]] == [hit.path for hit in answers[1]]
    assert np.allclose([hit.score for hit in answers[0]], [hit.score for hit in answers[1]], atol=2e-3)


def test_texts_go_out_and_come_back(tmp_path, encoder, embed):
    texts = tmp_path / "texts.jsonl"
    lines = [{"id": "sku-1", "text": "a red car"}, {"text": "roses in snow"}, {"id": 7}, {"id": 9, "text": "a cat"}]
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n")
    out = tmp_path / "texts-out.npy"
    report, _ = embed(texts, "--out", out, *SMALL)
    assert report["failed"] == [
        {"key": "7", "reason": "it has no text"},
        {"key": "texts.jsonl:5", "reason": "not a JSON object"},
    ]
    items = read_rows(out.with_suffix(".jsonl"))
    assert [item["key"] for item in items] == ["sku-1", "texts.jsonl:2", "9"]
    wanted = encoder.encode_texts(["a red car", "roses in snow", "a cat"])
    assert np.allclose(np.load(out), wanted, atol=1e-3)
    items, modality = str(out.with_suffix(".jsonl")), Modality.TEXT
    import_embeddings(tmp_path / "lib", str(out), encoder="builtin-small", items=items, modality=modality)
    with SearchEngine(Library(tmp_path / "lib"), Settings(threads=1), encoder=encoder) as engine:
        found = engine.search("a red car", k=1)[0]
    assert found.passage.text == "a red car" and found.item.path.endswith("sku-1")


@pytest.mark.slow
def test_a_table_comes_back(tmp_path, encoder, embed):
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"id": "sku-1", "text": "a red car"}\n{"id": "sku-2", "text": "a cat"}\n')
    out = tmp_path / "out.parquet"
    embed(texts, "--out", out, *SMALL)
    back = ("--modality", "text", "--encoder", "builtin-small", "--library", tmp_path / "lib")
    ran = run_cli("import-embeddings", out, *back)
    assert ran.code == 0, ran.err
    with SearchEngine(Library(tmp_path / "lib"), Settings(threads=1), encoder=encoder) as engine:
        found = engine.search("a red car", k=1)[0]
    assert found.passage.text == "a red car" and found.item.path.endswith("sku-1") and found.score > 0.9


def test_lines_of_stdin_become_a_table(tmp_path, encoder, embed, monkeypatch):
    from pyarrow import parquet

    out = tmp_path / "questions.parquet"
    said = "where is the cat?\n\nwer schläft?\n".encode()
    (tmp_path / "said").write_bytes(said)
    with open(tmp_path / "said") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        _, err = embed("-", "--kind", "query", "--out", out, *SMALL)
    assert "stdin:2: it has no text" in err
    table = parquet.read_table(out)
    assert table.column_names == ["key", "text", "vector"]
    assert table["key"].to_pylist() == ["stdin:1", "stdin:3"]
    wanted = encoder.encode_queries(["where is the cat?", "wer schläft?"])
    assert np.allclose(table["vector"].to_pylist(), wanted, atol=1e-3)


def test_the_encoder_of_the_library_is_used(folder, encoder, embed):
    index(folder / "own", folder / "photos" / "sub", encoder=encoder)
    out = folder / "own.parquet"
    picture = folder / "photos" / "sub" / "p001.jpg"
    report, _ = embed(picture, "--out", out, "--library", folder / "own")
    assert report["encoder"] == "builtin-small" and report["files"] == [str(out)]


def test_many_rows_are_written_batch_by_batch(tmp_path, encoder, embed):
    count = 2 * encoder.batch_size + 3
    (tmp_path / "many.txt").write_text("".join(f"number {i}\n" for i in range(count)))
    for name in ("many.npy", "many.parquet"):
        report, _ = embed(tmp_path / "many.txt", "--out", tmp_path / name, *SMALL)
        assert report["embedded"] == count
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "many.parquet")["vector"].to_pylist()
    assert np.allclose(np.load(tmp_path / "many.npy"), table)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos", "--out", "x.txt"], "neither a .npy nor a .parquet"),
        (["photos", "--out", "nowhere/x.npy"], "cannot be written"),
        (["photos", "texts.txt", "--out", "x.npy"], "files of their own"),
        (["gone.jpg", "--out", "x.npy"], "no file or folder"),
        (["gone.txt", "--out", "x.npy"], "cannot be read"),
        (["photos/bad.jpg", "--out", "x.npy"], "Nothing could be embedded"),
        (["long.txt", "--out", "x.npy"], "longer than"),
        (["own.jsonl", "--out", "own.npy"], "own.jsonl is read"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(folder, encoder, monkeypatch, arguments, said):
    (folder / "texts.txt").write_text("words\n")
    (folder / "own.jsonl").write_text('{"text": "words"}\n')
    (folder / "long.txt").write_text("words\n" + "x" * (1 << 20) + "y\n")
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidInputError, match=said):
        cli.main(["embed", *arguments, *SMALL], standalone_mode=False)
    assert not [path.name for path in folder.iterdir() if path.name.startswith("x.") or path.suffix == ".part"]
    assert (folder / "own.jsonl").read_text() == '{"text": "words"}\n'
