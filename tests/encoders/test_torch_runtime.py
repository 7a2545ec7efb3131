"""open_clip models on torch: the vectors of the export, whatever the device, the batches, the memory."""

import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from clipsearch.config import Settings
from clipsearch.encoders import accelerators, openclip, registry, torch_runtime
from clipsearch.encoders.compute import Compute
from clipsearch.encoders.onnx_runtime import OnnxEncoder
from clipsearch.encoders.precision import FP16, FP32
from clipsearch.encoders.torch_compiling import Tower
from clipsearch.encoders.torch_graphs import Launcher
from clipsearch.encoders.torch_runtime import TorchEncoder
from clipsearch.encoders.towers import ImageTower, SelfAttention, build_towers, text_tower
from clipsearch.errors import EncoderError, EncoderUnavailableError, InvalidInputError
from tests.support import tiny_openclip
from tests.support.cli import run_cli
from tests.support.libraries import index, photo, photos
from tests.support.pictures import noise_picture
from tests.support.state import read_state
from tests.support.vectors import cosines

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ("classic_clip", "siglip_like")
TEXTS = [f"a photo of {'very ' * (number % 9)}old house {number}" for number in range(37)]
WORST = {"fp32": 0.9999, "bf16": 0.999, "fp16": 0.999}


@pytest.fixture(scope="module")
def sources(models):
    return {kind: models.source(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def exported(models):
    return {kind: OnnxEncoder(*models.export(kind), threads=2) for kind in KINDS}


@pytest.fixture(scope="module")
def pictures():
    return [noise_picture(seed, (60 + seed, 90 - seed)) for seed in range(37)]


class Hungry(torch.nn.Module):
    """An image tower whose copies are on a device that holds a few pictures only."""

    def __init__(self, inner, room):
        super().__init__()
        self.inner, self.room, self.seen, self.is_copy = inner, room, [], False

    def __deepcopy__(self, memo):
        other = Hungry(self.inner, self.room)
        other.seen, other.is_copy = self.seen, True
        return other

    def forward(self, values):
        if self.is_copy:
            self.seen.append(len(values))
            if len(values) > self.room:
                raise torch.OutOfMemoryError("tried to allocate 20.00 GiB.\nAnd more lines")
        return self.inner(values)


def hungry(folder, room, **options):
    encoder = tiny_openclip.on_torch(folder, ["cpu"], **options)
    model = encoder._reference.model
    model.visual = Hungry(model.visual, room)
    return encoder, model.visual.seen


@pytest.mark.parametrize("precision", WORST)
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_the_export(sources, exported, pictures, kind, precision):
    encoder, reference = tiny_openclip.on_torch(sources[kind], ["cpu"], precision=precision), exported[kind]
    assert (encoder.name, encoder.dim, encoder.fingerprint) == (reference.name, reference.dim, reference.fingerprint)
    assert (encoder.picture_side, encoder.max_tokens) == (reference.picture_side, reference.max_tokens)
    found = encoder.encode_images(pictures)
    assert cosines(found, reference.encode_images(pictures)).min() >= WORST[precision]
    texts = [*TEXTS, "", "猫", "word " * 300]
    assert cosines(encoder.encode_texts(texts), reference.encode_texts(texts)).min() >= WORST[precision]
    assert (found != exported[kind].encode_images(pictures)).any(), "the export itself must not have answered"


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 37])
def test_a_padded_tail_gives_the_rows_of_a_whole_batch(sources, exported, pictures, count):
    encoder = tiny_openclip.on_torch(sources["classic_clip"], ["cpu"], device_batch=8)
    expected = exported["classic_clip"].encode_images(pictures)
    assert cosines(encoder.encode_images(pictures), expected).min() >= 0.9999
    # The slots now hold what is left of those pictures.
    assert cosines(encoder.encode_images(pictures[:count]), expected[:count]).min() >= 0.9999
    texts = exported["classic_clip"].encode_texts(TEXTS[:count])
    assert cosines(encoder.encode_texts(TEXTS[:count]), texts).min() >= 0.9999


