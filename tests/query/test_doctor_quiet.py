"""clipsearch doctor raises no false alarm: on a healthy library of any shape every check is ok."""

import json
import os
import shutil
import threading

import numpy as np
import pytest

from clipsearch.cli.main import cli
from clipsearch.store.forget import forget
from clipsearch.store.library import Library
from clipsearch.types import Modality
from tests.support.cli import run_cli_bound
from tests.support.libraries import index, photo, photos
from tests.support.vectors import built, fill, unit

ALLOWED = {"empty": {"contents"}, "forgotten": {"contents"}}
"""Notes that a shape has; those of an encoder or of queries that are unavailable may be there for every shape."""


def examine(folder, capsysbinary):
    code = cli.main(["doctor", "--json", "--queries", "20", "--library", str(folder)], standalone_mode=False)
    return code or 0, json.loads(capsysbinary.readouterr().out)["findings"]


def check_quiet(code, findings, allowed=frozenset(), recall=1.0):
    loud = [f for f in findings if f["severity"] != "ok" and f["check"] not in allowed]
    loud = [
        f for f in loud if not (f["severity"] == "note" and f["check"] in ("encoder", "recall_text", "recall_image"))
    ]
    assert code == 0 and not loud, loud
    for finding in findings:
        if finding["check"].startswith("recall_") and finding["values"]:
            assert finding["values"]["recall"] >= recall, finding


def make(shape, folder, encoder):  # noqa: C901 - one branch a shape
    library, files = folder / "library", folder / "photos"
    files.mkdir()
    if shape == "one":
        photos(files, 1)
    elif shape == "equal":
        photo(files / "a.jpg", 1)
        photo(files / "b.jpg", 1)
    elif shape == "passages":
        (files / "book.txt").write_text("\n\n".join(f"Chapter {i}. " + f"word{i} " * 150 for i in range(14)))
    elif shape == "books":
        for book in range(3):
            text = "\n\n".join(f"Chapter {i} of {book}. " + f"word{i}x{book} " * 150 for i in range(14))
            (files / f"book{book}.txt").write_text(text)
    elif shape == "captions":
        for i, path in enumerate(photos(files, 6)):
            path.with_suffix(".txt").write_text(f"A picture of number {i}.")
    elif shape == "texts":
        for i in range(12):
            (files / f"{i}.txt").write_text(f"Note {i} says {i * 7}.")
    elif shape in ("mixed", "forgotten", "some forgotten"):
        photos(files, 20, size=(32, 24))
        for i in range(10):
            (files / f"{i}.txt").write_text(f"Note {i} says {i * 7}.")
    index(library, files, encoder=encoder)
    if shape == "mixed":
        for name in ("p001.jpg", "p005.jpg", "3.txt"):
            (files / name).unlink()
        index(library, files, encoder=encoder)
    if shape == "forgotten":
        forget(Library(library), [str(files)])
    if shape == "some forgotten":
        forget(Library(library), [str(files / "p001.jpg"), str(files / "2.txt")])
    return library


SHAPES = ["empty", "one", "equal", "passages", "books", "captions", "texts", "mixed", "forgotten", "some forgotten"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_files(shape, tmp_path, encoder, capsysbinary):
    code, findings = examine(make(shape, tmp_path, encoder), capsysbinary)
    check_quiet(code, findings, ALLOWED.get(shape, set()))
    if shape in ("books", "texts"):
        assert any(f["check"] == "recall_text" and f["values"].get("recall") == 1.0 for f in findings)


@pytest.mark.parametrize(
    "kind", [pytest.param("flat", marks=pytest.mark.slow), "ivfpq", pytest.param("pq4", marks=pytest.mark.slow)]
)
def test_vectors_of_both_modalities_with_deletions(kind, tmp_path, capsysbinary):
    """As an imported collection without an encoder; after deletions, and after the compaction that follows."""
    recall = 1.0 if kind == "flat" else 0.85
    folder = fill(tmp_path / "library", unit(900))
    fill(folder, unit(300, seed=1), Modality.TEXT)
    built(folder, kind)
    forget(Library(folder), [str(folder / "rows" / f"{i:06d}") for i in range(0, 900, 45)])
    check_quiet(*examine(folder, capsysbinary), recall=recall)
    forget(Library(folder), [str(folder / "rows" / f"{i:06d}") for i in range(1, 900, 3)])
    built(folder, kind)
    check_quiet(*examine(folder, capsysbinary), {"leftovers"}, recall)  # the rows before, which the next run deletes


def test_rows_that_repeat_themselves(tmp_path, capsysbinary):
    rows = unit(60)
    rows[20:50] = rows[20]
    check_quiet(*examine(fill(tmp_path / "library", rows), capsysbinary))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_folder_that_cannot_be_written(tmp_path, encoder):
    folder = make("mixed", tmp_path, encoder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = run_cli_bound("doctor", "--json", "--queries", "5", "--library", folder, cwd=tmp_path)
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    check_quiet(done.code, done.json["findings"])


@pytest.mark.slow
def test_while_a_writer_is_at_work(tmp_path, encoder, capsysbinary):
    folder = make("mixed", tmp_path, encoder)
    shutil.copytree(tmp_path / "photos", tmp_path / "photos" / "more")
    stop = threading.Event()

    def write():
        while not stop.is_set():
            photo(tmp_path / "photos" / "new.jpg", int(np.random.default_rng().integers(10**6)))
            index(folder, tmp_path / "photos", encoder=encoder)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            check_quiet(*examine(folder, capsysbinary), {"leftovers"})
    finally:
        stop.set()
        thread.join()
