"""Which number format a model computes in: the fastest one that keeps its vectors."""

import copy
import logging

import pytest
import torch

from clipsearch.encoders import precision, torch_runtime
from clipsearch.encoders.onnx_runtime import OnnxEncoder
from clipsearch.encoders.precision import BF16, FP16, FP32, TF32, choices
from tests.support import tiny_openclip
from tests.support.pictures import noise_picture
from tests.support.vectors import cosines

pytestmark = pytest.mark.usefixtures("one_thread")

LADDER = [BF16, FP16, TF32, FP32]
PICTURES = [noise_picture(seed, (60 + seed, 90 - seed)) for seed in range(5)]


@pytest.mark.parametrize(
    ("generations", "expected"),
    [
        ([(9, 0)], LADDER),
        ([(8, 0), (9, 0)], LADDER),
        ([(7, 5)], [FP16, FP32]),
        ([(9, 0), (7, 0)], [FP16, FP32]),
        ([(6, 1), (9, 0)], [FP32]),
    ],
)
def test_auto_tries_what_the_slowest_gpu_computes_fast(monkeypatch, generations, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generations[device.index])
    devices = [torch.device(f"cuda:{number}") for number in range(len(generations))]
    assert choices("auto", devices) == expected
    assert choices("bf16", devices) == [BF16]


def test_auto_on_other_devices():
    assert choices("auto", [torch.device("mps")]) == [FP16, FP32]
    assert choices("auto", [torch.device("cpu")]) == [FP32]


class Coarse(torch.nn.Module):
    """An image tower that gets other vectors in some of the formats."""

    def __init__(self, inner, fails, seen, is_copy=False):
        super().__init__()
        self.inner, self.fails, self.seen, self.is_copy = inner, fails, seen, is_copy

    def __deepcopy__(self, memo):
        return Coarse(copy.deepcopy(self.inner, memo), self.fails, self.seen, is_copy=True)

    def forward(self, values):
        rows = self.inner(values)
        if not self.is_copy:
            return rows
        tf32 = torch.backends.cuda.matmul.allow_tf32
        name = next(p.name for p in LADDER if p.dtype == values.dtype and p.tf32 == tf32)
        self.seen.append(name)
        return {"": rows, "nan": rows * torch.nan}.get(self.fails.get(name, ""), rows.roll(1, dims=1))


def coarse(folder, monkeypatch, fails):
    monkeypatch.setattr(torch_runtime, "choices", lambda *_: LADDER)
    encoder = tiny_openclip.on_torch(folder, ["cpu"])
    model = encoder._reference.model
    model.visual = Coarse(model.visual, fails, seen := [])
    return encoder, seen


@pytest.mark.parametrize(
    ("fails", "tried"),
    [
        ({}, ["bf16"]),
        ({"bf16": "wrong"}, ["bf16", "fp16"]),
        ({"bf16": "wrong", "fp16": "nan"}, ["bf16", "fp16", "tf32"]),
        ({"bf16": "wrong", "fp16": "wrong", "tf32": "wrong"}, ["bf16", "fp16", "tf32", "fp32"]),
    ],
)
def test_the_next_format_is_tried_where_one_changes_the_vectors(models, monkeypatch, caplog, fails, tried):
    encoder, seen = coarse(models.source("classic_clip"), monkeypatch, fails)
    with caplog.at_level(logging.INFO, logger="clipsearch"):
        found = encoder.encode_images(PICTURES)
    assert list(dict.fromkeys(seen)) == tried and seen[-1] == tried[-1]
    assert caplog.text.count("so it encodes in") == len(tried) - 1
    expected = OnnxEncoder(*models.export("classic_clip"), threads=1).encode_images(PICTURES)
    assert cosines(found, expected).min() >= 0.999
    assert not torch.backends.cuda.matmul.allow_tf32


def test_fp16_is_not_trusted_with_activations_near_its_largest_number(models, monkeypatch):
    encoder, seen = coarse(models.source("classic_clip"), monkeypatch, {"bf16": "wrong"})
    monkeypatch.setattr(torch_runtime, "FP16_ROOM", 0.5)
    encoder.encode_images(PICTURES)
    assert set(seen) == {"bf16", "tf32"}


def test_the_largest_activation_is_that_of_any_module():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.fill_(-1000.0)
        model[1].weight.fill_(0.0)
        with precision.watch_activations(model) as largest:
            model(torch.ones(4, 2))
        assert 1999 < max(largest) < 2002
        model(torch.full((1, 2), 1e6))
    assert max(largest) < 2002, "it no longer watches"


@pytest.mark.parametrize("already", [False, True])
def test_tf32_is_on_for_a_while_only(already):
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.allow_tf32 = already
        state = matmul.fp32_precision
        with pytest.raises(KeyError), precision.tf32_products():
            assert matmul.allow_tf32
            raise KeyError
        assert matmul.allow_tf32 == already and matmul.fp32_precision == state
    finally:
        matmul.allow_tf32 = False
        matmul.fp32_precision = before


def test_an_application_that_uses_the_newer_switch_keeps_it():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        with precision.tf32_products():
            assert matmul.fp32_precision == "tf32"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_a_setting_of_torch_that_already_allows_tf32_stays_as_it_is():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with precision.tf32_products():
            assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
