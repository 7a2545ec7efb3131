"""A real Milvus server of one process: the standalone one that the PyPI package `milvus` ships."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_SECONDS, ANSWER_SECONDS = 240, 60
GRACE_SECONDS = 5
"""Of a server that lost its session and stops itself; the default is half an hour, in which it answers nothing."""

PORTS = range(12_000, 32_000)
"""Below those that systems give to connections: one of these could have taken the port when the server is back."""


class MilvusServer:
    """A server in a folder of its own, on free ports of this machine. It may be killed and started again.

    The session of a server is a lease of 30 seconds. One that is held up for longer, such as by a machine that is
    suspended, ends itself seconds after it goes on. A longer lease would not do: a server that was killed refuses to
    write until the lease of its former self has run out.
    """

    def __init__(self, folder: Path, certificate: tuple[Path, Path] | None = None) -> None:
        """Prepare a server. certificate: PEM files of it and its key; with them it takes TLS and known users alone."""
        import milvus

        self._folder = folder
        self._config = milvus.MilvusServerConfig()
        ports = [name for name in self._config.configurable_items if name.endswith("_port")]
        self._config.configs.update(data_dir=str(folder), **{name: free_port() for name in ports})
        self._scheme = "https" if certificate else "http"
        self._config.set("common.gracefulStopTimeout", GRACE_SECONDS)
        if certificate:
            names = ("server_pem_path", "server_key_path")
            for name, path in zip(names, certificate, strict=True):
                self._config.set(name, str(path))
            self._config.set("authorization_enabled", True)
            self._config.set("tls_mode", 1)
        self._config.resolve()
        self._peer_port = free_port()
        self._prepare()
        self._process: subprocess.Popen[bytes] | None = None
        self._health = free_port()

    @property
    def uri(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._config.get('proxy_port')}"

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def memory(self) -> int:
        """The bytes of memory that the server holds now."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def start(self) -> None:
        """Start the server and wait until it says that it is healthy."""
        binaries = self._folder / "bin"
        environment = os.environ | {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._health),
            "MILVUS_RUN_DIR": str(self._folder / "run"),
            "LD_LIBRARY_PATH": str(binaries),
            "ETCD_CONFIG_PATH": str(self._folder / "etcd.yaml"),
            # Threads of OpenMP that spin take minutes for what takes seconds, where others use the cores.
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        with open(self._folder / "logs" / "output.log", "ab") as log:
            self._process = subprocess.Popen(
                [binaries / "milvus", "run", "standalone"], cwd=self._folder, env=environment, stdout=log, stderr=log
            )
        end = time.monotonic() + START_SECONDS
        while not self._is_healthy():
            assert self._process.poll() is None, f"The server ended: see {self._folder}/logs"
            assert time.monotonic() < end, f"The server did not start in {START_SECONDS} seconds"
            time.sleep(0.2)

    def revive(self) -> None:
        """Start the server again, with its data, if it was killed, has ended itself, or no longer answers."""
        end = time.monotonic() + ANSWER_SECONDS
        while self.is_running and time.monotonic() < end:
            if self._is_healthy():
                return
            time.sleep(0.2)
        if self._process is not None:
            self.kill()
        self.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Hold the server up: it takes connections, as the system does for it, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def lose_data(self) -> None:
        """Forget everything, as a server whose disk was replaced; it has to be killed before, and started after."""
        assert self._process is None
        shutil.rmtree(self._folder)
        self._folder.mkdir()
        self._prepare()

    def remove(self) -> None:
        """Kill the server and delete its folder."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare(self) -> None:
        import milvus

        self._config.resolve_storage()
        self._config.write_config()
        self._write_etcd_config(self._config.get("etcd_port"), self._peer_port)
        milvus._initialize_data_files(str(self._folder))

    def _write_etcd_config(self, port: int, peer_port: int) -> None:
        """Give the etcd inside the server ports of its own: by default every one takes 2379 and 2380."""
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        lines = [
            "name: default",
            f"listen-client-urls: {client}",
            f"advertise-client-urls: {client}",
            f"listen-peer-urls: {peer}",
            f"initial-advertise-peer-urls: {peer}",
            f"initial-cluster: default={peer}",
        ]
        (self._folder / "etcd.yaml").write_text("\n".join(lines) + "\n")

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/healthz", timeout=5) as answer:
                return b"OK" in answer.read()
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    """Return a port that nobody listens on now."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError(f"100 ports of {PORTS} are taken")