def test_few_shapes_reach_the_tower(sources, pictures):
    encoder, seen = hungry(sources["classic_clip"], room=99, device_batch=16)
    prepared = [encoder.preprocess(picture) for picture in pictures]
    for count in range(1, 38):
        encoder.encode_pixels(prepared[:count])
    assert set(seen) == {1, 2, 4, 8, 16}


def test_several_replicas_share_the_calls_and_keep_the_order(sources, exported, pictures):
    encoder = tiny_openclip.on_torch(sources["siglip_like"], ["cpu", "cpu"], device_batch=4)
    assert encoder.streams == 4
    prepared = [encoder.preprocess(picture) for picture in pictures]
    expected = exported["siglip_like"].encode_pixels(prepared)
    slices = [slice(start, start + 9) for start in range(0, 36, 3)] * 4
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda part: encoder.encode_pixels(prepared[part]), slices))
    for part, rows in zip(slices, found, strict=True):
        assert cosines(rows, expected[part]).min() >= 0.9999


@pytest.mark.parametrize("room", [1, 3, 5])
def test_running_out_of_memory_halves_the_batch(sources, exported, pictures, room, caplog):
    encoder, seen = hungry(sources["classic_clip"], room, device_batch=16)
    with caplog.at_level(logging.WARNING, logger="clipsearch"):
        found = encoder.encode_images(pictures)
    assert cosines(found, exported["classic_clip"].encode_images(pictures)).min() >= 0.9999
    assert [record.message for record in caplog.records if "memory" in record.message] == [caplog.records[0].message]
    seen.clear()
    encoder.encode_images(pictures)
    assert max(seen) <= room, "a size that did not fit is not tried again at once"


def test_threads_that_run_out_of_memory_together_lose_no_row(sources, exported, pictures):
    encoder, _ = hungry(sources["classic_clip"], 2, device_batch=32)
    expected = exported["classic_clip"].encode_images(pictures)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: encoder.encode_images(pictures), range(8)):
            assert cosines(rows, expected).min() >= 0.9999


def test_a_device_that_holds_no_single_picture_is_an_error_that_says_so(sources, pictures):
    encoder, _ = hungry(sources["classic_clip"], 0)
    with pytest.raises(EncoderError, match=r"even one input of .*: tried to allocate 20\.00 GiB"):
        encoder.encode_images(pictures)


def test_a_failing_batch_is_our_error_and_leaves_the_encoder_usable(sources, exported, pictures):
    encoder = tiny_openclip.on_torch(sources["classic_clip"], ["cpu"], device_batch=4)
    prepared = [encoder.preprocess(picture) for picture in pictures[:12]]
    bad = [*prepared[:9], (np.zeros((1, 1, 3), np.uint8),), *prepared[9:]]
    for _ in range(encoder.streams + 1):
        with pytest.raises(EncoderError, match="failed on cpu"):
            encoder.encode_pixels(bad)
    assert cosines(encoder.encode_pixels(prepared), exported["classic_clip"].encode_pixels(prepared)).min() >= 0.9999


def test_a_precision_that_changes_the_vectors_is_not_used(sources, monkeypatch):
    def load(precision):
        encoder = tiny_openclip.on_torch(sources["classic_clip"], ["cpu"], precision=precision)
        encoder._reference.model.visual.proj.data *= 1e6  # more than float16 can hold
        return encoder

    encoder = load("fp16")
    for _ in range(2):
        with pytest.raises(EncoderError, match=r"cosine of nan .*--precision fp32"):
            encoder.encode_texts(["a"])
    monkeypatch.setattr(torch_runtime, "choices", lambda *_: [FP16, FP32])
    assert np.isfinite(load("auto").encode_images([noise_picture(0, (50, 50))])).all()


