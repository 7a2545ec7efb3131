"""Apple Live Photos in a folder: one item, whatever comes first, and two again once the picture is gone."""

import os

import pytest

from clipsearch.media.films.process import open_film
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.store.roots import RulesChange
from clipsearch.store.summary import summarise
from indexer.changed_paths import to_index
from indexer.isolation import IsolatedReader, Limits
from indexer.live_photos import find_still
from indexer.picture_reader import DirectReader
from tests.support.cli import run_cli
from tests.support.films import scenes, write_film
from tests.support.libraries import Counting, counts, index
from tests.support.live_photos import film, still

pytest.importorskip("av")

ONE, OTHER = "4F1B2C3D-0000-4711-8000-ABCDEF012345", "00000000-0000-4711-8000-ABCDEF012345"


class Camera:
    """A folder of pictures and films, and its library."""

    def __init__(self, folder, encoder):
        self.root, self.library, self.encoder = folder / "DCIM", folder / "lib", Counting(encoder)
        self.root.mkdir()

    def run(self, **options):
        """Index; return what the library holds now, and how many films count with their pictures."""
        self.report = index(self.library, self.root, encoder=self.encoder, **options)
        assert self.report.failed == []
        library = Library(self.library)
        with SearchEngine(library, encoder=self.encoder) as engine:
            assert summarise(library).failed == ()
            return sorted(os.path.basename(item.path) for item in engine.find()), self.report.live_photos


@pytest.fixture
def camera(tmp_path, encoder):
    return Camera(tmp_path, encoder)


@pytest.mark.parametrize(
    ("of_picture", "of_film", "seconds", "is_one"),
    [
        (ONE, ONE, 2, True),
        (ONE, ONE, 8, True),
        (ONE, OTHER, 2, False),
        (ONE, "", 2, True),
        ("", ONE, 2, True),
        ("", "", 2, True),
        ("", "", 5, False),
        (ONE, "", 5, False),
    ],
)
def test_the_identifiers_decide_and_without_them_the_length(tmp_path, of_picture, of_film, seconds, is_one):
    still(tmp_path / "a.heic", identifier=of_picture)
    with open_film(str(film(tmp_path / "a.mov", identifier=of_film, seconds=seconds)), 1 << 30) as (descriptor, _):
        found = find_still(descriptor, str(tmp_path), ["gone.jpg", "a.heic"], DirectReader(), 1 << 30)
    assert found == ("a.heic" if is_one else None)


@pytest.mark.parametrize(
    ("picture", "movie"), [("IMG_1.HEIC", "IMG_1.MOV"), ("a.jpg", "a.mp4"), ("IMG_1.HEIC", "IMG_1_HEVC.MOV")]
)
def test_the_two_files_of_a_live_photo_are_one_item(camera, picture, movie):
    still(camera.root / picture, identifier=ONE)
    film(camera.root / movie, identifier=ONE)
    assert camera.run() == ([picture], 1)
    encoded = camera.encoder.work
    assert camera.run() == ([picture], 1)
    assert camera.encoder.work == encoded and counts(camera.report) == {"unchanged": 1}


def test_a_worker_says_the_identifier_of_a_picture_too(tmp_path):
    with IsolatedReader(Limits(30, 1 << 30)) as reader:
        assert reader.words(still(tmp_path / "a.jpg", identifier=ONE).read_bytes()).identifier == ONE


@pytest.mark.slow
def test_a_film_of_another_name_folder_or_kind_is_one_of_its_own(camera):
    (camera.root / "other").mkdir()
    still(camera.root / "a.jpg", identifier=ONE)
    still(camera.root / "b.png", 2)
    for number, name in enumerate(("A.mov", "other/a.mov", "b.mov", "a.mkv")):
        film(camera.root / name, 10 + number)
    assert camera.run() == (["A.mov", "a.jpg", "a.mkv", "a.mov", "b.mov", "b.png"], 0)


