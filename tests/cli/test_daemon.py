"""The daemon: what it answers is what the query would have said by itself, and nothing it does stops a query."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipsearch import __version__
from tests.support.cli import COMMAND, environment, run_cli, start_cli
from tests.support.libraries import index, photo, photos

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
ALONE = {"CLIPSEARCH_DAEMON": "0"}


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    """A folder with photographs of odd names, notes, and a library in .clipsearch."""
    folder = tmp_path_factory.mktemp("daemon")
    photos(folder / "photos", 8)
    if sys.platform == "linux":
        photo(folder / "photos" / "caf\udce9 \n.jpg", 20)
    (folder / "photos" / "notes.txt").write_text("Feed the cat.\n\nPrune the roses in winter.\n")
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    (folder / "list.txt").write_text("photos/p001.jpg\nphotos/notes.txt\n")
    return folder


@contextlib.contextmanager
def running(*arguments, env=None):
    """A daemon of its own runtime folder; yields its process and that folder's environment."""
    with tempfile.TemporaryDirectory(prefix="cs-") as runtime:
        where = {"XDG_RUNTIME_DIR": runtime, **(env or {})}
        with start(where, *arguments) as process:
            yield process, where


@contextlib.contextmanager
def start(where, *arguments):
    process = start_cli("daemon", *arguments, env=where)
    try:
        assert process.stderr is not None and b"Listening" in process.stderr.readline()
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def daemon(home):
    with running() as (_, where):
        yield where


def answered(where):
    """How many queries the daemon has answered."""
    return json.loads(talk(where, b'{"do": "status"}\n'))["answered"]


def path_of(where):
    return Path(where["XDG_RUNTIME_DIR"]) / "clipsearch" / "daemon.sock"