class Small(torch.nn.Module):
    """A tower of one layer."""

    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(6, width)

    def forward(self, values):
        return torch.nn.functional.normalize(self.layer(values), dim=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("works", [False, True])
def test_a_tower_is_compiled_when_that_pays_and_runs_as_it_is_where_that_fails(works, monkeypatch, tmp_path):
    import torch._inductor.config as inductor

    compiler = next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if works and compiler is None:
        pytest.skip("needs a C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    tower, values = Tower(Small(3 + works), compile_after=10.0), torch.randn(8, 6)
    with torch.inference_mode():
        launch = Launcher(tower, None)
        expected = launch(values, is_full=True)
        tower.worked(11)
        assert torch.allclose(launch(values[:3], is_full=False), expected[:3], atol=1e-5) and not tower.is_compiled
        cxx = (None, compiler if works else "/nowhere/c++")
        with inductor.patch({"cpp.cxx": cxx, "cpp_cache_precompile_headers": False}):
            assert torch.allclose(launch(values, is_full=True), expected, atol=1e-5)
    assert tower.is_compiled == works
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(torch.inference_mode()(lambda _: Launcher(tower, None)(values, is_full=True)), range(8)):
            assert torch.allclose(rows, expected, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled, "other threads compiled it again"


@pytest.mark.parametrize("kind", [*KINDS, "roberta_clip"])
def test_attention_in_one_kernel_is_that_of_open_clip(sources, tmp_path, kind):
    source = sources.get(kind) or tiny_openclip.roberta_clip(tmp_path)
    reference = openclip.fetch(f"local-dir:{source}", offline=True)
    picture = reference.picture
    pixels = torch.randint(0, 256, (5, picture.height, picture.width, 3), dtype=torch.uint8)
    ids = reference.tokenizer(TEXTS[:5])
    expected = ImageTower(reference.model, picture), text_tower(reference.model)
    for dtype, worst in ((torch.float32, 0.999999), (torch.bfloat16, 0.999)):
        towers = build_towers(reference.model, picture, torch.device("cpu"), dtype)
        assert any(isinstance(module, SelfAttention) for module in towers[0].modules())
        with torch.inference_mode():
            for tower, reference_tower, values in zip(towers, expected, (pixels, ids), strict=True):
                assert cosines(tower(values).numpy(), reference_tower(values).numpy()).min() >= worst
    assert not any(isinstance(module, SelfAttention) for module in reference.model.modules())


def test_a_whole_run_gives_the_vectors_of_the_export(sources, exported, tmp_path):
    photos(tmp_path / "photos", 40)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tmp_path / "photos" / "note.txt").write_text("two green boats on the beach")
    encoder = tiny_openclip.on_torch(sources["classic_clip"], ["cpu", "cpu"], device_batch=4)
    settings = Settings(threads=2, offline=True, batch_size=8)
    assert encoder.streams == 4
    ours = index(tmp_path / "one", tmp_path / "photos", encoder=encoder, settings=settings)
    theirs = index(tmp_path / "two", tmp_path / "photos", encoder=exported["classic_clip"], settings=settings)
    assert (ours.added, ours.encoded, len(ours.failed)) == (theirs.added, theirs.encoded, len(theirs.failed))
    found, expected = (read_state(tmp_path / name) for name in ("one", "two"))
    for state in (found, expected):
        state.pins.pop("library_id")
    assert found.pins == expected.pins and found.live.keys() == expected.live.keys() and len(found.live) == 41
    for path, entry in found.live.items():
        one, other = (np.frombuffer(e.vectors, "<f2").astype(np.float32) for e in (entry, expected.live[path]))
        assert one @ other >= 0.999, path


def test_the_library_of_one_runtime_goes_on_with_the_other(sources, exported, tmp_path):
    photos(tmp_path / "photos", 3)
    index(tmp_path / "lib", tmp_path / "photos", encoder=exported["siglip_like"])
    photo(tmp_path / "photos" / "new.jpg", 77)
    encoder = tiny_openclip.on_torch(sources["siglip_like"], ["cpu"])
    report = index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    assert (report.added, report.unchanged) == (1, 3)


@pytest.fixture
def one_device(monkeypatch):
    """The processor in the place of a GPU."""
    monkeypatch.setattr(accelerators, "find_devices", lambda compute: () if compute.device == "cpu" else ("cpu",))


def load(source, **options):
    return registry.load(f"openclip:local-dir:{source}", threads=1, offline=True, **options)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_device_gets_torch_and_the_same_fingerprint(one_device, sources, exported, device):
    assert isinstance(load(sources["siglip_like"], device="cpu"), OnnxEncoder)
    encoder = load(sources["siglip_like"], device=device, precision="bf16")
    assert isinstance(encoder, TorchEncoder) and encoder.fingerprint == exported["siglip_like"].fingerprint


@pytest.mark.slow
def test_weights_that_changed_or_are_gone_leave_the_export(one_device, tmp_path, caplog):
    source = tiny_openclip.classic_clip(tmp_path / "model")
    expected = load(source, device="cpu").fingerprint
    tiny_openclip.classic_clip(source, seed=1)
    for message in ("was prepared from other weights", "does not exist"):
        with pytest.raises(EncoderUnavailableError, match=message):
            load(source, device="cuda", fingerprint=expected)
        caplog.clear()
        encoder = load(source, device="auto", fingerprint=expected)
        assert isinstance(encoder, OnnxEncoder) and encoder.fingerprint == expected
        warned = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warned) == 1 and message in warned[0].getMessage()
        shutil.rmtree(source, ignore_errors=True)


def test_the_builtin_encoder_says_that_it_has_no_other_path():
    assert registry.load("builtin-small", threads=1, offline=True, device="auto").streams == 1
    with pytest.raises(EncoderUnavailableError, match="processor only"):
        registry.load("builtin-small", threads=1, offline=True, device="cuda")


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_an_error_before_anything_is_made(sources, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA GPU")
    photos(tmp_path / "photos", 1)
    model = f"local-dir:{sources['classic_clip']}"
    arguments = ("index", tmp_path / "photos", "--library", tmp_path / "lib", "--model", model, "--device")
    ran = run_cli(*arguments, "cuda:1")
    assert ran.code == 6 and "no cuda:1 here: torch sees no GPU" in ran.err and "--device cpu" in ran.err, ran
    assert not (tmp_path / "lib").exists()
    ran = run_cli(*arguments, "cuda", "--precision", "int8")
    assert ran.code == 2 and "int8" in ran.err, ran
    with pytest.raises(EncoderUnavailableError, match="torch sees"):
        accelerators.find_devices(Compute("cuda", "auto", 1))


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "mps"])
def test_int8_on_a_gpu_is_refused(device):
    with pytest.raises(InvalidInputError, match="int8"):
        Compute(device, "int8", 1)


