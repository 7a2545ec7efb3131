"""What encoders read, and what the user of a system in another language is advised."""

import json
import re
from dataclasses import replace

import pytest

from clipsearch.config import Settings
from clipsearch.encoders import export_folder, languages, names
from clipsearch.encoders.builtin.multilingual import LANGUAGES
from clipsearch.encoders.export_folder import ExportMeta
from clipsearch.encoders.names import BUILTINS, PRESETS
from clipsearch.store.library import Library
from clipsearch.types import EncoderPin
from indexer.pipeline import IndexOptions
from indexer.pipeline import index as run_index
from tests.support import tiny_openclip
from tests.support.cli import run_cli
from tests.support.libraries import index, photos
from tests.support.paths import ROOT

DEFAULT, MULTILINGUAL, FAST, BEST = (PRESETS[name].name for name in ("default", "multilingual", "fast", "best"))
OLD_FAST = "openclip:ViT-B-32/datacomp_xl_s13b_b90k"


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, None),
        ({"LANG": ""}, None),
        ({"LANG": "C.UTF-8"}, None),
        ({"LANG": "POSIX", "LANGUAGE": "da"}, None),
        ({"LANG": "en_GB.UTF-8"}, None),
        ({"LANG": "da_DK.UTF-8"}, "da"),
        ({"LANG": "nb_NO.UTF-8@euro"}, "no"),
        ({"LANG": "da_DK.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "da_DK.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8", "LC_ALL": "C"}, None),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "hr:en"}, "hr"),
        ({"LANG": "da_DK.UTF-8", "LANGUAGE": "en:da"}, None),
        ({"LANG": "tlh"}, "tlh"),
    ],
)
def test_the_language_of_the_system_is_that_of_its_messages(environment, language):
    assert languages.system_language(environment) == language


def test_every_short_name_says_what_it_reads_well():
    assert all("en" in (languages.reads(name) or ()) for name in (*BUILTINS, *(each.name for each in PRESETS.values())))
    assert languages.reads(FAST) == ("en",) and languages.reads("openclip:ViT-B-16/openai") is None
    assert {"hr", "da", "zh", "ja", "th"} <= set(languages.reads(MULTILINGUAL) or ())
    assert not {"hr", "ja", "th"} & set(languages.reads(DEFAULT) or ())


def test_the_builtin_encoders_read_what_their_tower_was_trained_on():
    for name in BUILTINS:
        assert languages.reads(name) == tuple(tag for tag in LANGUAGES if "-" not in tag)


@pytest.mark.parametrize(
    ("encoder", "language", "advised"),
    [
        ("builtin-base", "da", "multilingual"),
        ("builtin-base", "zh", None),  # it reads that
        ("builtin-small", "de", None),
        ("builtin-base", "hi", None),  # nothing reads that well
        (DEFAULT, "de", None),
        (DEFAULT, "hr", "multilingual"),
        (DEFAULT, "zh", "multilingual"),  # it reads that, but the other much better
        (MULTILINGUAL, "ar", None),  # the other is better by a point
        (FAST, "fr", "default"),
        (BEST, "th", "multilingual"),
        (BEST, "da", None),
        (DEFAULT, "tlh", None),
        ("openclip:ViT-B-16/openai", "da", None),
    ],
)
def test_advice_names_the_preset_that_reads_the_language_clearly_better(encoder, language, advised):
    said = languages.advise(encoder, {"LANG": f"{language}.UTF-8"})
    assert (said is None) == (advised is None)
    assert said is None or f"--model {advised} " in said
    assert languages.advise(encoder, {"LANG": "en_US.UTF-8"}) is None


@pytest.mark.parametrize(
    ("language", "preset"),
    [("da", "multilingual"), ("zh", "multilingual"), ("de", "default"), ("hi", "default"), ("en", "default")],
)
def test_the_preset_to_switch_to_is_the_one_that_reads_the_systems_language_clearly_better(language, preset):
    assert languages.preset_for_system({"LANG": f"{language}.UTF-8"}) == preset


def test_the_notice_of_a_builtin_encoder_knows_the_systems_language(monkeypatch):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.delenv("LANGUAGE", raising=False)
    said = names.resolve("auto", offline=True).notice
    assert "multilingual, which reads the language of your system better" in said
    assert "--model multilingual " in said and "--model default" not in said
    monkeypatch.setenv("LC_ALL", "C")
    assert "--model default " in names.resolve("auto", offline=True).notice


