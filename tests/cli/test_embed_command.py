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
from tests.support.cli import run_cli
from tests.support.libraries import index, photos

SMALL = ("--model", "builtin-small")


def rows_of(items):
    return [json.loads(line) for line in items.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("embed")
    photos(made / "photos" / "sub", 5)
    (made / "photos" / "bad.jpg").write_bytes(b"no picture")
    (made / "photos" / "note.txt").write_text("not a picture\n")
    return made


def test_pictures_go_out_and_come_back_by_import_embeddings(folder, encoder):
    out = folder / "out.npy"
    ran = run_cli("embed", folder / "photos", "--out", out, *SMALL, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["embedded"] == 5 and ran.json["dim"] == encoder.dim and ran.json["encoder"] == "builtin-small"
    assert [os.path.basename(each["key"]) for each in ran.json["failed"]] == ["bad.jpg"] and "bad.jpg" in ran.err
    vectors, items = np.load(out, allow_pickle=False), rows_of(out.with_suffix(".jsonl"))
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


def test_texts_go_out_and_come_back(tmp_path, encoder):
    texts = tmp_path / "texts.jsonl"
    lines = [{"id": "sku-1", "text": "a red car"}, {"text": "roses in snow"}, {"id": 7}, {"id": 9, "text": "a cat"}]
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n")
    out = tmp_path / "texts-out.npy"
    ran = run_cli("embed", texts, "--out", out, *SMALL, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["failed"] == [
        {"key": "7", "reason": "it has no text"},
        {"key": "texts.jsonl:5", "reason": "not a JSON object"},
    ]
    items = rows_of(out.with_suffix(".jsonl"))
    assert [item["key"] for item in items] == ["sku-1", "texts.jsonl:2", "9"]
    wanted = encoder.encode_texts(["a red car", "roses in snow", "a cat"])
    assert np.allclose(np.load(out), wanted, atol=1e-3)
    back = ("--modality", "text", "--items", out.with_suffix(".jsonl"), "--encoder", "builtin-small")
    assert run_cli("import-embeddings", out, *back, "--library", tmp_path / "lib").code == 0
    found = run_cli("query", "a red car", "--library", tmp_path / "lib", "--json", "-k", "1").json["hits"][0]
    assert found["part"]["text"] == "a red car"


def test_lines_of_stdin_become_a_table(tmp_path, encoder):
    from pyarrow import parquet

    out = tmp_path / "questions.parquet"
    said = "where is the cat?\n\nwer schläft?\n".encode()
    ran = run_cli("embed", "-", "--kind", "query", "--out", out, *SMALL, input=said)
    assert ran.code == 0, ran.err
    assert "stdin:2: it has no text" in ran.err
    table = parquet.read_table(out)
    assert table.column_names == ["key", "text", "vector"]
    assert table["key"].to_pylist() == ["stdin:1", "stdin:3"]
    wanted = encoder.encode_queries(["where is the cat?", "wer schläft?"])
    assert np.allclose(table["vector"].to_pylist(), wanted, atol=1e-3)


def test_the_encoder_of_the_library_is_used(folder, encoder):
    index(folder / "own", folder / "photos" / "sub", encoder=encoder)
    out = folder / "own.parquet"
    picture = folder / "photos" / "sub" / "p001.jpg"
    ran = run_cli("embed", picture, "--out", out, "--library", folder / "own", "--json")
    assert ran.code == 0 and ran.json["encoder"] == "builtin-small", ran.err
    assert ran.json["files"] == [str(out)]


def test_many_rows_are_written_batch_by_batch(tmp_path, encoder):
    count = 2 * encoder.batch_size + 3
    (tmp_path / "many.txt").write_text("".join(f"number {i}\n" for i in range(count)))
    for name in ("many.npy", "many.parquet"):
        ran = run_cli("embed", tmp_path / "many.txt", "--out", tmp_path / name, *SMALL, "--json")
        assert ran.code == 0 and ran.json["embedded"] == count, ran.err
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
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(folder, encoder, monkeypatch, arguments, said):
    (folder / "texts.txt").write_text("words\n")
    (folder / "long.txt").write_text("words\n" + "x" * (1 << 20) + "y\n")
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidInputError, match=said):
        cli.main(["embed", *arguments, *SMALL], standalone_mode=False)
    assert not [path.name for path in folder.iterdir() if path.name.startswith("x.")]
