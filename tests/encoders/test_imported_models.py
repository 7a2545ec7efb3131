"""What made imported vectors: the length that a model makes, and models in folders that the user names."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import clipsearch
from clipsearch.config import Settings
from clipsearch.encoders import trust
from clipsearch.encoders.dimensions import dimension_of
from clipsearch.errors import EncoderMismatchError, EncoderUnavailableError, InvalidInputError
from clipsearch.store.library import Library
from indexer.importing import import_embeddings
from tests.support.cli import run_cli


@pytest.fixture
def array(tmp_path):
    """Write an array of random rows, and return its path."""

    def save(dim, rows=40):
        path = tmp_path / f"{dim}.npy"
        np.save(path, np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32))
        return str(path)

    return save


@pytest.mark.parametrize(
    ("name", "dim"),
    [
        ("openclip:ViT-B-32/openai", 512),
        ("openclip:ViT-L-14/laion2b_s32b_b82k", 768),
        ("openclip:ViT-SO400M-14-SigLIP-384/webli", 1152),
        ("openclip:No-Such-Tower/openai", None),
        ("openclip:../secret/openai", None),
        ("openclip:hf-hub:some/model", None),
        ("openclip:local-dir:/no/such/folder", None),
        ("a model of ours", None),
    ],
)
def test_open_clips_configs_say_how_long_vectors_are(name, dim):
    assert dimension_of(name) == dim


def test_they_are_read_without_importing_open_clip_or_torch():
    script = (
        "import sys; from clipsearch.encoders.dimensions import dimension_of as d; print(d('openclip:ViT-B-32/openai'),"
        " {'open_clip', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["512", "set()"]


@pytest.mark.parametrize("config", ["", "[]", '{"model_cfg": 1}', '{"model_cfg": {"embed_dim": "a"}}', "[" * 5000])
def test_a_config_that_makes_no_sense_says_nothing(tmp_path, config):
    (tmp_path / "open_clip_config.json").write_text(config)
    assert dimension_of(f"openclip:local-dir:{tmp_path}") is None


def test_vectors_of_another_length_than_the_model_makes_are_refused(tmp_path, array):
    for dim, encoder, wanted in ((256, "ViT-B-32/openai", 512), (512, "builtin-base", 257)):
        with pytest.raises(InvalidInputError, match=rf"{dim} dimensions, but .* makes {wanted}\. Nothing"):
            import_embeddings(tmp_path / "lib", array(dim), encoder=encoder)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 24}}))
    for options in ({"encoder": f"local-dir:{tmp_path / 'model'}"}, {"encoder_dir": str(tmp_path / "model")}):
        with pytest.raises(InvalidInputError, match=r"256 dimensions, but .* makes 24"):
            import_embeddings(tmp_path / "lib", array(256), **options)
    assert not (tmp_path / "lib").exists()


def test_a_model_in_a_folder_is_loaded_trusted_and_searched_with(models, array, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    models.export("classic_clip")
    folder = models.source("classic_clip")
    assert import_embeddings(tmp_path / "lib", array(24), encoder_dir=str(folder)).imported == 40
    assert [each.name for each in trust.list_trusted()] == [f"openclip:local-dir:{folder}"]
    opened = Library(tmp_path / "lib")
    assert opened.encoder is not None and not opened.encoder.is_imported
    opened.close()
    with clipsearch.open(tmp_path / "lib", settings=Settings(offline=True, query_cache=False)) as engine:
        assert len(engine.search("a dog")) == 10
    with pytest.raises(EncoderMismatchError):
        import_embeddings(tmp_path / "lib", array(24), encoder="another")


def test_a_folder_that_holds_no_model_is_refused(tmp_path, array, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(InvalidInputError, match="no folder"):
        import_embeddings(tmp_path / "lib", array(24), encoder_dir=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderUnavailableError):
        import_embeddings(tmp_path / "lib", array(24), encoder_dir=str(tmp_path / "empty"))
    assert not (tmp_path / "lib").exists() and not trust.list_trusted()


@pytest.mark.parametrize("options", [[], ["--encoder", "a", "--encoder-dir", "b"]])
def test_one_of_both_options_is_needed(tmp_path, array, options):
    done = run_cli("import-embeddings", array(8), *options, "--library", tmp_path / "lib")
    assert done.code == 2
    assert "one of --encoder NAME and --encoder-dir DIR" in done.err
