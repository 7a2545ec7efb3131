"""A real Milvus server of one process: the standalone one that the PyPI package `milvus` ships."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

START_SECONDS = 240


class MilvusServer:
    """A server in a folder of its own, on free ports of this machine. It may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        import milvus

        self._folder = folder
        self._config = milvus.MilvusServerConfig()
        self._config.configs.update(data_dir=str(folder), proxy_port=free_port())
        self._config.resolve()
        milvus._initialize_data_files(str(folder))
        self._process: subprocess.Popen[bytes] | None = None
        self._health = free_port()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._config.get('proxy_port')}"

    def start(self) -> None:
        """Start the server and wait until it says that it is healthy."""
        binaries = self._folder / "bin"
        environment = os.environ | {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._health),
            "MILVUS_RUN_DIR": str(self._folder / "run"),
            "LD_LIBRARY_PATH": str(binaries),
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

    def kill(self) -> None:
        """Kill the server as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def remove(self) -> None:
        """Kill the server and delete its folder."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/healthz", timeout=5) as answer:
                return b"OK" in answer.read()
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
