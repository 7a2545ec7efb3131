"""Where an encoder runs, and what is refused."""

import pytest

from clipsearch.config import load_settings
from clipsearch.encoders.compute import Compute
from clipsearch.errors import InvalidInputError
from tests.support.cli import run_cli
from tests.support.libraries import photos


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15", "mps"])
def test_devices(device):
    assert Compute(device, "auto", 1).device == device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cpu:0", "CUDA", "auto\n"])
def test_other_devices_are_refused(device):
    with pytest.raises(InvalidInputError, match="device"):
        Compute(device, "auto", 1)


@pytest.mark.parametrize(("precision", "threads"), [("fp64", 1), ("", 1), ("fp32", 0)])
def test_other_precisions_and_threads_are_refused(precision, threads):
    with pytest.raises(InvalidInputError):
        Compute("cpu", precision, threads)


@pytest.mark.slow
def test_a_word_that_means_nothing_is_refused_before_any_work(tmp_path):
    photos(tmp_path / "photos", 1)
    for options in (["--device", "gpu"], ["--precision", "fp64"], ["--batch-size", "few"], ["--batch-size", "-1"]):
        ran = run_cli("index", tmp_path / "photos", "--library", tmp_path / "lib", "--model", "builtin", *options)
        assert ran.code == 2 and options[1] in ran.err, ran
        assert not (tmp_path / "lib").exists()


def test_automatic_batches_and_numbers():
    assert load_settings({"batch_size": "auto"}).batch_size == 0
    assert load_settings({"batch_size": "12"}).batch_size == 12