def test_a_picture_that_goes_leaves_a_film_and_one_that_comes_takes_it(camera):
    picture = still(camera.root / "a.heic", identifier=ONE)
    film(camera.root / "a.mov", identifier=ONE)
    assert camera.run() == (["a.heic"], 1)
    data = picture.read_bytes()
    picture.unlink()
    assert camera.run() == (["a.mov"], 0)
    camera.encoder.pictures = 0
    picture.write_bytes(data)
    assert camera.run(dry_run=True)[1] == 1
    assert (counts(camera.report), camera.run()) == ({"added": 1}, (["a.heic"], 1))
    picture.unlink()
    assert camera.run() == (["a.mov"], 0)
    assert camera.encoder.pictures == 0, "both are known by their content"


def test_a_film_that_changes_or_gets_another_picture_is_looked_at_again(camera):
    still(camera.root / "a.jpg", identifier=ONE)
    film(camera.root / "a.mov", identifier=ONE)
    assert camera.run()[1] == 1
    film(camera.root / "a.mov", identifier=OTHER)
    assert camera.run() == (["a.jpg", "a.mov"], 0)
    still(camera.root / "a.jpg", identifier=OTHER)
    assert camera.run() == (["a.jpg"], 1)
    assert camera.run(rehash=True) == (["a.jpg"], 1)
    (camera.root / "a.jpg").rename(camera.root / "a.jpeg")
    assert camera.run() == (["a.jpeg"], 1)


def test_a_picture_that_is_not_whole_yet_takes_no_film(camera):
    whole = still(camera.root / "a.jpg").read_bytes()
    (camera.root / "a.jpg").write_bytes(b"\0" * 100)
    film(camera.root / "a.mov")
    report = index(camera.library, camera.root, encoder=camera.encoder)
    assert (report.added, len(report.failed), report.live_photos) == (1, 1, 0)
    (camera.root / "a.jpg").write_bytes(whole)
    assert camera.run() == (["a.jpg"], 1)


def test_an_excluded_or_linked_picture_takes_no_film(camera, tmp_path):
    still(camera.root / "a.jpg")
    film(camera.root / "a.mov")
    still(tmp_path / "b.jpg", 3)
    (camera.root / "b.jpg").symlink_to(tmp_path / "b.jpg")
    film(camera.root / "b.mov", 4)
    report = index(camera.library, camera.root, encoder=camera.encoder, rules=RulesChange(("a.jpg",)))
    assert (report.added, report.live_photos) == (3, 0)


def test_a_film_keeps_what_it_says_when_a_picture_comes_that_it_does_not_belong_to(camera):
    day = {"creation_time": "2023-05-01T10:34:56Z"}
    write_film(camera.root / "a.mov", scenes([1], 6), metadata=day)
    camera.run()
    still(camera.root / "a.jpg")
    assert camera.run() == (["a.jpg", "a.mov"], 0)
    with SearchEngine(Library(camera.library), encoder=camera.encoder) as engine:
        taken = {os.path.basename(item.path): item.picture.taken_at for item in engine.find()}
    assert str(taken["a.mov"]) == "2023-05-01 10:34:56"


def test_what_is_watched_looks_at_the_film_of_a_picture(tmp_path):
    movie = film(tmp_path / "a.MOV")
    picture = still(tmp_path / "a.jpg")
    assert to_index([str(picture)]) == [str(movie), str(picture)]
    picture.unlink()
    assert to_index([str(picture)]) == [str(movie), str(picture)]


@pytest.mark.slow
def test_the_command_counts_them(tmp_path):
    still(tmp_path / "DCIM.jpg").rename(tmp_path / "a.jpg")
    film(tmp_path / "a.mov")
    command = ["index", tmp_path, "--library", tmp_path / ".clipsearch", "--model", "builtin-small"]
    ran = run_cli(*command)
    assert ran.code == 0 and "1 Live Photo film counted with its picture." in ran.err
    ran = run_cli("status", "--library", tmp_path / ".clipsearch", "--failed")
    assert ran.code == 0 and "a.mov" not in ran.out.decode()