@pytest.mark.slow
def test_the_first_run_advises_once_and_changes_nothing(tmp_path):
    photos(tmp_path / "photos", 2)
    given = ("index", tmp_path / "photos", "--library", tmp_path / "library", "--offline")
    environment = {"LC_ALL": "da_DK.UTF-8", "LANGUAGE": ""}
    first = run_cli(*given, env=environment)
    assert first.code == 0
    assert "system's language is Danish" in first.err and "--model multilingual" in first.err
    assert Library(tmp_path / "library").encoder.name == "builtin-base"
    assert "Danish" not in run_cli(*given, env=environment).err
    other = run_cli(*given[:3], tmp_path / "other", "--offline", env={"LC_ALL": "en_GB.UTF-8", "LANGUAGE": ""})
    assert other.code == 0 and "language" not in other.err


def test_models_says_what_each_reads_in_eighty_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    said = run_cli("models").out.decode()
    assert "    reads well: cs da de el en" in said
    assert all(len(line) <= 80 or ", openclip:" in line for line in said.splitlines())
    listed = {model["name"]: model["reads"] for model in json.loads(run_cli("models", "--json").out)}
    assert listed[FAST] == ["en"] and "hr" in listed[MULTILINGUAL]


def test_a_library_of_what_fast_meant_before_goes_on_with_the_same_command(encoder, tmp_path, monkeypatch, models):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    source, meta = models.export("classic_clip")
    _prepare_as(OLD_FAST, source, meta, tmp_path / "cache")
    photos(tmp_path / "photos", 2)
    settings = Settings(threads=1, offline=True)
    index(tmp_path / "library", tmp_path / "photos", encoder=None, settings=replace(settings, model=OLD_FAST[9:]))
    before = Library(tmp_path / "library").encoder
    assert before == EncoderPin(OLD_FAST, meta.fingerprint, meta.dim)
    photos(tmp_path / "photos", 3)
    report = run_index(tmp_path / "library", [str(tmp_path / "photos")], settings, IndexOptions(model="fast"))
    assert report.encoded >= 1
    assert Library(tmp_path / "library").encoder == before


def _prepare_as(name: str, source, meta: ExportMeta, cache) -> None:
    with export_folder.new_folder(cache / "openclip") as work:
        for file in meta.files:
            (work / file).write_bytes((source / file).read_bytes())
        renamed = replace(meta, name=name, files=export_folder.describe_files(work))
        (work / export_folder.META).write_text(renamed.dump(), encoding="utf-8")
        export_folder.publish(work, cache / "openclip" / f"{export_folder.slug(name)}.{meta.fingerprint[:16]}")
    assert names.meant("fast", name) and not names.meant("default", name)


@pytest.mark.parametrize("pooler", ["mean_pooler", pytest.param("cls_pooler", marks=pytest.mark.slow)])
def test_a_text_tower_of_the_kind_of_xlm_roberta_equals_open_clip(tmp_path, monkeypatch, pooler):
    from clipsearch.encoders import openclip
    from clipsearch.encoders.onnx_runtime import OnnxEncoder
    from tests.support.vectors import cosines

    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    folder, meta = tiny_openclip.export(tiny_openclip.xlm_roberta_clip(tmp_path / "model", pooler=pooler))
    assert (meta.text.context_length, meta.text.pad_id, meta.text.clean) == (77, 1, "whitespace")
    reference = openclip.fetch(f"local-dir:{tmp_path / 'model'}", offline=True)
    found = OnnxEncoder(folder, meta, threads=1)
    texts = [*tiny_openclip.MANY_LANGUAGES, "", "a cat " * 100, "Кошка, А КОШКА", "沙发上的猫" * 30]
    expected = reference.model.encode_text(reference.tokenizer(texts), normalize=True).detach().numpy()
    assert cosines(found.encode_texts(texts), expected).min() >= 0.9999
    assert cosines(found.encode_queries(texts[:1]), expected[:1]).min() >= 0.9999


def test_the_documented_figures_are_those_that_advice_goes_by():
    page = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    rows = {code: cells for code, cells in re.findall(r"^\| \w+ \(`(\w+)`\) \|(.*)\|$", page, re.MULTILINE)}
    assert rows.keys() == languages._RECALL.keys()
    for code, (_, *figures) in languages._RECALL.items():
        shown = [cell.strip(" *") for cell in rows[code].split("|")]
        assert shown == [f"{figure:.1f}" if figure else "-" for figure in figures]