def test_without_a_gpu_nothing_imports_torch(sources):
    if accelerators._may_have_gpu():
        pytest.skip("needs a machine without the driver of a GPU")
    name = tiny_openclip.export(sources["classic_clip"])[1].name
    code = (
        "import sys; from clipsearch.encoders import registry; "
        f"e = registry.load({name!r}, threads=1, offline=True, device='auto'); "
        "e.encode_texts(['a cat']); assert 'torch' not in sys.modules; print(type(e).__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "OnnxEncoder"


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_vectors_of_the_export(sources, exported, pictures, kind, precision):
    tiny_openclip.require_gpu()
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    encoder = tiny_openclip.on_torch(sources[kind], devices, precision=precision, device_batch=8)
    expected = exported[kind].encode_images(pictures), exported[kind].encode_texts(TEXTS)
    with ThreadPoolExecutor(encoder.streams + 2) as pool:
        for rows in pool.map(lambda _: encoder.encode_images(pictures), range(20)):
            assert cosines(rows, expected[0]).min() >= 0.999
        for rows in pool.map(lambda _: encoder.encode_texts(TEXTS), range(20)):
            assert cosines(rows, expected[1]).min() >= 0.999


def test_a_gpu_without_memory_gets_smaller_batches(sources, exported, pictures):
    tiny_openclip.require_gpu()
    encoder = tiny_openclip.on_torch(sources["classic_clip"], ["cuda:0"], precision="fp32", device_batch=4096)
    encoder.encode_images(pictures[:1])
    many = [encoder.preprocess(picture) for picture in pictures] * 120
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**25) / total)
    try:
        rows = encoder.encode_pixels(many)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    expected = exported["classic_clip"].encode_images(pictures)
    assert cosines(rows, np.tile(expected, (120, 1))).min() >= 0.999
