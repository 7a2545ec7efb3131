"""The words of the page: the same in both languages, and all that is asked for."""

import re

from tests.support.paths import ROOT

FOLDER = ROOT / "clipsearch" / "server" / "page"
WORD = re.compile(r'^  (\w+): (?:"((?:[^"\\]|\\.)*)"|\{(.*)\}),$', re.MULTILINE)
ASKED = re.compile(r'\bt\((?:\w+(?:\.\w+)* \? )?"(\w+)"(?: : "(\w+)")?')


def words(language):
    """Each word by its key, as it stands in the file."""
    text = (FOLDER / f"words_{language}.js").read_text(encoding="utf-8")
    found = WORD.findall(text)
    assert len(found) == len([line for line in text.splitlines() if re.match(r"  \w+:", line)]), (
        "a line is not understood"
    )
    keys = [key for key, *_ in found]
    assert len(keys) == len(set(keys)), "a key stands twice"
    return {key: single or forms for key, single, forms in found}


def test_both_languages_have_the_same_words_with_the_same_values():
    english, chinese = words("en"), words("zh")
    assert english.keys() == chinese.keys()
    for key, word in english.items():
        assert set(re.findall(r"\{(\w+)\}", word)) == set(re.findall(r"\{(\w+)\}", chinese[key])), key
        assert word.strip() and chinese[key].strip()


def test_every_word_that_is_asked_for_is_there():
    known = words("en")
    for path in FOLDER.glob("*.js"):
        asked = {key for found in ASKED.findall(path.read_text(encoding="utf-8")) for key in found if key}
        assert asked <= known.keys(), path.name


def test_every_word_is_used():
    code = "".join(
        path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js") if not path.name.startswith("words_")
    )
    parts = ("job_", "report_", "problem_", "sort_")  # put together from what the server or the page calls them
    unused = [key for key in words("en") if not re.search(rf"\b{key}\b", code) and not key.startswith(parts)]
    assert unused == []


def test_the_page_is_small():
    from clipsearch.server.page_files import read_page_files

    files = read_page_files()
    sent = {name: len(each.packed or each.data) for name, each in files.items()}
    assert sum(sent.values()) < 103_000, sent
