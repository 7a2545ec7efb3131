"""Faults that a GPU shows: it is lost, it lacks memory, torch has no kernel for it."""

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch

from clipsearch.config import Settings
from clipsearch.encoders import accelerators, device_errors, registry
from clipsearch.encoders.compute import Compute
from clipsearch.encoders.device_batch import GROW_AFTER, DeviceBatch
from clipsearch.encoders.onnx_runtime import OnnxEncoder
from clipsearch.encoders.torch_compiling import Tower
from clipsearch.encoders.torch_lanes import Lane
from clipsearch.errors import DeviceError, EncoderUnavailableError
from tests.support.libraries import index, photos
from tests.support.pictures import noise_picture
from tests.support.state import read_state
from tests.support.vectors import cosines
from tests.support.watched_tower import watched

pytestmark = pytest.mark.usefixtures("one_thread")

LOST = (
    "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: unspecified launch failure",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "HIP error: device lost",
    "CUDA error: unknown error",
)
FULL = (
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "HIP error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "HIP error: hipErrorOutOfMemory",
    "MPS backend out of memory (MPS allocated: 8.87 GB)",
    "Error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
)
OTHERS = (
    "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)",
    "CUDA error: invalid argument",
    "expected scalar type Half but found Float",
)


@pytest.fixture(scope="module")
def source(models):
    return models.source("classic_clip")


@pytest.fixture(scope="module")
def reference(models):
    return OnnxEncoder(*models.export("classic_clip"), threads=2)


@pytest.fixture(scope="module")
def pictures():
    return [noise_picture(seed, (60 + seed, 90 - seed)) for seed in range(12)]


@pytest.mark.parametrize("message", LOST + FULL + OTHERS)
def test_errors_are_told_apart(message):
    error = RuntimeError(message)
    assert device_errors.is_out_of_memory(error) == (message in FULL)
    assert device_errors.is_lost(error, torch.device("cpu")) == (message in LOST)


def test_a_device_on_which_nothing_runs_any_more_is_lost_whatever_it_said(monkeypatch):
    def fail(device):
        raise RuntimeError("CUDA error: some new words")

    monkeypatch.setattr(device_errors, "check_device", fail)
    assert device_errors.is_lost(RuntimeError("CUDA error: some new words"), torch.device("cpu"))
    assert not device_errors.is_lost(ValueError("an input of another shape"), torch.device("cpu"))


class Loss:
    """A device that is lost while it computes its nth batch, and stays so."""

    def __init__(self, after, message=LOST[0]):
        self.left, self.message = after, message

    def __call__(self, values):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError(self.message)


@pytest.mark.parametrize("batches", [0, 3])
def test_a_lost_device_ends_the_run_and_no_file_is_to_blame(source, reference, tmp_path, batches):
    folder, library = tmp_path / "photos", tmp_path / "lib"
    photos(folder, 30)
    settings = Settings(threads=2, offline=True, batch_size=4)
    encoder = watched(source, Loss(1 + batches), device_batch=4)  # the first batch compares it with the reference
    with pytest.raises(DeviceError, match=r"cpu was lost .*device-side assert triggered\. .*goes on from there"):
        index(library, folder, encoder=encoder, settings=settings)
    before = read_state(library)
    assert not before.failures and (0 < len(before.live) < 30) == bool(batches)
    report = index(library, folder, encoder=reference, settings=settings)
    assert not report.failed and len(read_state(library).live) == 30
    assert report.unchanged == len(before.live)


def test_captions_that_a_lost_device_left_are_encoded_by_the_next_run(source, reference, tmp_path):
    folder, library = tmp_path / "photos", tmp_path / "lib"
    for path in photos(folder, 4):
        path.with_suffix(".txt").write_text(f"two boats, number {path.stem}")
    encoder = watched(source, Loss(99))
    encoder.encode_images([noise_picture(0, (50, 50))])

    def fail(texts):
        raise DeviceError("cuda:0 was lost")

    encoder.encode_texts = fail
    with pytest.raises(DeviceError, match="cuda:0 was lost"):
        index(library, folder, encoder=encoder)
    report = index(library, folder, encoder=reference)
    assert not report.failed
    assert all(entry.caption_rows for entry in read_state(library).live.values())


