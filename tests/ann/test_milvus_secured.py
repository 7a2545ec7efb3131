"""A real Milvus server with users and TLS: who has the token and knows the certificate is served, and nobody else."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from indexer.importing import import_embeddings
from tests.support.cli import run_cli

pytestmark = pytest.mark.cluster

ROOT_USER = "root:Milvus"
"""The user that a new server has."""


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl; install it: apt-get install openssl")
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=vectors", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "own.key", "-out", "own.pem",
    ]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "own.pem", tmp_path / "own.key"


@pytest.fixture
def uri(certificate):
    pytest.importorskip("milvus", reason="The Milvus server is not installed: pip install milvus==2.3.5")
    pytest.importorskip("pymilvus", reason="The Milvus client is not installed")
    from tests.support.milvus_server import MilvusServer

    running = MilvusServer(Path(tempfile.mkdtemp(prefix="clipsearch-milvus-")), certificate)
    try:
        running.start()
        yield running.uri
    finally:
        running.remove()


def test_users_and_certificates_are_checked(tmp_path, certificate, uri):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rows.npy", rng.standard_normal((300, 16)).astype(np.float32))
    np.save(tmp_path / "queries.npy", rng.standard_normal((60, 16)).astype(np.float32))
    library = tmp_path / "lib"
    import_embeddings(library, str(tmp_path / "rows.npy"), encoder="an encoder that is not here")
    build = ("build", "--index", "milvus", "--uri", uri, "--queries", tmp_path / "queries.npy", "--library", library)
    known = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate[0])}
    (tmp_path / "token").write_text(f"{ROOT_USER}\n")
    token = {"CLIPSEARCH_MILVUS_TOKEN_FILE": str(tmp_path / "token")}

    for env in ({}, token, known, known | {"CLIPSEARCH_MILVUS_TOKEN": "root:another"}):
        done = run_cli(*build, env=env, timeout=300)
        assert done.code and f"The Milvus server at {uri} could not be" in done.err, done.err
        assert "another" not in done.err and ROOT_USER not in done.err

    done = run_cli(*build, env=known | token, timeout=300)
    assert done.code == 0 and "image: milvus, 300 vectors" in done.err, done.err
    for env, severity in ((known | token, "ok"), (known, "warning"), (token, "warning")):
        findings = run_cli("doctor", "--json", "--library", library, env=env, timeout=300).json["findings"]
        index = next(each for each in findings if each["check"] == "index")
        assert index["severity"] == severity and uri in index["found"], index
    assert not any(ROOT_USER.encode() in path.read_bytes() for path in library.rglob("*") if path.is_file())
