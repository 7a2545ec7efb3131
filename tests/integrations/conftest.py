"""What the tests of several integrations share."""

import pytest

from tests.support.libraries import index, photo, photos


@pytest.fixture
def no_network(monkeypatch):
    """Neither telemetry nor tokenizers nor anything else of a framework may reach for a network."""

    def refuse(*unused):
        raise AssertionError("a test reaches for the network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture
def manual(tmp_path, encoder, monkeypatch):
    """The folder in which the manual's code runs: a library of five photographs, and a picture to search by."""
    photos(tmp_path / "photos", 5)
    photo(tmp_path / "cat.jpg", 9)
    index(tmp_path / "photos" / ".clipsearch", tmp_path / "photos", encoder=encoder)
    monkeypatch.setenv("CLIPSEARCH_MODEL", "builtin-small")
    monkeypatch.chdir(tmp_path)
    return tmp_path