def test_a_device_without_memory_for_one_input_ends_the_run_too(source, tmp_path):
    photos(tmp_path / "photos", 1)
    with pytest.raises(DeviceError, match=r"even one input of .*: CUDA error: CUBLAS_STATUS_ALLOC_FAILED"):
        index(tmp_path / "lib", tmp_path / "photos", encoder=watched(source, Loss(0, FULL[0])))


@pytest.mark.parametrize("message", FULL)
def test_any_kind_of_memory_that_runs_out_halves_the_batch(source, reference, pictures, message):
    def room_for_three(values):
        if len(values) > 3:
            raise RuntimeError(message)

    encoder = watched(source, room_for_three, device_batch=8)
    encoder.encode_texts(["a"])  # compares it with the reference, four pictures at a time
    assert cosines(encoder.encode_images(pictures), reference.encode_images(pictures)).min() >= 0.9999


def test_a_batch_grows_again_after_successes_and_waits_longer_after_each_failure(source, reference, pictures):
    seen, room = [], 4
    prepared = [reference.preprocess(picture) for picture in pictures[:8]] * 200
    expected = np.tile(reference.encode_images(pictures[:8]), (200, 1))

    def before(values):
        seen.append(len(values))
        if len(values) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    encoder = watched(source, before, device_batch=8)
    assert cosines(encoder.encode_pixels(prepared), expected).min() >= 0.9999
    tries = [number for number, size in enumerate(seen) if size == 8]
    waits = [other - one - 1 for one, other in pairwise(tries)]
    assert len(waits) >= 2 and all(other > 1.9 * one for one, other in pairwise(waits))
    assert waits[0] >= GROW_AFTER
    room = 8
    encoder.encode_pixels(prepared * 2)
    assert seen[-2] == 8, "it goes back to where it began"


def test_a_batch_grows_no_further_than_it_began_and_only_by_full_ones():
    batch = DeviceBatch(8, "model", grow_after=2)
    for _ in range(9):
        batch.succeed(8)
    assert batch.size == 8
    batch.halve(8, "full")
    batch.halve(8, "full")  # another thread, for the same reason
    assert batch.size == 4
    for _ in range(9):
        batch.succeed(3)
    assert batch.size == 4
    for waits in (2, 4, 8):  # longer after each try that fails
        for _ in range(waits):
            assert batch.size == 4
            batch.succeed(4)
        assert batch.size == 8
        batch.halve(8, "full")


def test_threads_whose_batches_shrink_and_grow_lose_no_row(source, reference, pictures):
    calls = []

    def before(values):
        calls.append(len(values))
        if len(values) > 2 and len(calls) % 3 == 0:
            raise torch.OutOfMemoryError("CUDA out of memory")

    encoder = watched(source, before, device_batch=8)
    encoder.encode_images(pictures[:1])
    expected = reference.encode_images(pictures)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: encoder.encode_images(pictures), range(24)):
            assert cosines(rows, expected).min() >= 0.9999


def test_memory_for_half_a_batch_is_enough_for_a_single_input(monkeypatch):
    batch, zeros = DeviceBatch(8, "model"), torch.zeros
    lane = Lane(Tower(torch.nn.Identity(), 9e9), torch.device("cpu"), batch, (3,), torch.float32, 3)

    def little(count, **options):
        if count > 4 * 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return zeros(count, **options)

    monkeypatch.setattr(torch, "zeros", little)
    row = np.ones((1, 3), np.float32)
    assert np.array_equal(lane.encode(iter(row)), row) and batch.size == 4


def test_a_last_batch_of_one_input_that_finds_no_memory_goes_on_in_smaller_slots(source, reference, pictures):
    held = []

    def before(values):
        held.append(len(values))
        if len(values) == 1 and held.count(1) == 1:  # while the slots of whole batches are held
            raise torch.OutOfMemoryError("CUDA out of memory")

    encoder = watched(source, before, device_batch=8)
    encoder.encode_images(pictures[:8])
    held.clear()
    rows = encoder.encode_images(pictures[:9])
    assert cosines(rows, reference.encode_images(pictures[:9])).min() >= 0.9999


