"""Fixtures of the whole suite: an isolated user, one cache of built encoders, and a real encoder."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Real files and fsyncs take as long as the disk wants; no test here is about time. Each run draws new cases, except
# for the check of a commit (.ci/run): it has to say the same of one commit.
settings.register_profile("clipsearch", deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("fixed", settings.get_profile("clipsearch"), derandomize=True)
settings.load_profile("clipsearch")

# Over the few rows of a test, threads of the matrix product take three times as long to meet as one takes to multiply.
# NumPy reads this when it is first imported, which is after this file.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Haystack reads this when it is first imported; it would write to the home folder, and send usage to its makers.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"


@pytest.fixture(scope="session", autouse=True)
def isolated_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's settings, data and libraries out; subprocesses share one cache of built encoders."""
    home = tmp_path_factory.mktemp("home")
    cache = Path(tempfile.mkdtemp(prefix="clipsearch-cache-"))
    runtime = tempfile.mkdtemp(prefix="cs-")  # short, as the path of a socket has to be
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CLIPSEARCH_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        for kind in ("CONFIG", "DATA", "CACHE", "STATE"):
            patch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
        patch.setenv("XDG_RUNTIME_DIR", runtime)
        patch.setenv("CLIPSEARCH_CACHE", str(cache))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
    for folder in (cache, runtime):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def encoder(isolated_user: None) -> Any:
    """The small builtin encoder, with both towers built."""
    from PIL import Image

    from clipsearch.encoders import registry

    loaded = registry.load("builtin-small", threads=1, offline=True)
    loaded.encode_texts(["warm"])
    loaded.encode_images([Image.new("RGB", (32, 32))])
    return loaded


@pytest.fixture(scope="session")
def milvus_server(isolated_user: None) -> Iterator[Any]:
    """A real Milvus server of one process; the package that ships it is installed by `make test-cluster`."""
    pytest.importorskip("milvus", reason="The Milvus server is not installed: pip install milvus==2.3.5")
    pytest.importorskip("pymilvus", reason="The Milvus client is not installed")
    from tests.support.milvus_server import MilvusServer

    running = MilvusServer(Path(tempfile.mkdtemp(prefix="clipsearch-milvus-")))
    try:
        running.start()
        yield running
    finally:
        running.remove()


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """A real HTTP server of the tests' own."""
    from tests.support.web import serving

    with serving() as web:
        yield web


@pytest.fixture
def web(server: Any) -> Any:
    """The server, asked for nothing yet."""
    server.requests.clear()
    return server


@pytest.fixture(autouse=True)
def quiet_logger() -> Iterator[None]:
    """Undo what a test of the command line does to the logger."""
    logger = logging.getLogger("clipsearch")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory, encoder: Any) -> Path:
    """A folder with a library of all that there is, at `lib`, to read."""
    from tests.support.mixed_library import make_mixed

    return make_mixed(tmp_path_factory.mktemp("mixed"), encoder)
