"""What is in deploy/ fits the code: commands, options, addresses, folders; and systemd takes the units."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from clipsearch.cli.main import cli
from tests.support.libraries import photos
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")])
CONTAINER = (DEPLOY / "Containerfile").read_text()


def parse(words):
    """Parse a command as the command line would; nothing is run."""
    name, *args = words
    command = cli.get_command(None, name)
    command.make_context(name, list(args))


@pytest.mark.parametrize("unit", [each for each in UNITS if each.suffix == ".service"], ids=lambda path: path.name)
def test_units_run_commands_that_there_are(unit):
    text = unit.read_text()
    (line,) = re.findall(r"^ExecStart=/opt/clipsearch/bin/clipsearch (.*)$", text, re.M)
    parse(shlex.split(line))
    for kept in ("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=\n"):
        assert kept in text, kept


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_units(tmp_path):
    for unit in UNITS:  # whose program is not installed here
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/clipsearch/bin/clipsearch", "/bin/true"))
    names = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_container_copies_what_there_is_and_runs_as_nobody():
    for line in re.findall(r"^COPY (.*)$", CONTAINER, re.M):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}\n" in (DEPLOY / "Containerfile.dockerignore").read_text()
    assert CONTAINER.index("USER 10001") < CONTAINER.index("ENTRYPOINT")
    assert re.search(r'^ENTRYPOINT \["clipsearch"\]$', CONTAINER, re.M)
    command = re.search(r"^CMD \[(.*)\]$", CONTAINER, re.M)[1]
    parse(re.findall(r'"(.*?)"', command))


@pytest.mark.slow
def test_the_builtin_encoder_does_without_what_the_container_leaves_out(tmp_path):
    lines = (DEPLOY / "without-torch.txt").read_text().splitlines()
    left_out = [line.split(";")[0].replace("-", "_") for line in lines if not line.startswith("#")]
    assert {"faiss_gpu", "open_clip_torch", "torch", "transformers"} < set(left_out)
    names = {each.removesuffix("_torch") for each in left_out if each != "faiss_gpu"}  # faiss_cpu is in its place
    code = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(names)!r}))  # each import of these fails
import clipsearch
with clipsearch.open({str(tmp_path / "library")!r}, create=True, model="builtin-base") as engine:
    assert engine.index({str(tmp_path / "photos")!r}).added == 3
    assert len(engine.search("a cat", k=3)) == 3
    from clipsearch.server import create_app
    create_app(engine)
"""
    photos(tmp_path / "photos", 3)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_health_check_of_the_container_tells_whether_it_answers(tmp_path):
    """As it stands, but for the port."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/v1/health" else 404)
            self.end_headers()

        def log_message(self, *unused):
            pass

    said = re.search(r'^    CMD \["python", "-c", "(.*)"\]$', CONTAINER, re.M)[1]

    def check(port):
        code = said.replace("8756", str(port))
        return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30).returncode

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        port = server.server_address[1]
        assert check(port) == 0
        server.shutdown()
    assert check(port) != 0
