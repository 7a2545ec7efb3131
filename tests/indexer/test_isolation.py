"""Decoding in worker processes: the same pictures, and whatever a worker does costs one file at most."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.config import Settings
from clipsearch.encoders.preprocessing import Squash
from clipsearch.errors import PictureError, WorkerUnavailableError
from clipsearch.media.decode import decode_picture
from clipsearch.media.image_metadata import MAX_CAPTION, Embedded, read_embedded
from clipsearch.types import PictureInfo
from indexer import isolation
from indexer.isolation import IsolatedReader
from indexer.isolation_protocol import (
    ANSWER,
    PICTURE,
    PREPARED,
    READY,
    WORDS,
    BadAnswerError,
    Request,
    check_answer,
    pack_facts,
    read_facts,
)
from indexer.worker_process import Limits, make_shared_memory, worker_command
from tests.support.cli import run_cli
from tests.support.libraries import counts, index, photos
from tests.support.pictures import FORMATS, encode, enlarge, exif_block, noise_picture, odd_corpus, png_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")

LIMITS = Limits(60, 1 << 30)
GOOD = encode(noise_picture(1))
ASK = {"min_side": 32, "max_pixels": 10_000_000}

# A worker that decodes as the real one does, unless the file says what else to do.
ODD_WORKER = (
    f"""
import sys
sys.path[:] = {[place for place in sys.path if place]!r}
"""
    + """
import json, mmap, os, signal, socket, struct, threading, time
from indexer.isolation_protocol import ANSWER, FILE_AT, READY, REQUEST, Request
from indexer.isolation_worker import answer, read_file, receive

def reply(number, facts=b"{}", size=(0, 0), status=0, length=None, pixels=b""):
    return ANSWER.pack(number, status, len(facts) if length is None else length, *size) + facts + pixels

def facts(**changed):
    plain = dict(width=1, height=1, taken_at=None, camera=None, latitude=None, longitude=None, captions=[], keywords=[])
    return json.dumps(plain | changed).encode()

