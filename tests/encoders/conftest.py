"""Fixtures of the tests of encoders."""

from __future__ import annotations

import pytest

from tests.support.tiny_openclip import Models


@pytest.fixture(scope="session")
def models(isolated_user: None, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Small open_clip models, made and prepared when first asked for; the others take what is there."""
    return Models(tmp_path_factory.mktemp("models"))
