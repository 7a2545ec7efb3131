"""Encoders that a library names: from a folder or a hub they load only after the user has named them here."""

import ast
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch.cli.requests import SearchRequest
from clipsearch.config import Settings
from clipsearch.encoders import export_folder, registry, trust
from clipsearch.errors import EncoderError, InvalidInputError
from clipsearch.locations import cache_dir, state_dir
from clipsearch.query.labelling import label_pictures
from clipsearch.query.options import SearchOptions
from clipsearch.store.library import Library
from indexer.calibration import encoder_loader
from indexer.pipeline import IndexOptions
from indexer.pipeline import index as run_index
from tests.support import hostile_models
from tests.support.cli import COMMAND, environment, run_cli
from tests.support.libraries import index, photos

PLAIN = Settings(threads=1, offline=True, query_cache=False)
needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A user who has named nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "clipsearch"


@pytest.fixture(scope="module")
def home(models, tmp_path_factory):
    """A library, as a stranger may send it, of a model that lies in a folder and is harmless."""
    folder = tmp_path_factory.mktemp("sent")
    source = shutil.copytree(models.source("classic_clip"), folder / "model")
    name = f"openclip:local-dir:{source}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        encoder = registry.load(name, threads=1, offline=True)
    photos(folder / "photos", 3)
    index(folder / "library", folder / "photos", encoder=encoder)
    return folder


def rename_encoder(library, name, fingerprint=None):
    """Let the catalog name another encoder, as whoever sends it can."""
    with closing(sqlite3.connect(library / "catalog.db")) as db, db:
        db.execute("UPDATE settings SET value = ? WHERE key = 'encoder'", (name,))
        if fingerprint:
            db.execute("UPDATE settings SET value = ? WHERE key = 'fingerprint'", (fingerprint,))


@pytest.fixture(scope="module")
def sent(home, tmp_path_factory):
    """A library that names a model which runs Python once it is loaded, and what that leaves."""
    folder = tmp_path_factory.mktemp("hostile")
    hostile_models.with_tokenizer_code(folder / "model", folder / "marker")
    shutil.copytree(home / "library", folder / "library")
    photos(folder / "photos", 2)
    rename_encoder(folder / "library", f"openclip:local-dir:{folder / 'model'}", "0" * 64)
    return folder


def search(library):
    with clipsearch.open(library, settings=PLAIN) as engine:
        engine.search("a cat")


def search_by_picture(library):
    with clipsearch.open(library, settings=PLAIN) as engine:
        engine.search(image=library.parent / "photos" / "p000.jpg")


def label(library):
    with clipsearch.open(library, settings=PLAIN) as engine:
        label_pictures(engine, ["cat", "dog"])


def calibrate(library):
    encoder_loader(Library(library), PLAIN)()


def add_files(library):
    photos(library.parent / "photos", 3, first=50)
    index(library, library.parent / "photos", encoder=None, settings=PLAIN)


@pytest.mark.slow
@pytest.mark.parametrize("door", [search, search_by_picture, label, calibrate, add_files])
def test_no_door_loads_what_only_a_library_names(sent, state, door):
    with pytest.raises(EncoderError, match=rf"clipsearch trust 'local-dir:{sent / 'model'}'") as refused:
        door(sent / "library")
    assert refused.value.exit_code == 6
    assert not (sent / "marker").exists() and not state.exists()


@pytest.mark.slow
def test_a_plain_query_of_the_command_runs_nothing(sent, state):
    done = run_cli("query", "a cat", "--library", sent / "library", env={"CLIPSEARCH_DAEMON": "0"}, input=b"y\n" * 99)
    assert done.code == 6 and f"clipsearch trust 'local-dir:{sent / 'model'}'" in done.err
    assert not (sent / "marker").exists()


@pytest.mark.slow
def test_a_model_of_a_hub_is_refused_before_anything_is_asked_of_the_hub(sent, state, tmp_path, monkeypatch):
    library = shutil.copytree(sent / "library", tmp_path / "library")
    rename_encoder(library, "openclip:hf-hub:org/name")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("the network was asked"))
    with pytest.raises(EncoderError, match="clipsearch trust 'hf-hub:org/name'"):
        search(library)


def test_whoever_trusts_it_remote_code_does_not_run(sent, state):
    trust.remember(trust.describe(f"openclip:local-dir:{sent / 'model'}"))
    with pytest.raises(EncoderError, match="trust_remote_code"):
        search(sent / "library")
    assert not (sent / "marker").exists()


