"""What `import clipsearch` promises."""

import dataclasses
import inspect
import re
import subprocess
import sys

import pytest

import clipsearch

PUBLIC = [
    "AccessDeniedError",
    "AddReport",
    "AnnIndexError",
    "AsyncClient",
    "Client",
    "ClipSearchError",
    "Cluster",
    "Collection",
    "EncoderError",
    "EncoderMismatchError",
    "EncoderUnavailableError",
    "Explanation",
    "Facets",
    "Filter",
    "Hit",
    "IndexReport",
    "Indexed",
    "InvalidInputError",
    "Item",
    "JointEngine",
    "LibraryError",
    "LibraryLockedError",
    "LibraryNotFoundError",
    "Listing",
    "Match",
    "Matches",
    "MediaError",
    "Modality",
    "Page",
    "Passage",
    "Picture",
    "PictureError",
    "PictureInfo",
    "Places",
    "Query",
    "QuerySyntaxError",
    "Record",
    "Results",
    "SavedAnswer",
    "SavedSearch",
    "SchemaVersionError",
    "SearchEngine",
    "ServerBusyError",
    "ServerError",
    "Settings",
    "StoreCorruptError",
    "Suggestion",
    "TermScore",
    "Text",
    "TextError",
    "TextLine",
    "WordMatch",
    "group_by_day",
    "load_settings",
    "open",
    "parse",
]
HEAVY = {"torch", "faiss", "sqlalchemy", "click", "numpy", "onnxruntime", "PIL", "open_clip", "transformers", "httpx2"}


def test_all_is_what_is_documented():
    assert clipsearch.__all__ == PUBLIC == sorted(PUBLIC)


def test_every_public_name_is_there_and_documented():
    for name in clipsearch.__all__:
        assert getattr(clipsearch, name).__doc__, name


def sections(documented: object) -> set[str]:
    """The sections of a docstring in Google form."""
    return set(
        re.findall(r"^(Args|Attributes|Returns|Raises|Example):$", inspect.getdoc(documented) or "", re.MULTILINE)
    )


def test_docstrings_have_the_sections_of_what_they_describe():
    engine = clipsearch.SearchEngine
    for function in (
        clipsearch.open,
        clipsearch.parse,
        clipsearch.load_settings,
        engine.search,
        engine.search_batch,
        engine.find,
        engine.embed,
        engine.thumbnail,
    ):
        assert {"Args", "Returns", "Raises"} <= sections(function), function
        described = inspect.getdoc(function) or ""
        for name in inspect.signature(function).parameters:
            assert name == "self" or re.search(rf"^ +{name}: ", described, re.MULTILINE), f"{function} {name}"
    assert {"Example"} <= sections(clipsearch.open) & sections(engine.search)
    kinds = {name for name in clipsearch.__all__ if dataclasses.is_dataclass(getattr(clipsearch, name))}
    assert {"Filter", "Hit", "Item", "Query", "Results", "Settings"} <= kinds
    for name in kinds:
        kind = getattr(clipsearch, name)
        described = inspect.getdoc(kind) or ""
        assert "Attributes" in sections(kind), name
        for field in dataclasses.fields(kind):
            assert re.search(rf"^ +{field.name}: ", described, re.MULTILINE), f"{name}.{field.name}"


def test_importing_loads_nothing_heavy():
    script = "import sys, clipsearch; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_every_error_is_one_of_ours_with_an_exit_code():
    codes = {name: getattr(clipsearch, name).exit_code for name in clipsearch.__all__ if name.endswith("Error")}
    assert set(codes.values()) == {1, 2, 3, 4, 5, 6}
    assert all(issubclass(getattr(clipsearch, name), clipsearch.ClipSearchError) for name in codes)


def test_what_is_printed_is_short():
    import numpy as np

    record = clipsearch.Record("a", image=b"x" * 10_000, vector=np.zeros(5000))
    assert repr(record).startswith("Record(id='a', image=b'xx") and len(repr(record)) < 300
    item = clipsearch.Item(1, "/photos/cat.jpg", clipsearch.Modality.IMAGE, 0, 0, "")
    hits = tuple(clipsearch.Hit(i, item, 0.5, sure, item.modality) for i, sure in ((3, 0.99), (4, None)))
    lines = str(clipsearch.Results("a cat", "builtin-small", "/photos", hits, True, offset=2)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["3", "0.500", "99%", "'/photos/cat.jpg'"],
        ["4", "0.500", "-", "'/photos/cat.jpg'"],
    ]


def test_completion_offers_the_public_names_alone():
    assert {name for name in dir(clipsearch) if not name.startswith("_")} == set(clipsearch.__all__)


@pytest.mark.parametrize("name", ["x" * 300, "not utf-8"])
def test_a_config_file_that_cannot_be_read_is_one_clear_error(tmp_path, monkeypatch, name):
    path = tmp_path / name
    if len(name) < 256:
        path.write_bytes(b"\xff")
    monkeypatch.setenv("CLIPSEARCH_CONFIG", str(path))
    with pytest.raises(clipsearch.InvalidInputError, match="cannot be read"):
        clipsearch.load_settings()
