"""One contract for all who decode pictures for the indexer, and what is shared with the processes that do."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.config import Settings, load_settings
from clipsearch.encoders.preprocessing import PictureTransform, Squash
from clipsearch.errors import InvalidInputError, PictureError, WorkerUnavailableError
from clipsearch.media.decode import decode_picture
from clipsearch.media.image_metadata import read_embedded
from indexer import pipeline, worker_process
from indexer.isolation import MANY_CORES, AutomaticReader, IsolatedReader, make_reader
from indexer.isolation_protocol import FILE_AT
from indexer.picture_reader import DirectReader
from indexer.worker_process import Limits
from tests.support.libraries import index, photos
from tests.support.pictures import FORMATS, encode, exif_block, noise_picture, png_file
from tests.support.state import read_state

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")

LIMITS = Limits(60, 1 << 30)
MOST = 10_000_000
GOOD = encode(noise_picture(1))


class Preprocessing:
    """The part of an encoder that a reader uses; `plain` ones do not say what their preprocess does."""

    def __init__(self, *transforms: PictureTransform | Squash, plain: bool = False) -> None:
        self._transforms = transforms
        self.picture_side = max(max(each.height, each.width) for each in transforms)
        self.in_this_process = 0
        if not plain:
            self.picture_transforms = transforms

    def preprocess(self, picture: Image.Image) -> tuple[np.ndarray, ...]:
        self.in_this_process += 1
        return tuple(each.apply(picture) for each in self._transforms)


def open_clip(mode: str, height: int, width: int, interpolation: str = "bicubic") -> PictureTransform:
    return PictureTransform(height, width, mode, interpolation, 127, (0.5,) * 3, (0.5,) * 3)


ENCODERS = {
    "two squashed": lambda: Preprocessing(Squash(64, 3.0), Squash(31, 3.0)),
    "cropped": lambda: Preprocessing(open_clip("shortest", 48, 48)),
    "padded": lambda: Preprocessing(open_clip("longest", 40, 56, "bilinear")),
    "without transforms": lambda: Preprocessing(Squash(64, 3.0), plain=True),
    "too large to share": lambda: Preprocessing(Squash(1200, 3.0)),
}


@pytest.fixture(scope="module")
def isolated():
    with IsolatedReader(LIMITS) as reader:
        yield reader


@pytest.fixture(scope="module", params=["in this process", "workers", "automatic"])
def any_reader(request, isolated):
    if request.param == "in this process":
        yield DirectReader()
    elif request.param == "workers":
        yield isolated
    else:
        reader = switched(IsolatedReader(LIMITS))
        yield reader
        reader.close()


def switched(isolated: IsolatedReader) -> AutomaticReader:
    """An automatic reader that has gone over to workers."""
    reader, encoder = AutomaticReader(isolated, 1, first=1), Preprocessing(Squash(8, 3.0))
    until(lambda: not (reader.prepare(GOOD, encoder, max_pixels=MOST) and made_here(encoder)))
    return reader


def made_here(encoder: Preprocessing) -> int:
    made, encoder.in_this_process = encoder.in_this_process, 0
    return made


def until(holds) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same(reader, data: bytes, encoder) -> None:
    pixels, info, words = reader.prepare(data, encoder, max_pixels=MOST)
    picture, facts = decode_picture(data, min_side=encoder.picture_side, max_pixels=MOST)
    expected = encoder.preprocess(picture)
    assert len(pixels) == len(expected)
    for one, other in zip(pixels, expected, strict=True):
        assert one.dtype == np.uint8 and not one.flags.writeable and np.array_equal(one, other)
    assert (info, words) == (facts, read_embedded(data))


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(FORMATS.values())))
def test_every_format_gives_the_same_pixels(any_reader, kind):
    data = encode(noise_picture(3, (300, 200)), kind)
    for make in ENCODERS.values():
        assert_same(any_reader, data, make())


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA", "I;16"])
def test_every_mode_gives_the_same_pixels(any_reader, mode):
    grey = Image.fromarray(np.asarray(noise_picture(4).convert("L"), np.uint16) * 257)
    data = encode(grey if mode == "I;16" else noise_picture(4).convert(mode), "TIFF")
    assert_same(any_reader, data, ENCODERS["two squashed"]())


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (1600, 1200)])
def test_every_shape_gives_the_same_pixels(any_reader, size):
    data = encode(noise_picture(5, size), exif=exif_block(6, datetime(2024, 2, 29, 1, 2, 3), ("NIKON", "D70 ü")))
    for make in ENCODERS.values():
        assert_same(any_reader, data, make())


@pytest.mark.parametrize("data", [b"", b"words", GOOD[: len(GOOD) // 2], png_file((60_000, 60_000), 8, 2, b"")])
def test_what_is_refused_is_refused_for_the_same_reason(any_reader, data):
    with pytest.raises(PictureError) as expected:
        decode_picture(data, min_side=64, max_pixels=MOST)
    for make in ENCODERS.values():
        with pytest.raises(PictureError) as refused:
            any_reader.prepare(data, make(), max_pixels=MOST)
        if make().picture_side == 64:
            assert str(refused.value) == str(expected.value)


def test_words_alone_are_the_same(any_reader):
    data = encode(noise_picture(4), exif=exif_block(tags={0x010E: "A dog, ein Hund 🐕‍🦺"}))
    assert any_reader.words(data) == read_embedded(data) and any_reader.words(data).captions
    assert any_reader.words(b"words") == read_embedded(b"words")


def test_pictures_of_one_worker_do_not_mix(isolated):
    encoder = ENCODERS["two squashed"]()
    files = [encode(noise_picture(seed, (200 - 10 * seed, 90)), "PNG") for seed in range(8)]
    made = [isolated.prepare(data, encoder, max_pixels=MOST) for data in files]
    for data, (pixels, info, _) in zip(files, made, strict=True):
        picture, facts = decode_picture(data, min_side=64, max_pixels=MOST)
        assert info == facts and all(map(np.array_equal, pixels, encoder.preprocess(picture)))


def test_only_what_a_worker_cannot_do_is_done_in_this_process(isolated):
    done = {}
    for name, make in ENCODERS.items():
        encoder = make()
        isolated.prepare(GOOD, encoder, max_pixels=MOST)
        done[name] = encoder.in_this_process
    assert done == dict.fromkeys(ENCODERS, 0) | {"without transforms": 1, "too large to share": 1}


def test_a_worker_loads_no_model_library():
    code = "import sys; sys.path[:] = PLACES\nimport indexer.isolation_worker\nprint(*sys.modules)"
    code = code.replace("PLACES", repr([place for place in sys.path if place]))
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded and not {"torch", "open_clip", "onnxruntime", "sqlalchemy", "faiss"} & set(loaded)


# --- when workers are used -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "isolate", "kind"),
    [
        (MANY_CORES, None, AutomaticReader),
        (MANY_CORES - 1, None, AutomaticReader),
        (MANY_CORES, False, DirectReader),
        (1, True, IsolatedReader),
    ],
)
def test_workers_are_used_where_they_are_asked_for_or_pay(monkeypatch, cores, isolate, kind):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    reader = make_reader(Settings(isolate=isolate))
    assert type(reader) is kind
    if isinstance(reader, AutomaticReader):  # with fewer cores it leaves only documents and the like to workers
        assert (reader._first is not None) == (cores >= MANY_CORES)


def test_fewer_threads_than_cores_count_as_fewer_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    reader = make_reader(Settings(threads=2))
    assert isinstance(reader, AutomaticReader) and reader._first is None


def test_the_setting_has_three_values(monkeypatch):
    assert load_settings({}).isolate is None
    for text, value in (("auto", None), ("AUTO", None), ("yes", True), ("0", False)):
        monkeypatch.setenv("CLIPSEARCH_ISOLATE", text)
        assert load_settings({}).isolate is value
    assert load_settings({"isolate": True}).isolate is True
    monkeypatch.setenv("CLIPSEARCH_ISOLATE", "perhaps")
    with pytest.raises(InvalidInputError, match=r"'isolate' .* 'perhaps'\. Use auto, true or false"):
        load_settings({})


def test_an_automatic_reader_starts_workers_after_some_pictures():
    started = []

    class Watched(IsolatedReader):
        def start(self, workers: int) -> None:
            started.append(workers)

    reader, encoder = AutomaticReader(Watched(LIMITS), 2, first=3), ENCODERS["cropped"]()
    for _ in range(5):
        reader.prepare(GOOD, encoder, max_pixels=MOST)
        assert not started and made_here(encoder) == 1
    until(lambda: reader.prepare(GOOD, encoder, max_pixels=MOST) and started)
    assert started == [2]
    reader.close()


def test_an_automatic_run_is_the_same(tmp_path, encoder, monkeypatch):
    photos(tmp_path / "p", 20)
    settings = Settings(threads=1, offline=True, isolate=False)
    index(tmp_path / "direct", tmp_path / "p", encoder=encoder, settings=settings)
    monkeypatch.setattr(pipeline, "make_reader", lambda settings: switched(IsolatedReader(LIMITS)))
    index(tmp_path / "automatic", tmp_path / "p", encoder=encoder, settings=settings)
    assert read_state(tmp_path / "automatic").logical() == read_state(tmp_path / "direct").logical()


# --- what the system refuses -----------------------------------------------------------------------------------------


def no_memory(*_: object) -> int:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_without_shared_memory_no_worker_starts(monkeypatch):
    monkeypatch.setattr(worker_process, "make_shared_memory", no_memory)
    with IsolatedReader(LIMITS) as reader:
        with pytest.raises(WorkerUnavailableError, match=r"Cannot allocate memory.*--no-isolate"):
            reader.start(1)


def test_an_automatic_reader_without_workers_goes_on_in_this_process(monkeypatch, caplog):
    monkeypatch.setattr(worker_process, "make_shared_memory", no_memory)
    reader, encoder = AutomaticReader(IsolatedReader(LIMITS), 1, first=1), ENCODERS["cropped"]()
    until(lambda: reader.prepare(GOOD, encoder, max_pixels=MOST) and caplog.records)
    assert_same(reader, GOOD, encoder)
    reader.close()
    (record,) = caplog.records
    assert "decoded without worker processes" in record.message and "Cannot allocate memory" in record.message


def test_an_automatic_reader_that_loses_its_workers_goes_on_in_this_process(monkeypatch, caplog):
    isolated = IsolatedReader(LIMITS)
    reader, encoder = switched(isolated), ENCODERS["cropped"]()
    isolated.close()
    monkeypatch.setattr(worker_process, "make_shared_memory", no_memory)
    for _ in range(3):
        assert_same(reader, GOOD, encoder)
    reader.close()
    assert len(caplog.records) == 1


def test_a_file_that_memory_lacks_for_is_tried_again_another_time(isolated):
    encoder, before = ENCODERS["cropped"](), resource.getrlimit(resource.RLIMIT_FSIZE)
    isolated.prepare(GOOD, encoder, max_pixels=MOST)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_AT, before[1]))  # no byte of a file can be shared
    try:
        with pytest.raises(PictureError, match=r"no memory to pass its .* bytes to a worker process") as refused:
            isolated.prepare(GOOD, encoder, max_pixels=MOST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(refused.value.__cause__, MemoryError)  # by which the indexer knows
    assert_same(isolated, GOOD, encoder)


def test_a_system_without_nameless_memory_uses_a_file_without_a_name(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with IsolatedReader(LIMITS) as reader:
        for make in ENCODERS.values():
            assert_same(reader, GOOD, make())
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_memory_of_a_large_file_is_given_back(monkeypatch):
    made, make = [], worker_process.make_shared_memory
    monkeypatch.setattr(worker_process, "make_shared_memory", lambda: made.append(make()) or made[-1])
    large = png_file((2600, 2600), 8, 2, np.random.default_rng(1).bytes(2600 * 7801))
    assert len(large) > 3 * FILE_AT
    with IsolatedReader(LIMITS) as reader:
        for data in (large, GOOD, large):
            with pytest.raises(PictureError) if data is large else nullcontext():
                reader.prepare(data, ENCODERS["cropped"](), max_pixels=MOST)
            assert os.fstat(made[0]).st_size <= 2 * FILE_AT
    assert len(made) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made[0])


# --- whatever ends the indexer ---------------------------------------------------------------------------------------

RUN = """
import sys
sys.path[:] = PLACES
from indexer.isolation import IsolatedReader
from indexer.worker_process import Limits
from tests.indexer.test_picture_readers import ENCODERS, GOOD, MOST
reader = IsolatedReader(Limits(60, 1 << 30))
reader.start(2)
reader.wait(2)
print("ready", flush=True)
encoder = ENCODERS["cropped"]()
while True:
    reader.prepare(GOOD, encoder, max_pixels=MOST)
"""


def holders_of_memory() -> set[int]:
    """The processes that hold or map shared memory of workers."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(each) for each in (folder / "fd").iterdir()]
            if any("memfd:clipsearch-worker" in link for link in links):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="looks at the shared memory of Linux")
def test_an_indexer_that_is_killed_leaves_neither_workers_nor_memory():
    before, named = holders_of_memory(), set(os.listdir("/dev/shm"))
    code = RUN.replace("PLACES", repr([place for place in sys.path if place]))
    indexer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert indexer.stdout is not None and indexer.stdout.readline() == b"ready\n"
    held = holders_of_memory() - before
    assert indexer.pid in held
    assert not [name for name in set(os.listdir("/dev/shm")) - named if "clipsearch" in name]
    os.kill(indexer.pid, signal.SIGKILL)
    indexer.wait()
    indexer.stdout.close()
    until(lambda: not holders_of_memory() & held)