@pytest.mark.slow
def test_the_command_that_is_named_lets_the_query_through(home, state):
    library, env = home / "library", {"CLIPSEARCH_DAEMON": "0"}
    refused = run_cli("query", "a cat", "--library", library, "--no-cache", env=env)
    assert refused.code == 6
    remedy = refused.err[refused.err.index("clipsearch trust") :].strip()
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-c", remedy], env=environment({"PATH": path}), check=True, capture_output=True)
    assert run_cli("query", "a cat", "--library", library, "--no-cache", env=env).code == 0
    listed = run_cli("trust", "--list", "--json")
    assert [each["name"] for each in listed.json] == [f"local-dir:{home / 'model'}"]
    assert run_cli("trust", "--remove", f"local-dir:{home / 'model'}").code == 0
    assert run_cli("query", "a cat", "--library", library, "--no-cache", env=env).code == 6
    assert run_cli("trust", "--list").out == b""


def test_naming_a_model_to_index_is_remembered(home, state, tmp_path):
    options = IndexOptions(model=f"local-dir:{home / 'model'}")
    run_index(tmp_path / "library", [str(home / "photos")], PLAIN, options)
    search(tmp_path / "library")
    assert [each.name for each in trust.list_trusted()] == [f"openclip:local-dir:{home / 'model'}"]
    if os.name == "posix":
        (file,) = (state / "trusted").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700


def test_a_model_that_the_settings_name_loads_and_is_remembered(home, state):
    settings = Settings(model=f"local-dir:{home / 'model'}", threads=1, offline=True, query_cache=False)
    with clipsearch.open(home / "library", settings=settings) as engine:
        assert len(engine.search("a cat")) == 3
    search(home / "library")


@pytest.mark.parametrize("model", ["auto", "builtin-small", "local-dir:/elsewhere", "hf-hub:org/name", "nonsense"])
def test_settings_that_name_another_model_trust_nothing(sent, state, model):
    settings = Settings(model=model, threads=1, offline=True, query_cache=False)
    with clipsearch.open(sent / "library", settings=settings) as engine, pytest.raises(EncoderError, match="trust"):
        engine.search("a cat")
    assert not (sent / "marker").exists()


def test_trust_in_a_folder_is_in_what_it_holds(home, state, tmp_path, monkeypatch):
    folder = shutil.copytree(home / "model", tmp_path / "model")
    library = shutil.copytree(home / "library", tmp_path / "library")
    name = f"openclip:local-dir:{folder}"
    rename_encoder(library, name)
    trust.remember(trust.describe(name))
    weights = folder / "open_clip_model.safetensors"
    status = weights.stat()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))  # sizes and times tell nothing
    with pytest.raises(EncoderError, match=rf"have changed since.*clipsearch trust 'local-dir:{folder}'"):
        search(library)
    assert run_cli("trust", f"local-dir:{folder}").code == 0
    trust.check_content(trust.require(name))


def test_what_is_prepared_of_a_trusted_name_needs_no_folder(home, state, tmp_path):
    library = shutil.copytree(home / "library", tmp_path / "library")
    trust.remember(trust.describe(f"openclip:local-dir:{home / 'model'}"))
    moved = (home / "model").rename(home / "moved")
    try:
        search(library)
    finally:
        moved.rename(home / "model")


def test_a_prepared_model_answers_to_its_own_name_alone(home, state):
    """Two names may give one name of a folder, which says the first eight digits of a digest only."""
    name, other = f"openclip:local-dir:{home / 'model'}", "openclip:ViT-B-32/openai"
    exports = export_folder.exports_root()
    (found, meta), *_ = export_folder.find_exports(exports, name)
    posing = shutil.copytree(found, exports / f"{export_folder.slug(other)}.{meta.fingerprint[:16]}")
    try:
        assert export_folder.find_exports(exports, other) == []
    finally:
        shutil.rmtree(posing)


@needs_owners
@pytest.mark.parametrize("fault", ["writable", "link", "owner", "garbage", "other"])
def test_a_list_that_others_may_have_written_is_not_believed(home, state, fault):
    name = f"openclip:local-dir:{home / 'model'}"
    trust.remember(trust.describe(name))
    search(home / "library")
    (file,) = (state / "trusted").iterdir()
    if fault == "writable":
        file.chmod(0o666)
    elif fault == "link":
        file.symlink_to(file.rename(state / "elsewhere.json"))
    elif fault == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(file, 12345, -1)
    elif fault == "garbage":
        file.write_text("[1]")
    else:
        file.write_text(json.dumps({"name": "openclip:hf-hub:a/b", "content": None, "source": []}))
    with pytest.raises(EncoderError, match="clipsearch trust"):
        search(home / "library")


