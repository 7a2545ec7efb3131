"""Films from a folder to answers: found by a frame, shown at its time, known again, left out where they are broken."""

import io
import shutil
import zipfile

import httpx2
import pytest
from PIL import Image

import clipsearch
from clipsearch.cli import showing
from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.server import create_app
from clipsearch.store.library import Library
from clipsearch.types import Media, Modality
from tests.support.cli import run_cli
from tests.support.films import scene, scenes, write_film
from tests.support.libraries import counts, index
from tests.support.serving import serving

pytest.importorskip("av")

TOKENLESS = "http://127.0.0.1"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, encoder):
    """A library of two films, a film that is none, and a picture."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "films").mkdir()
    write_film(folder / "films" / "a.mp4", scenes([1, 2, 3], 3))
    write_film(folder / "films" / "b.mkv", scenes([4, 5], 3))
    (folder / "films" / "broken.mp4").write_bytes(b"not a film at all")
    Image.fromarray(scene(6)).save(folder / "films" / "c.png")
    report = index(folder / "lib", folder / "films", encoder=encoder)
    return folder, report


def searched(folder, encoder, number, **options):
    with SearchEngine(Library(folder / "lib"), encoder=encoder) as engine:
        return engine.search(image=Image.fromarray(scene(number)), k=5, **options)


def test_a_broken_film_costs_that_film(shelf):
    _, report = shelf
    assert (report.added, [reason for _, reason in report.failed]) == (3, ["not a film that clipsearch can read"])


@pytest.mark.parametrize(
    ("number", "name", "shown"), [(1, "a.mp4", "0:00"), (3, "a.mp4", "0:06"), (5, "b.mkv", "0:03")]
)
def test_a_film_is_found_by_its_frame_at_its_time(shelf, encoder, number, name, shown):
    folder, _ = shelf
    best = searched(folder, encoder, number)[0]
    assert best.path.endswith(name) and str(best.position) == shown and best.score > 0.95
    assert best.item.media.media is Media.FILM and best.item.modality is Modality.IMAGE


def test_a_second_run_reads_nothing_and_a_copy_and_a_move_encode_nothing(shelf, encoder, tmp_path):
    folder, _ = shelf
    shutil.copytree(folder, tmp_path / "own")
    again = index(tmp_path / "own" / "lib2", tmp_path / "own" / "films", encoder=encoder)
    assert again.encoded == 3
    assert counts(index(tmp_path / "own" / "lib2", tmp_path / "own" / "films", encoder=encoder)) == {"unchanged": 4}
    (tmp_path / "own" / "films" / "a.mp4").rename(tmp_path / "own" / "films" / "moved.mp4")
    shutil.copy(tmp_path / "own" / "films" / "b.mkv", tmp_path / "own" / "films" / "copy.mkv")
    report = index(tmp_path / "own" / "lib2", tmp_path / "own" / "films", encoder=encoder)
    assert (report.moved, report.added, report.encoded) == (1, 1, 0)


def test_a_film_with_words_beside_it_is_found_by_them(encoder, tmp_path):
    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "a.mp4", scenes([1], 1))
    (tmp_path / "films" / "a.txt").write_text("the birthday of grandmother")
    index(tmp_path / "lib", tmp_path / "films", encoder=encoder)
    with SearchEngine(Library(tmp_path / "lib"), encoder=encoder) as engine:
        hit = engine.search("birthday of grandmother", k=1)[0]
    assert hit.path.endswith("a.mp4") and hit.item.caption == "the birthday of grandmother"


def test_a_client_gets_the_hits_of_an_engine_and_several_libraries_too(shelf, encoder):
    folder, _ = shelf
    with SearchEngine(Library(folder / "lib"), encoder=encoder) as engine, serving(engine) as served:
        own = engine.search("something red", k=4)
        with clipsearch.Client(served.url) as client:
            assert client.search("something red", k=4).hits == own.hits
        with clipsearch.open([served.url]) as joint:
            found = joint.search("something red", k=4)
        assert [(hit.path, hit.position, hit.part) for hit in found] == [(h.path, h.position, h.part) for h in own]
    assert any(hit.position for hit in own)


def test_films_alone_are_found_by_their_kind(shelf, encoder):
    folder, _ = shelf
    found = searched(folder, encoder, 6, filters=Filter(types=("film",)))
    assert sorted(hit.path.rsplit("/", 1)[-1] for hit in found) == ["a.mp4", "b.mkv"]


def test_it_is_shown_by_its_frame(shelf):
    folder, _ = shelf
    Image.fromarray(scene(3)).save(folder / "three.png")
    made = [folder / "sheet.png", folder / "page.html"]
    query = ["query", "--library", folder / "lib", f"image:{folder / 'three.png'}", "-k", "1"]
    ran = run_cli(*query, "--sheet", made[0], "--html", made[1])
    assert ran.code == 0 and b"a.mp4 (0:06)" in ran.out
    with Image.open(made[0]) as sheet:
        assert sheet.convert("RGB").getcolors(1 << 24) is not None
    page = made[1].read_text()
    assert "a.mp4#t=6" in page and "data:image/jpeg" in page


@pytest.mark.parametrize(("player", "option"), [("mpv", "--start=6.000"), ("vlc", "--start-time=6.000")])
def test_it_is_opened_at_its_time(tmp_path, monkeypatch, player, option):
    (tmp_path / player).write_text("#!/bin/sh\n")
    (tmp_path / player).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert showing.open_command("/a.mp4", 6.0) == [str(tmp_path / player), option, "/a.mp4"]


async def test_a_server_gives_out_its_frames(shelf, encoder):
    folder, _ = shelf
    with SearchEngine(Library(folder / "lib"), encoder=encoder) as engine:
        film = next(item for item in engine.find() if item.path.endswith("a.mp4"))
        app = create_app(engine)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=TOKENLESS) as client:
            found = (await client.get(f"/v1/items/{film.id}")).json()
            assert [part["text"] for part in found["parts"]] == ["0:00", "0:03", "0:06"]
            assert (found["media"], found["duration"]) == ("film", pytest.approx(9, abs=0.3))
            frames = [await client.get(f"/v1/items/{film.id}/thumbnail?part={n}") for n in range(3)]
            assert {frame.status_code for frame in frames} == {200} and len({frame.content for frame in frames}) == 3
            assert len({frame.headers["etag"] for frame in frames}) == 3
            whole = await client.get(f"/v1/items/{film.id}/image?part=1")
            assert whole.headers["content-type"] == "image/jpeg"
            assert (await client.get(f"/v1/items/{film.id}/thumbnail?part=3")).status_code == 404
            zipped = await client.post("/v1/download", json={"ids": [film.id]})
            with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
                (name,) = (each for each in archive.namelist() if each.endswith(".mp4"))
                assert archive.read(name) == (folder / "films" / "a.mp4").read_bytes()
            picture = next(item for item in engine.find() if item.path.endswith("c.png"))
            assert (await client.get(f"/v1/items/{picture.id}/thumbnail?part=1")).status_code == 404
            assert (await client.get(f"/v1/items/{picture.id}/thumbnail")).status_code == 200


def test_without_the_extra_films_are_counted(tmp_path, encoder, monkeypatch):
    from clipsearch.media import extras

    (tmp_path / "films").mkdir()
    for name in ("a.mp4", "b.mp4", "c.avi"):
        (tmp_path / "films" / name).write_bytes(b"anything")
    monkeypatch.setattr(extras, "has_extra", lambda name: False)
    extras.extra_suffixes.cache_clear()
    extras.picture_suffixes.cache_clear()
    try:
        report = index(tmp_path / "lib", tmp_path / "films", encoder=encoder)
        assert report.failed == [] and extras.missing_extras(report.passed_over) == {"video": 3}
    finally:
        extras.extra_suffixes.cache_clear()
        extras.picture_suffixes.cache_clear()