class Stream:
    """A stream that only tells that it was waited for."""

    def __init__(self, waited, name):
        self.waited, self.name = waited, name

    def synchronize(self):
        self.waited.append(self.name)
        raise RuntimeError("what failed was reported before")


def test_a_lane_settles_its_upload_too():
    lane = Lane(Tower(torch.nn.Identity(), 9e9), torch.device("cpu"), DeviceBatch(4, "m"), (3,), torch.float32, 3)
    waited = []
    lane._upload, lane._compute = Stream(waited, "upload"), Stream(waited, "compute")
    lane._settle()
    assert sorted(waited) == ["compute", "upload"]


@pytest.fixture
def gpus(monkeypatch):
    """Machines with GPUs, of which torch can use some."""

    def pretend(there, failing, trouble=""):
        def check_device(device):
            if device in failing:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

        monkeypatch.setattr(accelerators, "_may_have_gpu", lambda: True)
        monkeypatch.setattr(accelerators, "_list_devices", lambda: (there, trouble))
        monkeypatch.setattr(device_errors, "check_device", check_device)

    return pretend


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_auto_leaves_a_gpu_that_torch_cannot_use_with_one_warning(gpus, models, caplog):
    gpus(["cuda:0"], {"cuda:0"})
    encoder = registry.load(models.export("classic_clip")[1].name, threads=1, offline=True, device="auto")
    assert isinstance(encoder, OnnxEncoder)
    (warning,) = warnings_of(caplog)
    assert "cuda:0: RuntimeError: CUDA error: no kernel image" in warning and "the processor encodes" in warning


def test_the_other_gpus_are_used(gpus, caplog):
    gpus(["cuda:0", "cuda:1"], {"cuda:0"})
    for asked in ("auto", "cuda"):
        caplog.clear()
        assert accelerators.find_devices(Compute(asked)) == ("cuda:1",)
        assert len(warnings_of(caplog)) == 1
    assert accelerators.find_devices(Compute("cuda:1")) == ("cuda:1",)
    assert len(warnings_of(caplog)) == 1, "whoever asks for one by name is not bothered with others"


@pytest.mark.parametrize("asked", ["cuda", "cuda:0"])
def test_a_gpu_asked_for_by_name_that_torch_cannot_use_is_an_error(gpus, asked, models, caplog):
    gpus(["cuda:0"], {"cuda:0"})
    with pytest.raises(EncoderUnavailableError, match=rf"cannot use {asked} .*no kernel image.*--device cpu"):
        registry.load(models.export("classic_clip")[1].name, threads=1, offline=True, device=asked)
    assert not warnings_of(caplog)


def test_a_driver_that_torch_cannot_use_is_a_warning_and_no_driver_none(gpus, caplog):
    gpus([], set())
    assert accelerators.find_devices(Compute("auto")) == () and not warnings_of(caplog)
    gpus([], set(), "CUDA initialization: The NVIDIA driver on your system is too old")
    assert accelerators.find_devices(Compute("auto")) == ()
    assert len(warnings_of(caplog)) == 1 and "too old" in warnings_of(caplog)[0]
    with pytest.raises(EncoderUnavailableError, match=r"torch sees no GPU .*too old"):
        accelerators.find_devices(Compute("cuda"))


def test_what_torch_says_of_a_driver_is_kept(monkeypatch):
    def is_available():
        import warnings

        warnings.warn("CUDA initialization: the driver is too old.\nUpdate it", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert accelerators._list_devices() == ([], "CUDA initialization: the driver is too old")


def test_the_tiny_kernel_runs_on_the_processor_and_on_no_device_that_is_not_there():
    device_errors.check_device("cpu")
    with pytest.raises((RuntimeError, AssertionError)):
        device_errors.check_device("cuda:99")
