"""One word a thing: no retired identifier comes back, and the glossary explains the terms that the code uses."""

import io
import re
import tokenize
from pathlib import Path

from tests.support.paths import ROOT

RETIRED = {
    "Asked", "Background", "BuildProgress", "CopyProgress", "SilentBuild",
    "Composed", "Neighbours", "Proposed", "Resident",
    "Retrieved", "Scored", "Trim", "Wanted", "before_fall_off", "by_words", "halves", "keep_promise",
    "name_hits", "perceptual", "reach_of", "rows_of", "standing",
}  # fmt: skip
CODE = [
    path
    for folder in ("clipsearch", "indexer", "tests", "benchmarks", "tools")
    for path in (ROOT / folder).rglob("*.py")
]
GLOSSARY = re.compile(r"^\| (?P<term>[^|]+) \| (?P<meaning>[^|]+) \| (?P<code>[^|]*) \|$", re.MULTILINE)


def identifiers(path: Path) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def glossary() -> dict[str, str]:
    """Return the names in code of each term of the guide's glossary."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = GLOSSARY.finditer(text[text.index("\n## Glossary\n") :])
    return {row["term"]: row["code"] for row in rows if row["term"] not in ("term", "---")}


def test_no_retired_identifier():
    assert len(CODE) > 300
    found = {path.relative_to(ROOT).as_posix(): sorted(identifiers(path) & RETIRED) for path in CODE}
    assert not {path: names for path, names in found.items() if names}


def test_the_glossary_names_what_the_code_has():
    known = set().union(*map(identifiers, CODE))
    terms = glossary()
    assert len(terms) >= 30 and list(terms) == sorted(terms, key=str.casefold)
    for term, code in terms.items():
        names = re.findall(r"`([\w.]+)`", code)
        assert names or code.strip() in ("", "–"), term
        for name in names:
            assert set(name.split(".")) <= known, f"{term}: there is no {name}"
