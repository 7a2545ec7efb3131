"""The modules of the page: what is fetched first is named in index.html, so that no module waits for another."""

import re

from clipsearch.server.page_files import read_page_files
from tests.support.paths import ROOT

FOLDER = ROOT / "clipsearch" / "server" / "page"
IMPORT = re.compile(r'^(?:import|export)\b[^;]*?\bfrom "\./([\w.]+)"', re.MULTILINE)
PRELOAD = re.compile(r'<link rel="modulepreload" href="/page/([\w.]+)">')


def first_modules():
    """Every module that app.js imports, at once or through others."""
    found, left = set(), ["app.js"]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += IMPORT.findall((FOLDER / name).read_text(encoding="utf-8"))
    return found


def test_the_modules_of_the_start_are_fetched_at_once():
    named = PRELOAD.findall((FOLDER / "index.html").read_text(encoding="utf-8"))
    assert named == sorted(first_modules() - {"app.js"})


def test_the_first_load_is_small():
    files = read_page_files()
    first = {*first_modules(), "index.html", "style.css", "views.css", "theme.js", "words_en.js", "icon.svg"}
    assert sum(len(files[name].packed or files[name].data) for name in first) < 60_000
