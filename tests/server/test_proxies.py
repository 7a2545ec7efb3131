"""The server behind the proxies of docs/reverse-proxy.md: real nginx and Caddy, as it is written there, over TLS."""

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

import clipsearch
from clipsearch import Client
from tests.support.api import Gate, served
from tests.support.libraries import photos
from tests.support.paths import ROOT
from tests.support.serving import BEARER, TOKEN

NAME = "127.0.0.2"
"""Another name of this machine, which the server does not take for one by itself."""

NGINX = """
{user}
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


def written(language):
    """The example in a language."""
    return re.search(rf"^```{language}\n(.*?)^```", (ROOT / "docs/reverse-proxy.md").read_text(), re.M | re.S)[1]


def free_port():
    with socket.create_server((NAME, 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=photos", "-addext", f"subjectAltName=IP:{NAME}", "-keyout", "photos.key", "-out", "photos.pem",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def nginx(folder, certificate, port, target):
    site = written("nginx").replace("listen 443", f"listen {NAME}:{port}").replace("photos.example.org", NAME)
    site = site.replace("/etc/ssl/", f"{certificate}/").replace("http://127.0.0.1:8756", target)
    user = "" if os.geteuid() else "user root;"  # else a worker of nginx could not write to the folders of the test
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, site=site, user=user))
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def caddy(folder, certificate, port, target):
    site = written("caddy").replace("photos.example.org {", f"https://{NAME}:{port} {{\n    bind {NAME}")
    tls = f"    tls {certificate}/photos.pem {certificate}/photos.key\n    request_body"
    site = site.replace("    request_body", tls).replace("127.0.0.1:8756", target.removeprefix("http://"))
    (folder / "Caddyfile").write_text("{\n    admin off\n    auto_https disable_redirects\n}\n" + site)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@contextmanager
def proxied(program, folder, certificate, target):
    """A proxy before a server; its address."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = {"nginx": nginx, "caddy": caddy}[program](folder, certificate, port, target)
    with open(folder / "log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process:
        try:
            while True:
                try:
                    socket.create_connection((NAME, port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    time.sleep(0.05)
            yield f"https://{NAME}:{port}"
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["nginx", "caddy"])
def test_all_of_it_works_through_a_proxy(program, tmp_path, encoder, certificate):
    if shutil.which(program) is None or shutil.which("openssl") is None:
        pytest.skip(f"needs {program} and openssl; install them: apt-get install {program} openssl")
    photos(tmp_path / "photos", 6)
    gate = Gate(encoder)
    options = {"allowed_hosts": (NAME,), "index_folders": (str(tmp_path / "photos"),), "body_seconds": 20.0}
    with served(tmp_path / "library", gate, **options) as (app, target):
        with proxied(program, tmp_path / "proxy", certificate, target) as url:
            trusted = str(certificate / "photos.pem")
            with Client(url, TOKEN) as stranger, pytest.raises(clipsearch.ServerError, match="trusted"):
                stranger.stats()
            with Client(url, TOKEN, ca_file=trusted) as client:
                gate.close(after=1)
                job = threading.Thread(target=client.index, args=[str(tmp_path / "photos")])
                job.start()
                follow(url, trusted, gate)
                job.join()
                ask(client, app.state.service.engine, tmp_path)
            refuse(url, trusted, app)


def follow(url, trusted, gate):
    """Events come while the job is still at work, one by one."""
    import ssl

    context = ssl.create_default_context(cafile=trusted)
    with httpx.Client(base_url=url, headers=BEARER, verify=context, timeout=30) as http:
        assert gate.reached.wait(30)
        (found,) = http.get("/v1/jobs").json()["jobs"]
        with http.stream("GET", f"/v1/jobs/{found['id']}/events") as response:
            lines = response.iter_lines()
            assert next(line for line in lines if line.startswith("event")) == "event: progress"
            gate.open()
            assert "event: end" in lines


def ask(client, engine, folder):
    """Searches, lists, an upload, a page of results and a thumbnail are those of the engine."""
    picture = folder / "photos" / "p002.jpg"
    assert client.search("a red bicycle", k=4) == engine.search("a red bicycle", k=4)
    assert client.search(image=picture, k=2) == engine.search(image=picture, k=2)
    assert client.page(limit=2) == engine.page(limit=2) and list(client.items()) == list(engine.items())
    assert client.thumbnail(str(picture)) == engine.thumbnail(str(picture))
    large = picture.read_bytes() + bytes(20 << 20)
    assert client.search(image=large, k=1)[0].path == str(picture)
    with pytest.raises(clipsearch.ClipSearchError):  # Caddy says 502 of it before its release 2.7
        client.search(image=picture.read_bytes() + bytes(40 << 20))
    assert client.add([{"id": "a", "text": "a mug"}]).added == 1 and client.delete("a") == 1


def refuse(url, trusted, app):
    """Other names are refused, and wrong tokens count for the client, not for the proxy."""
    import ssl

    context = ssl.create_default_context(cafile=trusted)
    with httpx.Client(base_url=url, verify=context) as http:
        assert "library" not in http.get("/v1/stats", headers={**BEARER, "Host": "evil.example"}).text
        assert http.get("/v1/stats", headers={**BEARER, "Origin": "https://evil.example"}).status_code == 403
        assert http.get("/v1/stats", headers={**BEARER, "Origin": url}).status_code == 200
        said = {"X-Forwarded-For": "203.0.113.9"}
        wrong = [{"Authorization": f"Bearer wrong{number}", **said} for number in range(15)]
        codes = {http.get("/v1/stats", headers=each).status_code for each in wrong}
        assert codes == {401, 429}  # what the client says of itself is not believed
        assert http.get("/v1/stats", headers={**BEARER, "X-Forwarded-For": "198.51.100.7"}).status_code == 429


@pytest.mark.slow
@pytest.mark.parametrize("program", ["nginx", "caddy"])
def test_a_proxy_without_a_server_is_one_clear_error(program, tmp_path, certificate):
    if shutil.which(program) is None or shutil.which("openssl") is None:
        pytest.skip(f"needs {program} and openssl; install them: apt-get install {program} openssl")
    with proxied(program, tmp_path / "proxy", certificate, "http://127.0.0.1:9") as url:
        with Client(url, TOKEN, ca_file=str(certificate / "photos.pem")) as client:
            with pytest.raises(clipsearch.ServerError, match="502"):
                client.stats()
