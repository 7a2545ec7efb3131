"""A catalog in PostgreSQL over TCP: passwords, TLS, several processes, a server or a connection that goes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clipsearch.errors import LibraryError, LibraryLockedError
from clipsearch.filtering import Filter
from clipsearch.store.library import Library
from clipsearch.store.postgres import address, connections
from tests.support import postgres
from tests.support.contents import PIN, add_root, new_library
from tests.support.paths import ROOT
from tests.support.postgres_writer import check_all, committed, paths_in, picture, start_writer, where

pytestmark = pytest.mark.postgres

PASSWORD = "s3cret-Pass"


@pytest.fixture(scope="module")
def network() -> Iterator[postgres.Server]:
    """A server that listens at 127.0.0.1 and asks for a password there."""
    binaries = postgres.find_binaries()
    if binaries is None:
        pytest.skip("there is no PostgreSQL server here")
    server = postgres.Server(binaries, PASSWORD)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A user who has named no server, and who has no file of libpq's; the folder of what clipsearch remembers."""
    monkeypatch.delenv("CLIPSEARCH_CATALOG", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    return tmp_path / "state"


@pytest.fixture
def library(network, state, tmp_path, monkeypatch):
    """A library whose catalog is reached over TCP."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("CLIPSEARCH_CATALOG", network.network_url())
    made = new_library(tmp_path / "lib")
    add_root(made)
    yield made
    made.close()


# --- Passwords and TLS


@pytest.mark.parametrize("source", ["PGPASSWORD", "PGPASSFILE", "~/.pgpass", "PGSERVICEFILE", "URL"])
def test_a_password_is_taken_from_where_libpq_takes_it_and_is_written_nowhere(
    network, state, tmp_path, monkeypatch, source
):
    url = network.network_url()
    files = {
        "PGPASSFILE": tmp_path / "passwords",
        "~/.pgpass": tmp_path / ".pgpass",
        "PGSERVICEFILE": tmp_path / "services",
    }
    if source == "PGPASSWORD":
        monkeypatch.setenv(source, PASSWORD)
    elif source == "PGSERVICEFILE":
        files[source].write_text(f"[here]\npassword={PASSWORD}\n")
        monkeypatch.setenv("PGSERVICE", "here")
        monkeypatch.setenv(source, str(files[source]))
    elif source == "URL":
        url = url.replace("@", f":{PASSWORD}@", 1)
    else:
        files[source].write_text(f"127.0.0.1:{network.port}:*:{network.user}:{PASSWORD}\n")
        files[source].chmod(0o600)
        if source == "PGPASSFILE":
            monkeypatch.setenv(source, str(files[source]))
    with closing(Library.create(tmp_path / "lib", catalog_url=url)) as made:
        add_root(made)
        assert PASSWORD not in where(made).place
    if source != "URL":
        Library(tmp_path / "lib").close()
    else:
        with pytest.raises(LibraryError, match=r"refuses this user.*\.pgpass or PGPASSWORD"):
            Library(tmp_path / "lib")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path not in files.values()]
    assert any(path.parent.name == "catalogs" for path in written)
    assert not [path for path in written if PASSWORD.encode() in path.read_bytes()]


@pytest.mark.parametrize("given", ["", "another-Pass"])
def test_a_wrong_password_is_an_error_that_does_not_show_it(network, state, tmp_path, monkeypatch, given):
    url = network.network_url()
    if given:
        url = url.replace("@", f":{given}@", 1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = "from clipsearch.cli.main import main; main()"
    command = [
        sys.executable,
        "-c",
        start,
        "index",
        str(tmp_path),
        "--library",
        str(tmp_path / "lib"),
        "--catalog",
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1 and "refuses this user" in done.stderr and "PGPASSWORD" in done.stderr
    assert "Traceback" not in done.stderr and "another-Pass" not in done.stdout + done.stderr
    assert not (tmp_path / "lib" / "catalog.json").exists()


def test_tls_is_as_the_address_says(network, state, tmp_path, monkeypatch):
    if network.certificate is None:
        pytest.skip("there is no openssl here")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    own = tmp_path / "server.crt"
    own.write_bytes(network.certificate.read_bytes())
    strange = tmp_path / "strange.crt"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", "x.key"]
    subprocess.run([*request, "-out", str(strange)], cwd=tmp_path, check=True, capture_output=True)
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    options = {"disable": False, "require": True, f"verify-full&sslrootcert={own}": True}
    for number, (mode, is_encrypted) in enumerate(options.items()):
        url = network.network_url(f"?sslmode={mode}")
        with closing(Library.create(tmp_path / f"lib{number}", catalog_url=url)) as made, made.query() as connection:
            assert connection.exec_driver_sql(query).scalar_one() is is_encrypted
    with pytest.raises(LibraryError, match=r"cannot be reached.*certificate"):
        Library.create(
            tmp_path / "refused", catalog_url=network.network_url(f"?sslmode=verify-full&sslrootcert={strange}")
        )


# --- Several processes

READER = """
import sys, time
from pathlib import Path
from clipsearch.filtering import Filter
from clipsearch.store.library import Library
library, before = Library(Path(sys.argv[1])), 0
print("reads", flush=True)
while before < int(sys.argv[2]):
    with library.read() as snapshot:
        count = snapshot.count_items(Filter())
        assert count % 3 == 0 and count >= before, (before, count)
        assert len(snapshot.list_items(Filter(), None)[0]) == count
    before = count
"""


def test_several_processes_read_whole_commits_while_one_writes(library):
    command = [sys.executable, "-c", READER, str(library.folder), "30"]
    readers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for each in readers:
        assert each.stdout is not None and each.stdout.readline() == b"reads\n"
    with start_writer(library, 0) as writer:
        while committed(writer) < 12:
            pass
        with pytest.raises(LibraryLockedError), library.writer():
            pass
        with pytest.raises(LibraryLockedError, match="on another machine"):
            connections.writer_engine(address.resolve(address.read_marker(library.folder), None)).connect()
        for each in readers:
            assert each.communicate(timeout=60)[1] == b"" and each.returncode == 0
        writer.send_signal(signal.SIGKILL)
    check_all(library, 12)


# --- What goes


def test_a_server_that_is_killed_in_mid_query_is_an_error_and_the_next_search_works(network, library):
    with library.writer() as opened:
        opened.commit([picture(f"{number}") for number in range(30)])
    waiting = threading.Timer(0.5, network.kill)
    waiting.start()
    with (
        pytest.raises(LibraryError, match=r"The server of the catalog.*run again|Run again"),
        library.query() as reading,
    ):
        reading.exec_driver_sql("SELECT pg_sleep(60)")
    waiting.join()
    with pytest.raises(LibraryError, match=r"cannot be reached.*Start it, then run again"):
        paths_in(library)
    network.start()
    assert len(paths_in(library)) == 30


def test_a_server_that_was_restarted_between_two_searches_is_not_noticed(network, library):
    with library.writer() as opened:
        opened.commit([picture("a")])
    with library.read() as one, library.read() as two:  # two connections, which the pool keeps
        assert one.count_items(Filter()) == two.count_items(Filter()) == 1
    network.kill()
    network.start()
    assert paths_in(library) == ["/photos/a"]
    with library.read() as one, library.read() as two:
        assert one.count_items(Filter()) == two.count_items(Filter()) == 1


def test_a_server_that_is_killed_in_mid_commit_loses_no_commit_that_returned(network, library):
    first = 0
    for rounds in range(3):
        with start_writer(library, first) as writer:
            last = [committed(writer) for _ in range(4 + rounds)][-1]
            network.kill()
            out, err = writer.communicate(timeout=60)
            last = max([last, *map(int, out.split())])
        network.start()
        assert writer.returncode and "clipsearch.errors.LibraryError" in err
        first = check_all(library, last)


class Proxy:
    """A wire to a server of this machine that can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        one.close()

    def cut(self) -> None:
        """End all connections."""
        while self._ends:
            with contextlib.suppress(OSError):
                self._ends.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listener.close()


def test_a_writer_whose_connection_is_cut_stops_and_there_are_never_two(network, state, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    proxy = Proxy(network.port)
    url = network.network_url(port=proxy.port)
    with closing(proxy), closing(Library.create(tmp_path / "lib", catalog_url=url)) as library:
        monkeypatch.setenv("CLIPSEARCH_CATALOG", url)
        library.pin(PIN)
        add_root(library)
        marker = json.loads((tmp_path / "lib" / "catalog.json").read_text())
        direct = address.parse(f"{url.replace(str(proxy.port), str(network.port))}?schema={marker['schema']}")
        with library.writer() as first:
            first.commit([picture("a")])
            with pytest.raises(LibraryLockedError):
                connections.writer_engine(direct).connect()
            proxy.cut()
            second = connections.writer_engine(direct, timeout=30)
            with second.connect() as connection:  # the server has freed the lock of the first
                assert connection.exec_driver_sql("SELECT count(*) FROM items").scalar_one() == 1
                for path in "bc":
                    with pytest.raises(LibraryError, match=r"ended the connection|cannot be reached|was lost"):
                        first.commit([picture(path)])
                assert connection.exec_driver_sql("SELECT count(*) FROM items").scalar_one() == 1
            second.dispose()
        with library.writer() as third:
            third.commit([picture("d")])
        assert paths_in(library) == ["/photos/a", "/photos/d"]


def test_a_library_of_a_server_that_is_not_there_is_an_error_soon(network, state, tmp_path, library):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = json.loads((library.folder / "catalog.json").read_text())
    (tmp_path / "away").mkdir()
    url = said["url"].replace(str(network.port), str(port))
    (tmp_path / "away" / "catalog.json").write_text(json.dumps({**said, "url": url}))
    with pytest.raises(LibraryError, match=r"cannot be reached.*Start it, then run again"):
        Library(Path(tmp_path / "away"), url)
