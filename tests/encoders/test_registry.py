"""Names, presets, and what happens where no hub can be reached."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from clipsearch.encoders import hub, listing, names, openclip, registry
from clipsearch.errors import EncoderMismatchError, EncoderUnavailableError
from tests.support import tiny_openclip

DEFAULT = "openclip:ViT-B-32-SigLIP2-256/webli"


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path


@pytest.fixture
def no_hub(monkeypatch):
    """Name a hub that no machine can reach: the port of a socket that was closed."""
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )


@pytest.fixture
def silent_hub(monkeypatch):
    """Name a hub that takes connections and never says a word."""
    from huggingface_hub import constants

    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    yield
    server.close()


class OneRepository(BaseHTTPRequestHandler):
    """Answer as a hub that holds the default model only."""

    def do_HEAD(self):
        self.send_response(200 if self.path.startswith("/timm/ViT-B-32-SigLIP2-256/") else 404)
        for header, value in (("ETag", '"1"'), ("X-Repo-Commit", "0" * 40), ("Content-Length", "2")):
            self.send_header(header, value)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def small_hub(monkeypatch):
    from huggingface_hub import constants

    with ThreadingHTTPServer(("127.0.0.1", 0), OneRepository) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield
        server.shutdown()


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("builtin", "builtin-base"),
        ("builtin-small", "builtin-small"),
        ("Builtin-Base", "builtin-base"),
        ("default", DEFAULT),
        ("fast", "openclip:ViT-B-32/laion2b_s34b_b79k"),
        ("multilingual", "openclip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"),
        ("best", "openclip:ViT-SO400M-16-SigLIP2-384/webli"),
        ("ViT-B-32/laion2b_s34b_b79k", "openclip:ViT-B-32/laion2b_s34b_b79k"),
        (" ViT-B/32/laion2b-s34b-b79k ", "openclip:ViT-B-32/laion2b_s34b_b79k"),
        ("openclip:ViT-B-32/openai", "openclip:ViT-B-32/openai"),
        ("hf-hub:org/name", "openclip:hf-hub:org/name"),
        ("openclip:hf-hub:org/name", "openclip:hf-hub:org/name"),
        ("local-dir:/models/x", "openclip:local-dir:/models/x"),
        ("local-dir:/models/./y/../x", "openclip:local-dir:/models/x"),
    ],
)
def test_resolve(written, canonical):
    assert names.resolve(written, offline=True) == names.Resolution(canonical, None)
    assert names.resolve(canonical, offline=True).name == canonical


def test_resolve_makes_a_folder_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert names.resolve("local-dir:model", offline=True).name == f"openclip:local-dir:{tmp_path}/model"


@pytest.mark.parametrize("name", ["", "  ", "bultin", "ViT-B-32", "hf-hub:org", "hf-hub:", "local-dir:", "a:b/c", "/x"])
def test_resolve_refuses_what_it_cannot_read(name):
    with pytest.raises(EncoderUnavailableError, match="ARCH/PRETRAINED, hf-hub:ORG/NAME or local-dir:PATH"):
        names.resolve(name, offline=True)


def test_resolve_names_a_close_match():
    with pytest.raises(EncoderUnavailableError, match=r"Did you mean builtin\?"):
        names.resolve("bultin", offline=True)


def test_presets_are_in_open_clip_and_may_be_used_commercially():
    repositories = openclip.known_repositories()
    with openclip.quiet():
        import open_clip
    for preset in names.PRESETS.values():
        name = preset.name.removeprefix("openclip:")
        assert repositories[name] == preset.repository
        config = open_clip.get_model_config(name.split("/")[0])
        assert config["embed_dim"] == preset.dim
        assert ("hf_tokenizer_name" in config["text_cfg"]) == bool(preset.needed)
        wanted = {config["text_cfg"].get(key) for key in ("hf_tokenizer_name", "hf_model_name")} - {None}
        assert {repository for repository, _ in preset.needed} == wanted
        assert preset.licence in {"Apache-2.0", "MIT"}
        assert not any(word in name.lower() for word in ("mobileclip", "dfn", "worldwide", "metaclip"))


def test_auto_falls_back_when_no_hub_is_reached(no_hub):
    started = time.monotonic()
    found = names.resolve("auto", offline=False)
    assert time.monotonic() - started < 5
    assert found.name == "builtin-base"
    assert "cannot be reached" in found.notice
    assert "clipsearch index --model default" in found.notice
    assert "lower quality" in found.notice


@pytest.mark.slow
def test_auto_gives_up_on_a_hub_that_says_nothing(silent_hub):
    started = time.monotonic()
    assert "cannot be reached" in names.resolve("auto", offline=False).notice
    assert 1 < time.monotonic() - started < 5


@pytest.mark.slow
def test_auto_gives_up_on_names_that_are_never_resolved(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: release.wait(60) or [])
    started = time.monotonic()
    assert "cannot be reached" in names.resolve("auto", offline=False).notice
    assert 1 < time.monotonic() - started < 5
    release.set()


@pytest.mark.parametrize("by_environment", [False, True])
def test_auto_makes_no_connection_offline(by_environment, monkeypatch):
    def refuse(*arguments, **options):
        pytest.fail("a connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    if by_environment:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = names.resolve("auto", offline=not by_environment)
    assert found.name == "builtin-base"
    assert "offline mode" in found.notice


def test_auto_takes_the_default_where_its_weights_are_cached(empty_caches):
    snapshot = empty_caches / "hub" / "models--timm--ViT-B-32-SigLIP2-256" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    references = snapshot.parent.parent / "refs"
    references.mkdir()
    (references / "main").write_text("0" * 40)
    assert names.resolve("auto", offline=True).name == "builtin-base"
    (snapshot / "tokenizer.json").touch()
    assert names.resolve("auto", offline=True) == names.Resolution(DEFAULT, None)


def test_auto_takes_the_default_where_the_hub_offers_it(small_hub):
    assert names.resolve("auto", offline=False) == names.Resolution(DEFAULT, None)
    assert hub.answers("no/such-repository")
    assert not hub.offers("no/such-repository")


def test_no_heavy_import_to_find_that_no_hub_is_there(tmp_path):
    code = """
