"""What `import clipsearch` promises."""

import subprocess
import sys

import clipsearch

PUBLIC = [
    "AnnIndexError",
    "ClipSearchError",
    "EncoderError",
    "EncoderMismatchError",
    "EncoderUnavailableError",
    "Filter",
    "Hit",
    "Indexed",
    "InvalidInputError",
    "Item",
    "LibraryError",
    "LibraryLockedError",
    "LibraryNotFoundError",
    "Listing",
    "MediaError",
    "Modality",
    "Passage",
    "Picture",
    "PictureError",
    "PictureInfo",
    "Query",
    "QuerySyntaxError",
    "Results",
    "SchemaVersionError",
    "SearchEngine",
    "Settings",
    "StoreCorruptError",
    "Text",
    "TextError",
    "load_settings",
    "open",
    "parse",
]
HEAVY = {"torch", "faiss", "sqlalchemy", "click", "numpy", "onnxruntime", "PIL", "open_clip", "transformers"}


def test_all_is_what_is_documented():
    assert clipsearch.__all__ == PUBLIC == sorted(PUBLIC)


def test_every_public_name_is_there_and_documented():
    for name in clipsearch.__all__:
        assert getattr(clipsearch, name).__doc__, name


def test_importing_loads_nothing_heavy():
    script = "import sys, clipsearch; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_every_error_is_one_of_ours_with_an_exit_code():
    codes = {name: getattr(clipsearch, name).exit_code for name in clipsearch.__all__ if name.endswith("Error")}
    assert set(codes.values()) == {1, 2, 3, 4, 5, 6}
    assert all(issubclass(getattr(clipsearch, name), clipsearch.ClipSearchError) for name in codes)