def grow(number):
    held = bytearray(300 << 20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(60)

def spin(number):
    while True:
        pass

def drip(number):
    s.sendall(reply(number, size=(1, 1), length=1 << 20))
    while True:
        s.send(b" ")
        time.sleep(0.05)

def scribble(number):
    def write():
        while True:
            prepared[:] = b"y" * FILE_AT

    threading.Thread(target=write, daemon=True).start()
    return reply(number, facts())

DO = {
    b"hang": lambda n: time.sleep(60),
    b"spin": spin,
    b"drip": drip,
    b"grow": grow,
    b"exit": lambda n: os._exit(3),
    b"killed": lambda n: os.kill(os.getpid(), signal.SIGKILL),
    b"close": lambda n: (s.close(), os.close(0), time.sleep(60)),
    b"header": lambda n: b"\\xff" * ANSWER.size,
    b"number": lambda n: reply(n + 1, facts(), (1, 1), pixels=b"abc"),
    b"status": lambda n: reply(n, status=9),
    b"length": lambda n: reply(n, length=2**32 - 1),
    b"size": lambda n: reply(n, facts(), (65535, 65535)),
    b"half": lambda n: reply(n, facts(), (0, 7)),
    b"no pixels": lambda n: reply(n, facts()),
    b"no facts": lambda n: reply(n, b'{"captions": [], "keywords": []}', (1, 1), pixels=b"abc"),
    b"no json": lambda n: reply(n, b"\\x80{", (1, 1), pixels=b"abc"),
    b"deep": lambda n: reply(n, b"[" * 100_000, (1, 1), pixels=b"abc"),
    b"list": lambda n: reply(n, b"[]", (1, 1), pixels=b"abc"),
    b"more": lambda n: reply(n, facts(path="/etc/passwd"), (1, 1), pixels=b"abc"),
    b"true": lambda n: reply(n, facts(width=True), (1, 1), pixels=b"abc"),
    b"wide": lambda n: reply(n, facts(width=10**9), (1, 1), pixels=b"abc"),
    b"nan": lambda n: reply(n, facts(latitude=float("nan"), longitude=0.0), (1, 1), pixels=b"abc"),
    b"north": lambda n: reply(n, facts(latitude=91.0, longitude=0.0), (1, 1), pixels=b"abc"),
    b"half a place": lambda n: reply(n, facts(latitude=1.0), (1, 1), pixels=b"abc"),
    b"zone": lambda n: reply(n, facts(taken_at="2024-01-01T00:00:00+02:00"), (1, 1), pixels=b"abc"),
    b"time": lambda n: reply(n, facts(taken_at="now"), (1, 1), pixels=b"abc"),
    b"camera": lambda n: reply(n, facts(camera="x" * 1000), (1, 1), pixels=b"abc"),
    b"captions": lambda n: reply(n, facts(captions=["x"] * 1000), (1, 1), pixels=b"abc"),
    b"long": lambda n: reply(n, facts(captions=["x" * 4001]), (1, 1), pixels=b"abc"),
    b"escape": lambda n: reply(n, facts(keywords=["\\x1b[2J"]), (1, 1), pixels=b"abc"),
    b"surrogate": lambda n: reply(n, facts(keywords=["\\ud800"]), (1, 1), pixels=b"abc"),
    b"one pixel": lambda n: reply(n, facts(), (1, 1), pixels=b"abc"),
    b"cut memory": lambda n: (os.ftruncate(1, 100), reply(n, facts()))[1],
    b"scribble": scribble,
    b"trailing": lambda n: reply(n, facts(), (1, 1), pixels=b"abc" + bytes(99)),
}
s = socket.socket(fileno=0)
prepared = mmap.mmap(1, FILE_AT)
s.sendall(READY)
while head := receive(s, REQUEST.size):
    request = Request._make(REQUEST.unpack(head))
    transforms, data = receive(s, request.transforms_length), read_file(1, request.file_length)
    todo = next((do for name, do in DO.items() if data.endswith(b"|" + name)), None)
    s.sendall(b"".join(answer(request, transforms, data, prepared)) if todo is None else todo(request.number))
"""
)
ODD = [sys.executable, "-c", ODD_WORKER]
LIES = """header|number|status|length|size|half|no pixels|no facts|no json|deep|list|more|true|wide|nan|north
half a place|zone|time|camera|captions|long|escape|surrogate""".replace("\n", "|").split("|")


@pytest.fixture(scope="module")
def odd_reader():
    with IsolatedReader(Limits(2, 200 << 20), ODD) as reader:
        yield reader


@pytest.fixture(scope="module")
def reader():
    with IsolatedReader(LIMITS) as reader:
        yield reader


def same(reader: IsolatedReader, data: bytes) -> bool:
    picture, info, words = reader.decode(data, **ASK)
    expected, facts = decode_picture(data, **ASK)
    whole = (picture.size, picture.tobytes()) == (expected.size, expected.tobytes())
    return whole and (info, words) == (facts, read_embedded(data))


# --- the same pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_decoded_as_without_a_worker(reader, suffix):
    assert same(reader, encode(noise_picture(3, (300, 200)), FORMATS[suffix]))


def test_facts_and_words_come_back_whole(reader):
    exif = exif_block(
        6, datetime(2024, 2, 29, 1, 2, 3), ("NIKON", "D70 ü"), (-33.5, 151.25), {0x010E: "A dog, ein Hund 🐕‍🦺"}
    )
    data = encode(noise_picture(4), exif=exif)
    assert same(reader, data)
    _, info, words = reader.decode(data, **ASK)
    assert info.camera and info.latitude and words.captions
    assert reader.words(data) == words


def test_words_in_any_encoding_need_no_file(reader):
    tags = {0x010E: "Grüne Wiese".encode("cp1252"), 0x9C9B: "Am Mittag\0".encode("utf-16-le")}
    data = encode(noise_picture(4), exif=exif_block(tags=tags))
    assert reader.words(data).captions == ("Grüne Wiese", "Am Mittag")
    assert same(reader, data)


def test_cmyk_with_a_profile_and_a_lab_picture_need_no_file(reader):
    from PIL import ImageCms

    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    profile = ImageCms.ImageCmsProfile(srgb).tobytes()
    assert same(reader, encode(noise_picture(5).convert("CMYK"), icc_profile=profile))
    assert same(reader, encode(ImageCms.profileToProfile(noise_picture(5), srgb, lab, outputMode="LAB"), "TIFF"))


@pytest.mark.parametrize("data", [b"", b"words", GOOD[: len(GOOD) // 2], png_file((60_000, 60_000), 8, 2, b"")])
def test_what_is_refused_is_refused_for_the_same_reason(reader, data):
    reasons = []
    for decode in (reader.decode, decode_picture):
        with pytest.raises(PictureError) as refused:
            decode(data, **ASK)
        reasons.append(str(refused.value))
    assert reasons[0] == reasons[1]


@pytest.mark.slow
def test_an_indexed_folder_is_the_same(tmp_path, encoder):
    odd_corpus(tmp_path / "odd")
    reports = []
    for isolate in (False, True):
        settings = Settings(threads=2, offline=True, isolate=isolate)
        reports.append(index(tmp_path / f"lib{isolate}", tmp_path / "odd", encoder=encoder, settings=settings))
    assert counts(reports[0]) == counts(reports[1]) and reports[0].failed == reports[1].failed


# --- a worker that does not do its work ------------------------------------------------------------------------------


def refusal(reader: IsolatedReader, what: str) -> str:
    with pytest.raises(PictureError) as refused:
        reader.decode(b"|" + what.encode(), **ASK)
    assert refused.value.__cause__ is None or isinstance(refused.value.__cause__, BadAnswerError)
    assert reader.decode(GOOD, **ASK)[1].width == 96
    return str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["hang", "spin", "drip"])
def test_one_that_hangs_is_ended(odd_reader, what):
    assert refusal(odd_reader, what) == "took longer than 2 s to decode (setting decode_seconds)"


def test_one_that_grows_is_ended_even_where_the_system_does_not_limit_it():
    with IsolatedReader(Limits(50, 200 << 20), ODD) as reader:
        assert (
            refusal(reader, "grow") == f"took more than {200 << 20} bytes of memory to decode (setting decode_memory)"
        )


@pytest.mark.parametrize(("what", "how"), [("exit", "exit code 3"), ("killed", "signal 9"), ("close", "signal 9")])
def test_one_that_ends_costs_the_file_that_ended_it(odd_reader, what, how):
    assert refusal(odd_reader, what) == f"two worker processes ended while they decoded it ({how})"


@pytest.mark.slow
@pytest.mark.parametrize("what", LIES)
def test_what_no_sound_worker_says_is_not_believed(odd_reader, what):
    assert "broke the protocol" in refusal(odd_reader, what)


PREPARING = SimpleNamespace(picture_side=32, picture_transforms=(Squash(32, 3.0),))
MOST = {"max_pixels": ASK["max_pixels"]}


@pytest.mark.parametrize(
    ("what", "why"),
    [("one pixel", "1 x 1 pixels"), ("no facts", "1 x 1 pixels"), ("no json", "1 x 1"), ("cut memory", "cut off")],
)
def test_prepared_pixels_are_as_large_as_was_asked(odd_reader, what, why):
    with pytest.raises(PictureError, match=f"broke the protocol: .*{why}"):
        odd_reader.prepare(b"|" + what.encode(), PREPARING, **MOST)
    assert odd_reader.prepare(GOOD, PREPARING, **MOST)[1].width == 96


@pytest.mark.parametrize(("what", "how"), [("exit", "exit code 3"), ("killed", "signal 9")])
def test_one_that_ends_costs_the_file_that_it_prepared(odd_reader, what, how):
    with pytest.raises(PictureError, match=how):
        odd_reader.prepare(b"|" + what.encode(), PREPARING, **MOST)
    assert odd_reader.prepare(GOOD, PREPARING, **MOST)[1].width == 96


def test_what_is_written_after_an_answer_changes_nothing_that_was_taken():
    with IsolatedReader(Limits(20, 200 << 20), ODD) as reader:
        (good,), _, _ = reader.prepare(GOOD, PREPARING, **MOST)
        kept = good.tobytes()
        (pixels,), info, _ = reader.prepare(b"|scribble", PREPARING, **MOST)
        taken = pixels.tobytes()
        worker = reader._idle[-1]
        while os.pread(worker._memory, 1, 0) != b"y":  # the worker writes on
            time.sleep(0.001)
        assert pixels.tobytes() == taken and good.tobytes() == kept and info.width == 1
        (again,), info, _ = reader.prepare(GOOD, PREPARING, **MOST)
        assert again.shape == (32, 32, 3) and info.width == 96 and good.tobytes() == kept


def test_the_default_time_out_of_an_application_is_not_that_of_a_worker(monkeypatch):
    monkeypatch.setattr(isolation, "_MAX_STARTS", 1)
    socket.setdefaulttimeout(0.001)
    try:
        with IsolatedReader(LIMITS) as reader:
            assert reader.decode(GOOD, **ASK)[1].width == 96
    finally:
        socket.setdefaulttimeout(None)


def test_bytes_behind_an_answer_are_no_part_of_the_next(odd_reader):
    for _ in range(3):
        odd_reader.decode(b"|trailing", **ASK)
        assert odd_reader.decode(GOOD, **ASK)[1].width == 96


@pytest.mark.slow
def test_a_hanging_picture_costs_one_file_and_is_not_tried_again(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(isolation, "worker_command", lambda limits: ODD)
    photos(tmp_path / "p", 6)
    for what in ("hang", "exit", "number"):
        (tmp_path / "p" / f"{what}.jpg").write_bytes(GOOD + b"|" + what.encode())
    settings = Settings(threads=2, offline=True, isolate=True, decode_seconds=2)
    report = index(tmp_path / "lib", tmp_path / "p", encoder=encoder, settings=settings)
    assert counts(report) == {"added": 6, "encoded": 6, "failed": 3}
    assert {Path(path).stem for path, _ in report.failed} == {"hang", "exit", "number"}
    again = index(tmp_path / "lib", tmp_path / "p", encoder=encoder, settings=settings)
    assert counts(again) == {"unchanged": 9}


def test_one_that_cannot_start_stops_the_run_and_blames_no_file(tmp_path, encoder, monkeypatch):
    photos(tmp_path / "p", 2)
    settings = Settings(threads=1, offline=True, isolate=True)
    for command in ([sys.executable, "-c", "pass"], [str(tmp_path / "nothing")]):
        monkeypatch.setattr(isolation, "worker_command", lambda limits, command=command: command)
        with pytest.raises(WorkerUnavailableError, match="--no-isolate"):
            index(tmp_path / "lib", tmp_path / "p", encoder=encoder, settings=settings)
    monkeypatch.undo()
    assert counts(index(tmp_path / "lib", tmp_path / "p", encoder=encoder, settings=settings))["added"] == 2


# --- the real worker -------------------------------------------------------------------------------------------------


def children() -> dict[int, int]:
    """Processes that this one started, and their processor time in ticks."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found[int(stat.parent.name)] = int(fields[11])
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_worker_that_is_killed_while_it_decodes_costs_nothing():
    big = encode(enlarge(noise_picture(1), 1400), "JPEG2000")
    with IsolatedReader(LIMITS) as reader:
        before = set(children())
        reader.words(GOOD)
        (pid,) = set(children()) - before
        assert os.getsid(pid) != os.getsid(0)
        worked = children()[pid]
        done = []
        thread = threading.Thread(target=lambda: done.append(reader.decode(big, min_side=32, max_pixels=10**8)))
        thread.start()
        while thread.is_alive() and children()[pid] < worked + 5:
            time.sleep(0.002)
        assert thread.is_alive()
        os.kill(pid, signal.SIGKILL)
        thread.join()
        assert done[0][1].height == 1400 and pid not in children()
    assert set(children()) == before


def test_a_picture_that_takes_too_much_memory_is_refused_by_the_system():
    with IsolatedReader(Limits(60, 64 << 20)) as reader:
        bomb = png_file((6000, 6000), 8, 2, bytes(6000 * 18001))
        with pytest.raises(PictureError, match="decode_memory"):
            reader.decode(bomb, min_side=32, max_pixels=10**8)
        assert same(reader, GOOD)


TRIES = """
import os, resource, socket, sys
sys.path[:] = PLACES
import ctypes, json
status = open("/proc/self/status")
from indexer.isolation_worker import limit_process
limit_process(64 << 20)
TRY = {
    "open": lambda: os.open("/dev/null", os.O_RDONLY),
    "socket": lambda: socket.socket(),
    "copy": lambda: os.dup(1),
    "raise the limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99)),
    "raise the memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)),
    "write": lambda: os.write(2, b"x"),
    "grow": lambda: bytearray(65 << 20),
}
found = {}
for name, attempt in TRY.items():
    try:
        attempt()
        found[name] = True
    except (OSError, ValueError, MemoryError):
        found[name] = False
found["capabilities"] = "CapEff:\\t0000000000000000" not in status.read()
found["gains"] = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 0
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit less")
def test_a_worker_gives_up_what_it_does_not_need(tmp_path):
    code = TRIES.replace("PLACES", repr([place for place in sys.path if place]))
    with (tmp_path / "err").open("wb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=file, check=True)
    assert set(json.loads(done.stdout).values()) == {False}, json.loads(done.stdout)


def test_a_worker_ends_with_the_indexer():
    ours, theirs = socket.socketpair()
    with theirs, os.fdopen(make_shared_memory(), "wb") as memory:
        worker = subprocess.Popen(worker_command(LIMITS), stdin=theirs.fileno(), stdout=memory)
    assert ours.recv(len(READY)) == READY
    ours.close()
    assert worker.wait(30) == 0


def test_a_worker_that_nobody_watches_any_more_ends_by_itself():
    code = f"import sys; sys.path[:] = {[place for place in sys.path if place]!r}\n"
    code += "from indexer.isolation_worker import _limit_cpu\n_limit_cpu(-1)\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -signal.SIGXCPU


@pytest.mark.slow
def test_the_command_takes_the_flag_and_the_settings(tmp_path):
    photos(tmp_path / "p", 2)
    (tmp_path / "p" / "large.png").write_bytes(png_file((4000, 4000), 8, 2, bytes(4000 * 12001)))
    for flag, isolate in (("--isolate", "0"), ("--no-isolate", "1")):
        env = {"CLIPSEARCH_ISOLATE": isolate, "CLIPSEARCH_DECODE_MEMORY": "9999999"}
        library = tmp_path / f"lib{flag}"
        ran = run_cli(
            "index", tmp_path / "p", "--library", library, "--model", "builtin-small", "--json", flag, env=env
        )
        expected = ["took more than 9999999 bytes of memory to decode (setting decode_memory)"]
        assert [f["reason"] for f in ran.json["failed"]] == (expected if flag == "--isolate" else [])


# --- the protocol ----------------------------------------------------------------------------------------------------

words = st.text("ab é\x00\x1b\u2028\ufffd🐕", max_size=8)
numbers = st.integers(-5, 10**12) | st.floats() | st.booleans() | st.none() | words
facts = st.fixed_dictionaries(
    {name: numbers for name in PictureInfo.__slots__}
    | {"captions": st.lists(words, max_size=20) | words, "keywords": st.lists(words | numbers, max_size=3)}
)


@given(facts | st.dictionaries(words, numbers))
def test_facts_are_in_range_or_refused(written):
    try:
        info, said = read_facts(json.dumps(written).encode(), 10**8)
    except BadAnswerError:
        return
    assert all(len(text) <= MAX_CAPTION and "\x1b" not in text and "\0" not in text for text in said.captions)
    if info is not None:
        assert info.width > 0 and info.height > 0 and (info.latitude is None) == (info.longitude is None)
        assert info.latitude is None or (abs(info.latitude) <= 90 and abs(info.longitude) <= 180)


ANSWERS = st.binary(min_size=ANSWER.size, max_size=ANSWER.size) | st.builds(
    ANSWER.pack, st.just(7), st.integers(0, 3), st.integers(0, 2**21), st.integers(0, 999), st.integers(0, 999)
)


@given(ANSWERS, st.sampled_from([WORDS, PICTURE, PREPARED]), st.integers(1, 2**20))
def test_an_answer_is_bounded_before_it_is_read(head, wants, most):
    number = int.from_bytes(head[:8], "little")
    try:
        status, length, (width, height) = check_answer(head, Request(number, wants, 1, most, 1, 1))
    except BadAnswerError:
        return
    assert length <= 1 << 20 and width * height <= most
    assert (width > 0) == (height > 0) == (wants == PICTURE and status == 0)


@given(st.datetimes() | st.none(), st.floats(-90, 90), st.floats(-180, 180), st.text("abü🐕", max_size=100))
def test_facts_that_are_written_are_read_as_they_were(taken_at, latitude, longitude, text):
    info = PictureInfo(3, 4, taken_at, text, latitude, longitude)
    said = Embedded((text,), (text,))
    assert read_facts(pack_facts(info, said), 100) == (info, said)
    assert read_facts(pack_facts(None, said), 100) == (None, said)
