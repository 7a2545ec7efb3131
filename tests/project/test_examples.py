"""Every file of examples/ runs: as a program, with pictures of its own and with those of a folder."""

import importlib.util
import os
import subprocess
import sys

import pytest

import clipsearch
from tests.support.libraries import index, photo, photos
from tests.support.paths import ROOT

EXAMPLES = {path.name for path in (ROOT / "examples").glob("*.py")}
RUNS = {
    "duplicate_finder.py": ([], ["{folder}", "--least", "0.999"]),
    "rag_captioned_pictures.py": (
        ["Where is a circle?", "--model", "builtin-small"],
        ["Where is a circle?", "--model", "builtin-small", "--folder", "{folder}"],
    ),
    "recommender.py": ([], ["{folder}"]),
}
"""The arguments of each example: without and with a folder of pictures."""

SERVICES = {"fastapi_service.py"}
"""What runs until it is stopped; a test of its own asks it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoder):
    made = tmp_path_factory.mktemp("examples")
    photos(made, 6)
    photo(made / "copy.jpg", 2)
    return made


def test_every_example_is_run_and_listed():
    listed = (ROOT / "examples" / "README.md").read_text()
    assert {*RUNS, *SERVICES} >= EXAMPLES
    assert all(f"]({name})" in listed for name in EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("given", [0, 1], ids=["alone", "folder"])
@pytest.mark.parametrize("name", sorted({*RUNS} & EXAMPLES))
def test_an_example_runs(name, given, folder, tmp_path):
    before = sorted(folder.iterdir())
    arguments = [each.format(folder=folder) for each in RUNS[name][given]]
    environment = {**os.environ, "CLIPSEARCH_MODEL": "builtin-small", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", str(ROOT / "examples" / name), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    assert sorted(folder.iterdir()) == before and not list(tmp_path.iterdir())
    if name == "duplicate_finder.py":
        assert ("sun.png\n  = " in done.stdout) if given == 0 else ("p002.jpg" in done.stdout)


def test_the_service_answers(folder, tmp_path, encoder):
    from starlette.testclient import TestClient

    path = ROOT / "examples" / "fastapi_service.py"
    assert len(path.read_text().splitlines()) <= 40
    spec = importlib.util.spec_from_file_location("fastapi_service", path)
    service = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(service)
    index(tmp_path / "lib", folder, encoder=encoder)
    with clipsearch.open(tmp_path / "lib") as engine, TestClient(service.create_app(engine)) as client:
        hits = client.get("/search", params={"text": "a picture", "k": 3}).json()["hits"]
        assert len(hits) == 3
        picture = (folder / "p002.jpg").read_bytes()
        jpeg = {"content-type": "image/jpeg"}
        (like,) = client.post("/search", params={"k": 1}, content=picture, headers=jpeg).json()["hits"]
        assert like["score"] > 0.99
        shown = client.get("/thumbnail", params={"key": like["key"], "side": 32})
        assert shown.headers["content-type"] == "image/jpeg" and shown.content.startswith(b"\xff\xd8")
        for refused in (
            client.get("/search", params={"text": " "}),
            client.get("/search", params={"text": "a", "k": 1000}),
            client.post("/search", content=b"no picture", headers=jpeg),
            client.get("/thumbnail", params={"key": "/etc/passwd"}),
        ):
            assert refused.status_code == 422 and refused.json()["detail"]