def talk(where, data):
    """Send bytes to the socket; what comes back until it is closed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect(os.fsencode(path_of(where)))
        with contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            return client.makefile("rb").read()
    return b""


QUERIES = [
    ["a cat"],
    ["a", "cat", "-k", "3"],
    ["--json", "a cat"],
    ["--json", 'naïve 猫 "quotes"'],
    ["--paths", "a cat"],
    ["-0", "a cat"],
    ["--print0", "a cat", "-k", "2"],
    ["roses", "--modality", "text"],
    ["roses", "--modality", "text", "--json"],
    ["--image", "photos/p001.jpg"],
    ["--image", "photos/p001.jpg", "--json", "--exclude-self"],
    ["--image", "./photos/../photos/p002.jpg", "--json"],
    ["word " * 400, "--json"],
    ["a cat", "--no-cache"],
    ["a cat", "--min-confidence", "0.9", "--min-score", "-0.5", "--cut"],
    ["a cat", "--format", r"{path}\t{score:.3f}\t{confidence:.0%}"],
    ["a cat", "--format", "{name}", "-0"],
    ["a cat", "--paths-from", "list.txt"],
]
FAILING = [
    ["a cat", "--fail-if-none"],
    ["a cat", "--fail-if-none", "--paths-from", "/dev/null"],
    ["a cat", "--fail-if-none", "--min-score", "1", "--json"],
]
"""Answers of nothing that stands out."""
ERRORS = [
    [],
    [""],
    ["a cat", "-k", "0"],
    ["--image", "missing.jpg"],
    ["--image", ""],
    ["--image", "photos"],
    ["--image", "photos/notes.txt"],
    ["--image", "/dev/null"],
    ["a cat", "--library", "nowhere"],
    ["a cat", "--json", "--paths"],
    ["a cat", "--min-confidence", "nan"],
    ["a cat", "--format", "{path.__class__}"],
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", QUERIES + FAILING, ids=repr)
def test_an_answer_is_byte_for_byte_the_one_without_a_daemon(home, daemon, arguments):
    before = answered(daemon)
    by_daemon = run_cli("query", *arguments, cwd=home, env=daemon)
    assert answered(daemon) == before + 1
    alone = run_cli("query", *arguments, cwd=home, env={**daemon, **ALONE})
    assert (by_daemon.code, by_daemon.out, by_daemon.err) == (alone.code, alone.out, alone.err)
    assert answered(daemon) == before + 1
    assert alone.code == (arguments in FAILING) and (alone.out or arguments in FAILING)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ERRORS, ids=repr)
def test_an_error_is_byte_for_byte_the_one_without_a_daemon(home, daemon, arguments):
    by_daemon = run_cli("query", *arguments, cwd=home, env=daemon)
    alone = run_cli("query", *arguments, cwd=home, env={**daemon, **ALONE})
    assert (by_daemon.code, by_daemon.out, by_daemon.err) == (alone.code, alone.out, alone.err)
    assert alone.code != 0 and alone.err


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="this system has no /dev/stdin")
def test_a_picture_of_this_process_alone_is_not_asked_of_another(home, daemon):
    before = answered(daemon)
    with open(home / "photos" / "p001.jpg", "rb") as file:
        done = run_cli("query", "--image", "/dev/stdin", "--json", cwd=home, env=daemon, stdin=file)
    assert done.code == 0 and done.json["query"] == "/dev/stdin" and answered(daemon) == before
    pictures = [hit["path"] for hit in done.json["hits"] if hit["modality"] == "image"]
    assert pictures[0].endswith("p001.jpg")


@pytest.mark.slow
def test_what_another_process_commits_or_replaces_is_seen(home, daemon, tmp_path, encoder):
    photos(tmp_path / "photos", 2)
    question = ("query", "--paths", "x", "--library", tmp_path / "library")
    for more, fresh in ((2, False), (4, False), (3, True)):
        if fresh:
            shutil.rmtree(tmp_path / "library")
            shutil.rmtree(tmp_path / "photos")
        photos(tmp_path / "photos", more)
        index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
        before = answered(daemon)
        done = run_cli(*question, env=daemon)
        assert len(done.out.splitlines()) == more and answered(daemon) == before + 1
    shutil.rmtree(tmp_path / "library")
    assert run_cli(*question, env=daemon).code == 3


@pytest.mark.slow
def test_another_encoder_answers_as_soon_as_it_took_the_place_of_the_first(daemon, tmp_path, encoder):
    index(tmp_path / "lib", photo(tmp_path / "photos" / "a.jpg", 1).parent, encoder=encoder)
    question = ("query", "--json", "a cat", "--library", tmp_path / "lib")
    for model, option in (("builtin-small", None), ("builtin-base", "--model"), ("builtin-small", "--rollback")):
        if option:
            extra = (option, model) if option == "--model" else (option,)
            assert run_cli("reindex", *extra, "--library", tmp_path / "lib", "--offline").code == 0
        before = answered(daemon)
        done = run_cli(*question, env=daemon)
        assert done.json["encoder"] == model and answered(daemon) == before + 1


@pytest.mark.slow
def test_several_libraries_and_clients_at_once(home, daemon, tmp_path, encoder):
    libraries = [home / ".clipsearch"]
    for number in range(5):
        photos(tmp_path / f"p{number}", number + 1, first=30)
        index(tmp_path / f"l{number}", tmp_path / f"p{number}", encoder=encoder)
        libraries.append(tmp_path / f"l{number}")

    def ask(library):
        return run_cli("query", "--json", "a cat", "--library", library, env=daemon).json

    before = answered(daemon)
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(ask, libraries * 2))
    assert [answer["library"] for answer in given] == [str(library) for library in libraries * 2]
    assert given[:6] == given[6:] and answered(daemon) == before + 12
    assert b": 4 libraries open" in run_cli("daemon", "--status", env=daemon).out


@pytest.mark.slow
@pytest.mark.parametrize("other", [ALONE, {"CLIPSEARCH_CACHE": ""}, {"CLIPSEARCH_DEBUG": "1"}], ids=repr)
def test_a_query_that_is_not_for_this_daemon_is_answered_without_it(home, daemon, tmp_path, other):
    if "CLIPSEARCH_CACHE" in other:
        (tmp_path / "encoders").symlink_to(Path(os.environ["CLIPSEARCH_CACHE"]) / "encoders")
        other = {"CLIPSEARCH_CACHE": str(tmp_path)}
    before = answered(daemon)
    assert run_cli("query", "a cat", cwd=home, env={**daemon, **other}).code == 0
    assert answered(daemon) == before


def test_settings_of_the_query_count_and_not_those_of_the_daemon(home, daemon):
    small = {**daemon, "CLIPSEARCH_MAX_PIXELS": "100"}
    done = run_cli("query", "--image", "photos/p001.jpg", cwd=home, env=small)
    assert done.code == 2 and "max_pixels" in done.err
    assert run_cli("query", "--image", "photos/p001.jpg", cwd=home, env=daemon).code == 0


GOOD = {
    "do": "query",
    "version": __version__,
    "cache": "",
    "library": "/",
    "settings": {},
    "asked": {},
    "picture": None,
}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"nonsense\n",
        b"[1]\n",
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b'{"do": "query"}\n',
        b'{"do": "query", "version": "' + b"9" * (1 << 21) + b'"}\n',
        json.dumps({**GOOD, "version": "999"}).encode() + b"\n",
        json.dumps({**GOOD, "cache": None, "settings": {"threads": []}}).encode() + b"\n",
        json.dumps(GOOD).encode(),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_a_message_that_is_none_is_declined_and_the_next_answered(home, daemon, data):
    assert talk(daemon, data).removeprefix(b"\n") in (b"", b"{}\n")
    before = answered(daemon)
    assert run_cli("query", "a cat", cwd=home, env=daemon).code == 0
    assert answered(daemon) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply", [b"", b"nonsense\n", b'{"out": 1}\n', b'{"out": "x", "notes": 3}\n', b'{"out": "\\u1234"']
)
@pytest.mark.parametrize("acknowledgement", [b"\n", b""])
def test_whatever_a_daemon_says_a_query_is_answered(home, reply, acknowledgement):
    with tempfile.TemporaryDirectory(prefix="cs-") as runtime:
        (Path(runtime) / "clipsearch").mkdir(mode=0o700)
        where = {"XDG_RUNTIME_DIR": runtime}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(os.fsencode(path_of(where)))
            listener.listen(1)
            client = start_cli("query", "--paths", "a cat", "-k", "1", cwd=home, env=where)
            connection, _ = listener.accept()
            connection.recv(1 << 20)
            connection.sendall(acknowledgement + reply)
            connection.close()
            out, err = client.communicate(timeout=60)
    assert client.returncode == 0 and out.startswith(os.fsencode(home)) and err == b""


def test_a_socket_in_a_folder_that_others_may_enter_is_not_used(home, daemon):
    folder = path_of(daemon).parent
    before = answered(daemon)
    folder.chmod(0o755)
    try:
        assert run_cli("query", "a cat", cwd=home, env=daemon).code == 0
        refused = run_cli("daemon", env=daemon)
        assert refused.code == 1 and "chmod 700" in refused.err
    finally:
        folder.chmod(0o700)
    assert answered(daemon) == before


def test_folder_and_socket_are_the_users_alone(daemon):
    assert path_of(daemon).stat().st_mode & 0o777 == 0o600
    assert path_of(daemon).parent.stat().st_mode & 0o777 == 0o700


def test_a_second_daemon_says_that_there_is_one(daemon):
    second = run_cli("daemon", env=daemon)
    assert second.code == 0 and "already" in second.err
    assert answered(daemon) >= 0


@pytest.mark.slow
def test_a_daemon_that_was_killed_is_succeeded(home):
    with running() as (first, where):
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert path_of(where).exists()
        assert run_cli("query", "a cat", cwd=home, env=where).code == 0
        assert run_cli("daemon", "--status", env=where).code == 1
        with start(where):
            assert run_cli("query", "a cat", cwd=home, env=where).code == 0
            assert answered(where) == 1


def test_it_ends_when_it_is_told_and_answers_whoever_waits(home):
    with running() as (process, where):
        client = start_cli("query", "a cat", cwd=home, env=where)
        time.sleep(0.2)
        stopped = run_cli("daemon", "--stop", env=where)
        assert stopped.code == 0 and "Stopped" in stopped.err
        assert client.communicate(timeout=60)[0].strip().startswith(b"#") and client.returncode == 0
        assert process.wait(timeout=20) == 0 and not path_of(where).exists()
        assert "No daemon" in run_cli("daemon", "--stop", env=where).err


@pytest.mark.slow
def test_it_ends_when_nobody_asks(home):
    with running("--idle", "0.02") as (process, where):
        assert run_cli("query", "a cat", cwd=home, env=where).code == 0
        assert process.wait(timeout=30) == 0 and not path_of(where).exists()


def test_a_daemon_that_hangs_is_left_alone(home, monkeypatch):
    from clipsearch.cli.daemon import protocol as exchange

    with running() as (process, where):
        monkeypatch.setenv("XDG_RUNTIME_DIR", where["XDG_RUNTIME_DIR"])
        monkeypatch.setattr(exchange, "ANSWER_SECONDS", 0.2)
        assert exchange.ask({"do": "status"})
        process.send_signal(signal.SIGSTOP)
        assert exchange.ask({"do": "status"}) is None
        process.send_signal(signal.SIGCONT)


def test_a_runtime_folder_with_too_long_a_path_is_told(tmp_path):
    done = run_cli("daemon", env={"XDG_RUNTIME_DIR": str(tmp_path / ("x" * 120))})
    assert done.code == 1 and "XDG_RUNTIME_DIR" in done.err


def test_a_query_from_a_folder_that_is_gone_is_answered(home, daemon, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone}; rmdir {gone}; exec {COMMAND} query --json x --library {home / '.clipsearch'}"
    done = subprocess.run(["bash", "-c", script], env=environment(daemon), capture_output=True)
    assert done.returncode == 0 and json.loads(done.stdout)["hits"]


# Plain questions, and others that look like them.
PLAIN = [["a cat"], ["a", "cat"], ["roses"], ["a cat, sleeping"], ["naïve 猫"], ["a t-shirt"], ["qwzrtpl xkcdvbn"],
         ["roses July 2023"]]  # fmt: skip
NOT_PLAIN = [
    ["a cat", "+", "roses"],
    ["photos/p001.jpg"],
    ["id:1"],
    ["2:a cat"],
    ["p001.jpg"],
    [" "],
    ["--json", "a cat"],
    ["(a cat or roses) and not a fence"],
]
SHORT_CUT = """
import sys
from clipsearch.cli.daemon.fast_path import is_answered
done = is_answered(sys.argv[1:])
print("answered" if done else "declined", "click" in sys.modules, "dataclasses" in sys.modules, file=sys.stderr)
"""


def short_cut(home, env, *arguments, **more):
    command = [sys.executable, "-c", SHORT_CUT, *arguments]
    done = subprocess.run(command, cwd=home, env=environment({**env, **more}), capture_output=True, timeout=60)
    *notes, last = done.stderr.decode().splitlines()
    return last.split(), done.stdout, notes


@pytest.mark.slow
@pytest.mark.parametrize("words", PLAIN, ids=repr)
def test_the_short_cut_prints_what_the_command_line_would(home, daemon, words):
    said, out, notes = short_cut(home, daemon, "query", *words)
    assert said == ["answered", "False", "False"]
    alone = run_cli("query", *words, cwd=home, env={**daemon, **ALONE})
    assert (out, notes) == (alone.out, alone.err.splitlines())
    whole = run_cli("query", *words, cwd=home, env=daemon)
    assert (whole.code, whole.out, whole.err) == (0, alone.out, alone.err)


@pytest.mark.parametrize("words", NOT_PLAIN, ids=repr)
def test_the_short_cut_leaves_alone_what_is_not_plain(home, daemon, words):
    assert short_cut(home, daemon, "query", *words)[:2] == (["declined", "False", "False"], b"")


def test_the_short_cut_leaves_alone_what_is_set(home, daemon, tmp_path):
    (tmp_path / "config.toml").write_text("threads = 1\n")
    for more in ({"CLIPSEARCH_CONFIG": str(tmp_path / "config.toml")}, {"CLIPSEARCH_THREADS": "1"}, ALONE):
        assert short_cut(home, daemon, "query", "a cat", **more)[0][0] == "declined"
    (tmp_path / "clipsearch").mkdir()
    shutil.copy(tmp_path / "config.toml", tmp_path / "clipsearch")
    assert short_cut(home, daemon, "query", "a cat", XDG_CONFIG_HOME=str(tmp_path))[0][0] == "declined"
    assert short_cut(home, daemon, "status")[0][0] == "declined"
    assert short_cut(tmp_path, daemon, "query", "a cat", CLIPSEARCH_LIBRARY="nowhere")[0][0] == "declined"
    assert (
        short_cut(tmp_path, daemon, "query", "a cat", CLIPSEARCH_LIBRARY=str(home / ".clipsearch"))[0][0] == "answered"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_whoever_answers(home, daemon):
    for more in ({}, ALONE):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [COMMAND, "query", "a cat"], cwd=home, env=environment({**daemon, **more}), stdout=full, stderr=-1
            )
        assert done.returncode == 1
        assert done.stderr.endswith(b"clipsearch: The system reports an error: No space left on device.\n")


def test_a_shell_that_wants_to_hear_of_no_children_gets_its_answer(home):
    command = ["bash", "-c", 'trap "" CHLD; exec "$0" query --no-cache "a cat"', COMMAND]
    done = subprocess.run(command, cwd=home, env=environment(ALONE), capture_output=True)
    assert done.returncode == 0 and done.stdout and b"refuses" not in done.stderr, done.stderr


@pytest.mark.slow
def test_a_daemon_that_hangs_costs_a_query_its_help_and_no_more(home):
    """It is asked once, and left alone as soon as it does not acknowledge; the answer is the same to the byte."""
    with running() as (process, where):
        alone = run_cli("query", "--json", "a cat", cwd=home, env={**where, **ALONE})
        plain = run_cli("query", "a", "cat", cwd=home, env=where)
        asked = answered(where)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            hung = run_cli("query", "--json", "a cat", cwd=home, env=where)
            assert (hung.code, hung.out, hung.err) == (alone.code, alone.out, alone.err)
            short = run_cli("query", "a", "cat", cwd=home, env=where)
            assert (short.code, short.out, short.err) == (plain.code, plain.out, plain.err)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert answered(where) >= asked


@pytest.mark.parametrize("backlog", [0, 8])
def test_a_socket_that_nobody_accepts_is_waited_for_once_and_briefly(home, backlog, monkeypatch):
    from clipsearch.cli.daemon import protocol as exchange

    waits = []
    real = socket.socket.settimeout

    class Noting(socket.socket):
        def settimeout(self, seconds):
            waits.append(seconds)
            real(self, seconds)

    with tempfile.TemporaryDirectory(prefix="cs-") as runtime:
        (Path(runtime) / "clipsearch").mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(os.fsencode(path_of({"XDG_RUNTIME_DIR": runtime})))
            listener.listen(backlog)
            with contextlib.ExitStack() as stack:
                for _ in range(0 if backlog else 2):  # which fill it
                    client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                    client.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        client.connect(os.fsencode(path_of({"XDG_RUNTIME_DIR": runtime})))
                monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
                monkeypatch.setattr(exchange, "_hung", False)
                monkeypatch.setattr(socket, "socket", Noting)
                assert exchange.ask({"do": "status"}) is None and exchange.ask({"do": "status"}) is None
    assert waits == [exchange.ACKNOWLEDGE_SECONDS] and exchange.ACKNOWLEDGE_SECONDS <= 1


# --- Where there is no runtime folder


@pytest.fixture
def bare(tmp_path):
    """The environment of cron or a container: no runtime folder, and a temporary one where anybody may write."""
    folder = Path(tempfile.mkdtemp(prefix="cs-"))
    folder.chmod(0o1777)
    yield folder, {"XDG_RUNTIME_DIR": "", "TMPDIR": str(folder)}
    shutil.rmtree(folder)


needs_linux = pytest.mark.skipif(
    sys.platform != "linux" or os.access(f"/run/user/{os.geteuid()}", os.W_OK), reason="needs no /run/user"
)


@pytest.mark.slow
@needs_linux
def test_without_a_runtime_folder_nothing_is_said_and_the_daemon_makes_a_private_one(home, bare):
    folder, where = bare
    alone = run_cli("query", "a", "cat", cwd=home, env=where)
    assert alone.code == 0 and "Warning" not in alone.err and os.listdir(folder) == []
    with start(where):
        made = folder / f"clipsearch-{os.geteuid()}"
        assert made.stat().st_mode & 0o777 == 0o700
        assert b"0 queries answered" in run_cli("daemon", "--status", env=where).out
        answer = run_cli("query", "a", "cat", cwd=home, env=where)
        assert (answer.out, answer.err) == (alone.out, alone.err)
        assert b"1 queries answered" in run_cli("daemon", "--status", env=where).out


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize("attack", ["owner", "open", "link", "file", "parent"])
def test_a_folder_that_another_may_have_made_is_not_trusted(home, bare, daemon, attack):
    """Whoever listens in it would be told what is looked for, and could answer anything."""
    folder, where = bare
    made = folder / f"clipsearch-{os.geteuid()}"
    served = path_of(daemon).parent
    if attack == "link":
        made.symlink_to(served)
    elif attack == "file":
        made.write_bytes(b"")
    else:
        made.mkdir(mode=0o700)
        (made / "daemon.sock").symlink_to(path_of(daemon))
    if attack == "open":
        made.chmod(0o777)
    if attack == "parent":
        folder.chmod(0o777)
    if attack == "owner":
        if os.geteuid() != 0:
            pytest.skip("needs root to give a folder away")
        os.chown(made, 65534, -1)
    before = answered(daemon)
    done = run_cli("query", "a", "cat", cwd=home, env=where)
    assert done.code == 0 and done.out and answered(daemon) == before
    refused = run_cli("daemon", env=where)
    assert refused.code == 1 and "chmod 700" in refused.err and "XDG_RUNTIME_DIR" in refused.err
    assert answered(daemon) == before


LISTEN = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen(8)
os.setuid(65534)
listener.listen(8)  # from now on it is that user who listens
print("ready", flush=True)
connection, _ = listener.accept()
print(connection.recv(1 << 20), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to be another user")
def test_a_socket_of_another_user_is_told_nothing(home):
    with tempfile.TemporaryDirectory(prefix="cs-") as runtime:
        where = {"XDG_RUNTIME_DIR": runtime}
        path_of(where).parent.mkdir(mode=0o700)
        command = [sys.executable, "-c", LISTEN, str(path_of(where))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as listener:
            assert listener.stdout.readline() == b"ready\n"
            done = run_cli("query", "a", "cat", cwd=home, env=where)
            assert done.code == 0 and done.out
            assert listener.stdout.readline() == b"b''\n"
