"""Data sets in a library: what is indexed, what a second run costs, what goes and what stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest

from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store.forget import forget
from clipsearch.store.library import Library
from clipsearch.store.records import RootKind
from clipsearch.store.summary import summarise
from clipsearch.where import parse_where
from indexer.data_sets import OptionsChange, make_options
from indexer.pipeline import IndexOptions
from tests.support.cli import run_cli
from tests.support.datasets import picture, samples, tar_of, write_table
from tests.support.libraries import index, photos
from tests.support.web import serving


@pytest.fixture
def library(tmp_path):
    return tmp_path / "library"


def items(library, encoder):
    with SearchEngine(Library(library), encoder=encoder) as engine:
        return {item.key: item for item in engine.find(Filter())}


def texts(folder, count, name="texts.jsonl"):
    rows = [{"id": f"t{n}", "text": f"a text about {n}", "number": n} for n in range(count)]
    return str(write_table(folder / name, rows))


def test_a_table_of_texts_is_found_and_filtered(tmp_path, library, encoder):
    report = index(library, texts(tmp_path, 20), encoder=encoder)
    assert (report.added, report.encoded, report.failed) == (20, 20, [])
    with SearchEngine(Library(library), encoder=encoder) as engine:
        hits = engine.search("a text about 7", k=3, where="number < 10")
        assert hits[0].key == "t7" and hits[0].item.metadata["number"] == 7
        assert len(engine.search("a text", k=50, where="number >= 15")) == 5
        assert engine.get("t3").key == "t3"