@pytest.mark.parametrize(
    "name", ["local-dir:model", "local-dir:/a/../b", "local-dir:/a\n\x1b[2J", "hf-hub:x", "hf-hub:"]
)
def test_a_name_that_is_not_ours_gets_no_command(home, state, tmp_path, name):
    library = shutil.copytree(home / "library", tmp_path / "library")
    rename_encoder(library, f"openclip:{name}")
    with pytest.raises(EncoderError, match="cannot be trusted") as refused:
        search(library)
    assert str(refused.value).isprintable() and "clipsearch trust" not in str(refused.value)


def test_a_quote_in_a_name_breaks_out_of_no_command(state, tmp_path):
    folder = tmp_path / "it's; touch broken"
    folder.mkdir()
    with pytest.raises(EncoderError) as refused:
        trust.require(f"openclip:local-dir:{folder}")
    remedy = str(refused.value)[str(refused.value).index("clipsearch trust") :]
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-c", remedy], env=environment({"PATH": path}), cwd=tmp_path, check=True, capture_output=True)
    assert [each.name for each in trust.list_trusted()] == [f"openclip:local-dir:{folder}"]
    assert not (tmp_path / "broken").exists()


def test_the_command_is_told_what_is_wrong(state, tmp_path):
    for arguments in ([], ["a", "--list"], ["--remove", "local-dir:/x", "--list"], ["hf-hub:a/b", "--json"]):
        assert run_cli("trust", *arguments).code == 2
    assert "There is no folder" in run_cli("trust", f"local-dir:{tmp_path / 'none'}").err
    assert "needs no trust" in run_cli("trust", "builtin").err
    with pytest.raises(InvalidInputError, match="clipsearch trust --list"):
        trust.forget("openclip:hf-hub:a/b")


@pytest.mark.skipif(os.name != "posix", reason="needs Unix sockets")
def test_who_asks_the_daemon_names_no_encoder_for_it(sent, home, state):
    from clipsearch import __version__
    from clipsearch.cli.daemon.server import DaemonServer

    def ask(folder):
        asked = SearchRequest(text="a cat", options=SearchOptions(k=3), shape="json", folder=str(folder))
        settings = {"model": f"local-dir:{folder / 'model'}", "threads": 1, "offline": True, "query_cache": False}
        what = {"do": "query", "version": __version__, "cache": str(cache_dir()), "picture": None}
        what |= {"library": str(folder / "library"), "settings": settings, "asked": asked.to_values()}
        return resident._reply(what)

    resident = DaemonServer(60)
    assert ask(home) == ask(sent) == {}
    assert not (sent / "marker").exists() and not state.exists()
    trust.remember(trust.describe(f"openclip:local-dir:{home / 'model'}"))
    assert "out" in ask(home)
    trust.forget(f"openclip:local-dir:{home / 'model'}")
    assert ask(home) == {}


def test_a_query_of_the_builtin_encoder_looks_for_no_trust(home, state, encoder, tmp_path):
    index(tmp_path / "library", home / "photos", encoder=encoder)
    code = f"""
import sys, clipsearch
clipsearch.open({str(tmp_path / "library")!r}).search("a cat")
assert not {{"clipsearch.encoders.trust", "clipsearch.encoders.model_files"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], env=environment({"CLIPSEARCH_QUERY_CACHE": "0"}), check=True)


def test_only_one_place_loads_what_a_library_names():
    """All else goes through load_pinned; `load` is for what the user named: --model and --encoder-dir."""
    root = Path(clipsearch.__file__).parent.parent
    found = set()
    for path in [*(root / "clipsearch").rglob("*.py"), *(root / "indexer").rglob("*.py")]:
        tree = ast.parse(path.read_text())
        ours = any("clipsearch.encoders" in ast.unparse(node) and "registry" in ast.unparse(node)
                   for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))  # fmt: skip
        calls = (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))
        found |= {f"{path.relative_to(root)} {call}" for call in calls if ours and call.startswith("registry.load")}
    assert found == {
        "clipsearch/cli/embed.py registry.load",
        "clipsearch/cli/plan.py registry.load",
        "clipsearch/query/embedding.py registry.load_pinned",
        "indexer/calibration.py registry.load_pinned",
        "indexer/embed_shard.py registry.load_pinned",
        "indexer/executors/frames.py registry.load",
        "indexer/importing.py registry.load",
        "indexer/pipeline.py registry.load",
        "indexer/pipeline.py registry.load_pinned",
        "indexer/reindex.py registry.load_pinned",
    }


def test_a_state_folder_that_cannot_be_written_only_forgets(home, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    settings = Settings(model=f"local-dir:{home / 'model'}", threads=1, offline=True)
    with clipsearch.open(home / "library", settings=settings) as engine:
        assert np.isfinite([hit.score for hit in engine.search("a cat")]).all()
    assert "cannot be saved" in caplog.text
    assert trust.list_trusted() == [] and not state_dir().exists()
