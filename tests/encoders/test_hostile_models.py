"""Models that bring Python of their own: whoever trusts them, none of it runs, and what asks for it is named."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clipsearch.encoders import model_files, openclip
from clipsearch.errors import EncoderUnavailableError
from tests.support import hostile_models, tiny_openclip
from tests.support.cli import environment
from tests.support.paths import ROOT


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """What a model leaves if it runs; a user who answers yes to every question is at the terminal."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 99))
    return tmp_path / "marker"


def refused(folder, match):
    with pytest.raises(EncoderUnavailableError, match=match):
        openclip.fetch(f"local-dir:{folder}", offline=True)


def test_a_tokenizer_of_its_own_is_refused_whether_or_not_the_model_says_to_trust_it(tmp_path, marker):
    refused(hostile_models.with_tokenizer_code(tmp_path / "said", marker), "trust_remote_code = True")
    refused(
        hostile_models.with_tokenizer_code(tmp_path / "unsaid", marker, say=False), "tokenizer_config.json has auto"
    )
    assert not marker.exists()


def test_a_text_tower_of_its_own_is_refused_wherever_it_lies(tmp_path, marker):
    refused(hostile_models.with_text_tower_code(tmp_path / "own", marker), r"config.json has auto_map")
    other = hostile_models.with_text_tower_code(tmp_path / "else", marker, tmp_path / "other")
    refused(other, "hf_model_name = ")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pth"])
def test_weights_that_are_more_than_tensors_are_refused(tmp_path, marker, name):
    refused(hostile_models.with_pickled_weights(tmp_path / "model", marker, name), "Save them as .safetensors")
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_weights_that_are_a_program_are_refused(tmp_path):
    refused(hostile_models.with_script_weights(tmp_path / "model"), "Save them as .safetensors")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_cfg", "tokenizer_kwargs", {"bpe_path": "/etc/passwd"}),
        ("text_cfg", "tokenizer_kwargs", {"cache_dir": "/tmp/x"}),
        ("text_cfg", "tokenizer_kwargs", {"gguf_file": "x"}),
        ("vision_cfg", "timm_model_name", "local-dir:/tmp/x"),
        ("vision_cfg", "timm_model_name", "hf-hub:org/name"),
    ],
)
def test_a_config_that_leads_elsewhere_is_refused(tmp_path, part, key, value):
    config = {"model_cfg": {"text_cfg": {}, "vision_cfg": {}}}
    config["model_cfg"][part][key] = value
    with pytest.raises(EncoderUnavailableError, match=key):
        model_files.check_config(config, tmp_path / "open_clip_config.json")


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "custom_pipelines"])
def test_a_config_that_names_code_of_a_hub_is_refused_however_deep_it_lies(tmp_path, key):
    (tmp_path / model_files.CONFIG).write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps({key: "sdpa", "text_config": [{"x": {key: "some/kernel"}}]}))
    with pytest.raises(EncoderUnavailableError, match=f"{key} = 'some/kernel'"):
        model_files.check_folder(tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "\0", "x" * (model_files._MAX_JSON + 1)], ids=["deep", "cut", "nul", "long"]
)
def test_a_config_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / model_files.CONFIG).write_text(text)
    with pytest.raises(EncoderUnavailableError, match="cannot be read"):
        model_files.check_folder(tmp_path)


def test_configs_of_open_clip_itself_pass():
    with openclip.quiet():
        import open_clip
    for name in open_clip.list_models():
        model_files.check_config(open_clip.get_model_config(name), Path(name))


def test_transformers_imports_nothing_beside_a_model_even_if_it_is_told_to(tmp_path, marker):
    from transformers import AutoTokenizer

    folder = hostile_models.with_tokenizer_code(tmp_path / "model", marker)
    with (
        openclip.quiet(),
        pytest.raises(EncoderUnavailableError, match="its own Python code"),
        model_files.without_code(),
    ):
        AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert not marker.exists()


HUB = """
import sys
from clipsearch.encoders import openclip
from clipsearch.errors import EncoderUnavailableError
for name in ("org/tower", "org/words", "org/direct"):
    try:
        openclip.fetch("hf-hub:" + name, offline=True)
    except EncoderUnavailableError as error:
        print(name, error)
"""


def publish(home, name, folder):
    """Put a folder into the hub library's cache, as if it had been fetched."""
    root = home / "hub" / f"models--org--{name}"
    shutil.copytree(folder, root / "snapshots" / ("0" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)


@pytest.mark.slow
def test_no_repository_that_a_model_of_a_hub_leads_to_runs_code(tmp_path):
    """The model itself looks harmless, and names a text tower or a tokenizer that lies in another repository."""
    marker = tmp_path / "marker"
    tower = hostile_models.with_text_tower_code(tmp_path / "tower", marker, tmp_path / "evil-tower")
    hostile_models.edit(
        tower / "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(hf_model_name="org/evil-tower")
    )
    words = tiny_openclip.siglip_like(tmp_path / "words")
    hostile_models.edit(
        words / "open_clip_config.json", lambda c: c["model_cfg"]["text_cfg"].update(hf_tokenizer_name="org/evil-words")
    )
    evil = hostile_models.with_tokenizer_code(tmp_path / "evil-words", marker, say=False)
    (evil / "config.json").write_text("{}")
    hostile_models.with_tokenizer_code(tmp_path / "direct", marker)
    for name in ("tower", "evil-tower", "words", "evil-words", "direct"):
        publish(tmp_path / "hf", name, tmp_path / name)
    env = environment({"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)})
    done = subprocess.run([sys.executable, "-c", HUB], env=env, input="y\n" * 99, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["org/tower", "org/words", "org/direct"], done.stdout
    for line in lines[:2]:
        assert "its own Python code" in line
    assert "trust_remote_code = True" in lines[2]
    assert not marker.exists()