import sys, time
from clipsearch.encoders import listing, names, registry
from clipsearch.errors import EncoderUnavailableError
started = time.monotonic()
print(names.resolve("auto", offline=False).name)
for name in ("openclip:ViT-B-32-SigLIP2-256/webli", "openclip:hf-hub:org/name"):
    try:
        registry.load(name, threads=1, offline=False)
    except EncoderUnavailableError as error:
        print("cannot be reached" in str(error), "--model builtin" in str(error), "local-dir:PATH" in str(error))
print(time.monotonic() - started < 12, sorted({"torch", "open_clip", "transformers", "onnx"} & set(sys.modules)))
"""
    caches = {
        "CLIPSEARCH_CACHE": str(tmp_path / "c"),
        "HF_HOME": str(tmp_path / "h"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **caches},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "builtin-base\nTrue True True\nTrue True True\nTrue []\n"
    assert done.stderr == ""


def test_load_says_that_the_hub_cannot_be_reached(no_hub):
    started = time.monotonic()
    with pytest.raises(EncoderUnavailableError, match=r"cannot be reached.*--model builtin"):
        registry.load("openclip:RN50/openai", threads=1, offline=False)
    assert time.monotonic() - started < 20


def test_load_says_that_it_is_offline():
    with pytest.raises(EncoderUnavailableError, match=r"offline mode forbids.*--model builtin"):
        registry.load("openclip:RN50/openai", threads=1, offline=True)
    with pytest.raises(EncoderUnavailableError, match=r"library was made with.*offline mode forbids"):
        registry.load(DEFAULT, threads=1, offline=True, fingerprint="0" * 64)


@pytest.mark.parametrize("name", ["ViT-B-32/laion2b_s34b_b79", "ViT-B-23/openai"])
def test_load_names_close_matches(name):
    with pytest.raises(EncoderUnavailableError, match=r"has no model .* Did you mean ViT-B-32/"):
        registry.load(f"openclip:{name}", threads=1, offline=True)


def test_load_takes_canonical_names_only():
    for name in ("auto", "default", "ViT-B-32/openai", "builtin"):
        with pytest.raises(EncoderUnavailableError, match="There is no encoder named"):
            registry.load(name, threads=1, offline=True)


def test_load_says_what_a_folder_lacks(tmp_path):
    name = f"openclip:local-dir:{tmp_path / 'model'}"
    with pytest.raises(EncoderUnavailableError, match="does not exist"):
        registry.load(name, threads=1, offline=True)
    source = tiny_openclip.siglip_like(tmp_path / "model")
    weights = source / "open_clip_model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(EncoderUnavailableError, match="has no weights"):
        registry.load(name, threads=1, offline=True)
    for damaged in (content[:1000], b"\xff" * 100, b""):
        weights.write_bytes(damaged)
        with pytest.raises(EncoderUnavailableError, match="may be damaged"):
            registry.load(name, threads=1, offline=True)
    weights.write_bytes(content)
    (source / "tokenizer.json").write_text("{")
    with pytest.raises(EncoderUnavailableError, match="may be damaged"):
        registry.load(name, threads=1, offline=True)
    (source / "open_clip_config.json").unlink()
    with pytest.raises(EncoderUnavailableError, match=r"no open_clip_config\.json"):
        registry.load(name, threads=1, offline=True)
    assert not list((tmp_path / "cache").rglob("*.onnx"))


@pytest.mark.slow
def test_changed_weights_are_another_model_and_the_first_stays(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="clipsearch")
    source = tiny_openclip.siglip_like(tmp_path / "model", seed=1)
    name = f"openclip:local-dir:{source}"
    first = registry.load(name, threads=1, offline=True)
    assert "this happens once" in caplog.text
    row = first.encode_texts(["a cat"])
    tiny_openclip.siglip_like(source, seed=2)
    with pytest.raises(EncoderMismatchError, match="Restore the weights"):
        registry.load(name, threads=1, offline=True, fingerprint="0" * 64)
    second = registry.load(name, threads=1, offline=True)
    assert second.fingerprint != first.fingerprint
    assert np.abs(second.encode_texts(["a cat"]) - row).max() > 0.01
    pinned = registry.load(name, threads=1, offline=True, fingerprint=first.fingerprint)
    assert np.allclose(pinned.encode_texts(["a cat"]), row, atol=1e-6)
    listed = [info for info in listing.catalogue() if info.name == name]
    assert [(info.dim, info.ready, info.aliases) for info in listed] == [(32, True, ())]


def test_load_builtin():
    encoder = registry.load("builtin-small", threads=1, offline=True)
    assert encoder.name == "builtin-small"
    with pytest.raises(EncoderMismatchError):
        registry.load("builtin-small", threads=1, offline=True, fingerprint="0" * 64)


def test_catalogue_lists_builtins_and_presets():
    infos = {info.name: info for info in listing.catalogue()}
    assert infos["builtin-base"].aliases == ("builtin",)
    assert infos["builtin-small"].ready
    assert infos[DEFAULT].aliases == ("default",)
    assert not infos[DEFAULT].ready
    assert all(info.dim > 0 and info.licence and info.note for info in infos.values())
