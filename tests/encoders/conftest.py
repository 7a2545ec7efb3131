"""Fixtures of the tests of encoders."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.tiny_openclip import Models


@pytest.fixture(scope="session")
def models(isolated_user: None, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Small open_clip models, made and prepared when first asked for; the others take what is there."""
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch: threads of threads wait for each other longer than they work on small models."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
