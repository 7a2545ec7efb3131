"""Models that are ONNX already, in Immich's layout: exported here, compared with open_clip, and made hostile."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer

from clipsearch.encoders import names, onnx_files, registry, trust
from clipsearch.encoders.onnx_files import NEEDED, OnnxFolder
from clipsearch.encoders.tokenizer import TextRules, TextTokenizer
from clipsearch.encoders.tokenizer_export import DIFFICULT_TEXTS
from clipsearch.errors import EncoderError, EncoderMismatchError, EncoderUnavailableError
from clipsearch.types import EncoderPin
from tests.support import onnx_models, tiny_openclip
from tests.support.cli import run_cli
from tests.support.libraries import photos
from tests.support.vectors import cosines

# Difficult texts that CLIP's tokenizer of transformers, which Immich takes, reads otherwise than open_clip's: special
# words that are spelled out, and the long s of a contraction.
_OTHERWISE = {text for text in DIFFICULT_TEXTS if "startoftext" in text or "start_of_text" in text or "\u017f" in text}
TEXTS = [
    *(text for text in DIFFICULT_TEXTS if text not in _OTHERWISE),
    *tiny_openclip.MANY_LANGUAGES,
    "ΑΣ, İ! Two_BOATS?",
]
KINDS = [("classic_clip", False, "int32"), ("siglip_like", True, "int64"), ("xlm_roberta_clip", False, "int64")]


class Made:
    """A folder as Immich publishes them, and the model that it was exported from."""

    def __init__(self, kind, dynamic, ids, root):
        self.folder = root / "onnx"
        self.reference = onnx_models.export_folder(
            getattr(tiny_openclip, kind)(root / "source"), self.folder, dynamic=dynamic, ids=ids
        )
        self.name = f"onnx-dir:{self.folder}"

    def texts(self, texts):
        import torch

        with torch.inference_mode():
            return self.reference.model.encode_text(self.reference.tokenizer(texts), normalize=True).numpy()

    def images(self, pictures):
        import torch
        from open_clip.transform import PreprocessCfg, image_transform_v2

        transform = image_transform_v2(PreprocessCfg(**self.reference.model.visual.preprocess_cfg), is_train=False)
        with torch.inference_mode():
            return self.reference.model.encode_image(torch.stack([*map(transform, pictures)]), normalize=True).numpy()


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind[0])
def made(request, isolated_user, tmp_path_factory):
    return Made(*request.param, tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def siglip(isolated_user, tmp_path_factory):
    return Made(*KINDS[1], tmp_path_factory.mktemp("siglip"))


@pytest.fixture
def folder(siglip, tmp_path):
    """A copy of a whole model, to be spoilt."""
    return shutil.copytree(siglip.folder, tmp_path / "model")


@pytest.fixture(autouse=True)
def own_user(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def load(folder):
    return registry.load(f"onnx-dir:{folder}", threads=1, offline=True)


def pictures(count):
    rng = np.random.default_rng(0)
    sizes = [(80, 60), (33, 97), (48, 40), (1, 57), (640, 427)]
    return [
        Image.fromarray(rng.integers(0, 256, (*sizes[index % len(sizes)], 3), dtype=np.uint8)) for index in range(count)
    ]


@pytest.mark.slow
def test_vectors_equal_open_clip(made):
    encoder = load(made.folder)
    assert encoder.name == made.name and encoder.dim == made.reference.model.visual.output_dim
    assert encoder.max_tokens == made.reference.context_length
    assert cosines(encoder.encode_texts(TEXTS), made.texts(TEXTS)).min() >= 0.9999
    assert (
        cosines(np.concatenate([encoder.encode_queries([text]) for text in TEXTS]), made.texts(TEXTS)).min() >= 0.9999
    )
    many = pictures(11)
    assert cosines(encoder.encode_images(many), made.images(many)).min() >= 0.9999
    assert cosines(encoder.encode_images(many[:1]), made.images(many[:1])).min() >= 0.9999


def test_neither_torch_nor_its_libraries_are_imported(siglip):
    code = (
        "import sys, numpy; from PIL import Image; from clipsearch.encoders import registry;"
        f"e = registry.load({siglip.name!r}, threads=1, offline=True); e.encode_queries(['a cat']);"
        "e.encode_images([Image.new('RGB', (9, 9))]);"
        "print(sorted({'torch', 'transformers', 'open_clip'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.slow
def test_the_folder_is_indexed_and_searched_and_then_not_needed(siglip, tmp_path):
    source = shutil.copytree(siglip.folder, tmp_path / "model")
    photos(tmp_path / "photos", 3)
    library = ("--library", tmp_path / "library", "--offline")
    assert run_cli("index", tmp_path / "photos", "--model", f"onnx-dir:{source}", *library).code == 0
    shutil.rmtree(source)
    done = run_cli("query", "two boats", "--json", *library)
    assert done.code == 0 and len(done.json["hits"] if isinstance(done.json, dict) else done.json) == 3
    listed = {model["name"]: model for model in run_cli("models", "--json").json}
    assert listed[f"onnx-dir:{source}"]["reads"] is None


@pytest.mark.slow
def test_an_attention_mask_and_pictures_of_bytes_are_given_where_they_are_wanted(tmp_path):
    import torch

    made = Made(*KINDS[2], tmp_path)
    text, model = made.reference.model.text, made.reference.model
    ids = torch.ones(1, 77, dtype=torch.int32)

    def encode(input_ids, attention_mask):
        out = text.transformer(input_ids=input_ids, attention_mask=attention_mask)
        return text.proj(text.pooler(out, attention_mask))

    textual, visual = made.folder / "textual" / "model.onnx", made.folder / "visual" / "model.onnx"
    onnx_models.write(onnx_models.tower(encode, text), {"input_ids": ids, "attention_mask": ids}, textual)
    picture = made.reference.picture
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (picture.mean, picture.std))
    whole = onnx_models.tower(
        lambda pixels: model.encode_image((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std), model
    )
    onnx_models.write(whole, {"image": torch.zeros(1, 32, 32, 3, dtype=torch.uint8)}, visual)
    encoder = load(made.folder)
    assert cosines(encoder.encode_texts(TEXTS), made.texts(TEXTS)).min() >= 0.9999
    assert cosines(encoder.encode_images(pictures(3)), made.images(pictures(3))).min() >= 0.9999


@pytest.mark.slow
def test_int8_serves_such_a_model_too(made):
    exact = load(made.folder)
    rounded = registry.load(made.name, threads=2, offline=True, precision="int8")
    assert cosines(rounded.encode_images(pictures(3)), exact.encode_images(pictures(3))).min() >= 0.99
    assert cosines(rounded.encode_texts(TEXTS[3:6]), exact.encode_texts(TEXTS[3:6])).min() >= 0.99


def test_weights_may_lie_beside_the_graph(siglip, folder):
    expected = load(siglip.folder).encode_texts(TEXTS)
    move_weights_out(folder)
    assert (folder / "textual").stat() and len(list((folder / "textual").iterdir())) > 4
    assert cosines(load(folder).encode_texts(TEXTS), expected).min() >= 0.99999


def move_weights_out(folder):
    path = folder / "textual" / "model.onnx"
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)


def test_the_fingerprint_is_of_what_decides_vectors(siglip, folder):
    before = load(siglip.folder).fingerprint
    (folder / "README.md").write_text("other words")
    assert load(folder).fingerprint == before
    change(folder / "visual" / "preprocess_cfg.json", interpolation="bilinear")
    changed = load(folder).fingerprint
    assert changed != before
    rewrite(folder, "textual", lambda model: double_weights(model.graph))
    assert load(folder).fingerprint not in (before, changed)
    with pytest.raises(EncoderMismatchError, match="fingerprint"):
        registry.load(f"onnx-dir:{folder}", threads=1, offline=True, fingerprint="0" * 64)


def double_weights(graph):
    tensor = max(graph.initializer, key=lambda each: len(each.raw_data))
    tensor.raw_data = (numpy_helper.to_array(tensor) * 2).tobytes()


def change(path, **fields):
    onnx_models.save_json(path, json.loads(path.read_text()) | fields)


def rewrite(folder, side, edit):
    model = onnx.load(folder / side / "model.onnx")
    edit(model)
    (folder / side / "model.onnx").write_bytes(model.SerializeToString())


def add_node(model, operator, domain=""):
    model.graph.node.append(helper.make_node(operator, [model.graph.output[0].name], ["more"], domain=domain))


def with_loop(model):
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "body", [], [])
    inner = helper.make_graph([helper.make_node("Loop", ["", ""], [], body=body)], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["condition"], [], then_branch=inner, else_branch=inner))


def poison(model):
    tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    tensor.raw_data = np.full(numpy_helper.to_array(tensor).shape, np.nan, np.float32).tobytes()


def cut_output(model):
    name = model.graph.output[0].name
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array([value]), key) for key, value in (("from", 0), ("to", 7), ("axis", 1))
    )
    model.graph.node.append(helper.make_node("Slice", [name, "from", "to", "axis"], ["shorter"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("shorter", TensorProto.FLOAT, None))


def deepen_output(model):
    name = model.graph.output[0].name
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "axes"))
    model.graph.node.append(helper.make_node("Unsqueeze", [name, "axes"], ["deeper"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("deeper", TensorProto.FLOAT, None))


def with_function(model):
    function = helper.make_function("local", "f", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])
    model.functions.append(function)


SPOILT_GRAPHS = [
    ("visual", lambda model: add_node(model, "Evil", "my.operators"), "my.operators"),
    ("textual", with_loop, "Loop"),
    ("textual", with_function, "functions of its own"),
    ("visual", poison, "not of unit length"),
    ("textual", poison, "not of unit length"),
    ("textual", cut_output, "7 dimensions, but those of pictures 32"),
    ("visual", deepen_output, "array of shape"),
    ("visual", lambda model: add_node(model, "NoSuchOperator"), "model.onnx cannot be used"),
    ("visual", lambda model: model.graph.ClearField("output"), "gives nothing"),
    ("textual", lambda model: model.graph.ClearField("input"), "not one batch of ids"),
    ("visual", lambda model: model.graph.ClearField("node"), "not an ONNX model"),
]


@pytest.mark.parametrize(("side", "edit", "match"), SPOILT_GRAPHS)
def test_a_graph_that_is_no_tower_is_refused(folder, tmp_path, side, edit, match):
    rewrite(folder, side, edit)
    with pytest.raises(EncoderUnavailableError, match=match):
        load(folder)
    assert not [*(tmp_path / "cache").rglob("meta.json")]


SPOILT_FILES = [
    ("visual/model.onnx", b"\x00not a graph" * 99, "not an ONNX model"),
    ("textual/model.onnx", b"", "not an ONNX model"),
    ("textual/tokenizer.json", b"{}", "tokenizers"),
    ("textual/tokenizer.json", b"\xff\xfe", "UTF-8"),
    ("textual/tokenizer_config.json", b'{"pad_token": "<nowhere>"}', "pad_token, '<nowhere>', is not in"),
    ("textual/tokenizer_config.json", b"[]", "not a JSON object"),
    ("config.json", b"[" * 99_999, "not valid JSON"),
    ("config.json", b'{"text_cfg": {"tokenizer_kwargs": {"clean": "os.system"}}}', "unknown way"),
    ("config.json", b" " * (onnx_files._MAX_JSON + 1), "longer than"),
    ("visual/preprocess_cfg.json", b'{"size": 0}', "out of range"),
    ("visual/preprocess_cfg.json", b'{"size": 999999999}', "out of range"),
    ("visual/preprocess_cfg.json", b'{"size": [48, 40], "std": [0, 1, 1]}', "out of range"),
    ("visual/preprocess_cfg.json", b'{"size": [48, 40], "mean": [NaN, 0, 0]}', "out of range"),
    ("visual/preprocess_cfg.json", b'{"size": [48, 40], "mean": "x"}', "how pictures are prepared"),
    ("visual/preprocess_cfg.json", b'{"size": 224}', "makes .3, 224, 224"),
    ("visual/preprocess_cfg.json", b'{"size": [48, 40], "resize_mode": "warp"}', "warp"),
]


@pytest.mark.parametrize(("file", "content", "match"), SPOILT_FILES)
def test_a_file_that_makes_no_sense_is_refused(folder, file, content, match):
    (folder / file).write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match=match):
        load(folder)


def word_level(**fields):
    model = {"type": "WordLevel", "vocab": {"a": 1, "cat": 2, "[PAD]": 0}, "unk_token": "[UNK]"}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": model,
        }
        | fields
    )


def charsmap(data):
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


LETTERS = {"a": 1, "c": 2, "t": 3, "[PAD]": 0}
SPOILT_TOKENIZERS = [
    (word_level(), "WordLevel error: Missing"),
    (
        word_level(
            model={"type": "WordLevel", "vocab": {"a": 4294967295, "[UNK]": 3, "[PAD]": 0}, "unk_token": "[UNK]"}
        ),
        "Missing",
    ),
    (word_level(model={"type": "BPE", "vocab": LETTERS, "merges": [], "unk_token": "zz"}), "zz"),
    (word_level(model={"type": "Unigram", "vocab": [[c, -1] for c in LETTERS], "unk_id": None}), "unk_id"),
    (word_level(normalizer=charsmap(b"\xff\xff\xff\xff")), "shorter than it says"),
    (
        word_level(normalizer={"type": "Sequence", "normalizers": [charsmap(b"\x08\0\0\0" + b"\0" * 7)]}),
        "shorter than it says",
    ),
    (word_level(normalizer=charsmap(b"\x04\0\0\0" + b"\xff" * 4)), "tokenizers"),
    ("[" * 99_999, "tokenizers"),
]


@pytest.mark.parametrize(("content", "match"), SPOILT_TOKENIZERS, ids=lambda given: given[-60:])
def test_a_tokenizer_that_fails_on_some_texts_is_refused(folder, content, match):
    (folder / "textual" / "tokenizer.json").write_text(content)
    onnx_models.save_json(folder / "textual" / "tokenizer_config.json", {"pad_token": "[PAD]"})
    with pytest.raises(EncoderUnavailableError, match=f"tokenizer.json cannot be used: .*{match}"):
        load(folder)


def test_a_tokenizer_that_fails_on_a_text_later_is_an_error_of_the_encoder():
    tokenizer = TextTokenizer(Tokenizer.from_str(word_level()), TextRules("lower", 16))
    assert tokenizer.count("a cat") == 2
    for use in (tokenizer.count, tokenizer.ids, tokenizer.tokens_per_letter):
        with pytest.raises(EncoderError, match="tokenizer of the model fails on a text"):
            use("a dog")


@pytest.mark.parametrize("file", NEEDED)
def test_a_folder_that_is_not_whole_says_what_it_needs(folder, file):
    (folder / file).unlink()
    with pytest.raises(EncoderUnavailableError, match=f"has no {file}.*Immich"):
        load(folder)


@pytest.mark.parametrize("file", ["visual/model.onnx", "textual/tokenizer.json", "config.json"])
def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path, file):
    outside = tmp_path / "outside"
    (folder / file).rename(outside)
    (folder / file).symlink_to(outside)
    with pytest.raises(EncoderUnavailableError, match="leads out of the folder"):
        load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(folder):
    (folder / "textual" / "tokenizer_config.json").unlink()
    os.mkfifo(folder / "textual" / "tokenizer_config.json")
    with pytest.raises(EncoderUnavailableError, match="not a regular file"):
        load(folder)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"location": "../secret"}, "not a file beside it"),
        ({"location": "/etc/passwd"}, "not a file beside it"),
        ({"location": ".."}, "not a file beside it"),
        ({"location": "a\\b"}, "not a file beside it"),
        ({"location": ""}, "not a file beside it"),
        ({"location": "link"}, "leads out of the folder"),
        ({"location": "nowhere"}, "has no textual/nowhere"),
        ({"offset": "-8"}, "bytes at -8"),
        ({"offset": "99999999"}, "bytes at 99,999,999"),
        ({"length": "99999999999999"}, "names 99,999,999,999,999 bytes"),
        ({"length": "many"}, "no number"),
    ],
)
def test_weights_that_lead_elsewhere_are_refused(folder, tmp_path, fields, match):
    move_weights_out(folder)
    (tmp_path / "secret").write_bytes(b"x" * 9999)
    (folder / "textual" / "link").symlink_to(tmp_path / "secret")
    path = folder / "textual" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.data_location == TensorProto.EXTERNAL)
    given = {entry.key: entry.value for entry in tensor.external_data} | fields
    del tensor.external_data[:]
    for key, value in given.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EncoderUnavailableError, match=match):
        load(folder)


def test_what_is_not_theirs_to_say_is_refused(siglip):
    for options, match in (({"device": "cuda"}, "processor only"), ({"precision": "bf16"}, "bf16")):
        with pytest.raises(EncoderUnavailableError, match=match):
            registry.load(siglip.name, threads=1, offline=True, **options)
    with pytest.raises(EncoderUnavailableError, match="does not exist"):
        load(siglip.folder / "nowhere")


def test_a_library_names_one_only_with_the_users_word(folder, monkeypatch):
    name = f"onnx-dir:{folder}"
    encoder = load(folder)
    pin = EncoderPin(name, encoder.fingerprint, encoder.dim)
    trust.forget(name)
    with pytest.raises(EncoderUnavailableError, match=f"clipsearch trust '{name}'"):
        registry.load_pinned(pin, model="auto", threads=1, offline=True)
    assert run_cli("trust", name).code == 0
    assert registry.load_pinned(pin, model="auto", threads=1, offline=True).name == name
    shutil.rmtree(os.environ["CLIPSEARCH_CACHE"])
    (folder / "visual" / "more.txt").write_text("more")
    with pytest.raises(EncoderUnavailableError, match="have changed since you trusted them"):
        registry.load_pinned(pin, model="auto", threads=1, offline=True)
    assert trust.needs_trust("hf-onnx:org/name")
    with pytest.raises(EncoderUnavailableError, match="clipsearch trust 'hf-onnx:org/name'"):
        registry.load_pinned(EncoderPin("hf-onnx:org/name", "0" * 64, 32), model="auto", threads=1, offline=True)


@pytest.mark.parametrize(
    "name", ["onnx-dir:", "hf-onnx:", "hf-onnx:org", "hf-onnx:org/a/b", "hf-onnx:../x", "hf-onnx:o/n?x"]
)
def test_names_of_neither_form_are_refused(name):
    with pytest.raises(EncoderUnavailableError, match="no encoder named"):
        names.resolve(name, offline=True)


COMMIT = "1234567890" * 4


class Hub(BaseHTTPRequestHandler):
    """The little of a hub that fetching files needs: /ORG/NAME/resolve/REVISION/FILE."""

    def do_HEAD(self):
        self.answer(None)

    def do_GET(self):
        self.answer(self.wfile)

    def answer(self, body):
        _, org, repository, _, revision, file = self.path.split("/", 5)
        self.server.asked.append((self.command, revision, file))
        path = self.server.folder / file
        found = f"{org}/{repository}" == "org/name" and revision in ("main", COMMIT) and path.is_file()
        data = path.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound" if repository == "name" else "RepoNotFound")
        for header, value in (("ETag", f'"{len(data)}-{abs(hash(file))}"'), ("X-Repo-Commit", COMMIT)):
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body is not None:
            body.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def small_hub(folder, tmp_path, monkeypatch):
    """A hub with one repository, a model whose text tower has its weights beside it, and other files."""
    from huggingface_hub import constants

    move_weights_out(folder)
    (folder / "README.md").write_text("not needed")
    (folder / "visual" / "other.bin").write_bytes(b"not needed")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.folder, server.asked = folder, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
        server.shutdown()


def test_a_model_of_a_hub_is_fetched_once_at_one_commit_and_then_without_a_connection(small_hub, folder, tmp_path):
    found = registry.load("hf-onnx:org/name", threads=1, offline=False)
    assert found.fingerprint == load(folder).fingerprint
    fetched = {file for command, _, file in small_hub.asked if command == "GET"}
    weights = {f"textual/{path.name}" for path in (folder / "textual").iterdir()}
    assert set(NEEDED) <= fetched <= set(NEEDED) | weights and len(fetched) > len(NEEDED)
    assert {
        revision for _, revision, file in small_hub.asked if file not in ("config.json", "open_clip_config.json")
    } == {COMMIT}
    small_hub.asked.clear()
    shutil.rmtree(tmp_path / "cache")  # prepared again from what the hub's library keeps
    again = registry.load("hf-onnx:org/name", threads=1, offline=True)
    assert not small_hub.asked
    assert np.allclose(again.encode_texts(TEXTS), found.encode_texts(TEXTS), atol=1e-5)


def test_what_a_hub_does_not_have_is_said(small_hub, folder):
    with pytest.raises(EncoderUnavailableError, match="offline mode forbids"):
        registry.load("hf-onnx:org/name", threads=1, offline=True)
    with pytest.raises(EncoderUnavailableError, match="hub has no repository 'org/other'"):
        registry.load("hf-onnx:org/other", threads=1, offline=False)
    (folder / "visual" / "model.onnx").unlink()
    with pytest.raises(EncoderUnavailableError, match="not laid out as Immich's"):
        registry.load("hf-onnx:org/name", threads=1, offline=False)
    small_hub.shutdown()
    small_hub.server_close()
    with pytest.raises(EncoderUnavailableError, match="hub cannot be reached"):
        registry.load("hf-onnx:org/name", threads=1, offline=False)


def test_weights_of_a_hub_that_lead_out_of_its_cache_are_refused(small_hub, tmp_path):
    registry.load("hf-onnx:org/name", threads=1, offline=False)
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / COMMIT
    assert (snapshot / "config.json").is_symlink()
    assert OnnxFolder(snapshot, snapshot.parent.parent).json("config.json")
    with pytest.raises(EncoderUnavailableError, match="leads out of the folder"):
        OnnxFolder(snapshot, snapshot).json("config.json")
