"""Texts that no photograph has to do with: notes, READMEs, licences, documents and docstrings of what is installed."""

import ast
import random
import re
import sysconfig
import zlib
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAST, MOST = 150, 2000
"""Characters of a text; what is longer is cut."""

PACKAGES = ("numpy", "PIL", "sqlalchemy")
"""Besides the standard library, whose docstrings are taken."""

RARE = 20

NOTES = (
    "Tax return: ask the office for form 12b, pay before the end of May, keep the receipts of the last seven years.",
    "Passwords are in the safe. The router restarts with the small button; wait two minutes before you try again.",
    "Minutes, 4 March. Budget approved with two votes against. Anna writes the report. Next meeting in three weeks.",
    "Rent is due on the first. The landlord wants the new contract signed twice and one copy sent back by post.",
    "Todo: renew insurance, cancel the old phone contract, call the bank about the wrong transfer, back up the disk.",
    "Lecture 5: a ring is a set with two operations; an ideal is closed under addition and absorbs multiplication.",
    "Vocabulary for Friday: to borrow, to lend, to owe, debt, interest, deadline, warranty, invoice, refund, discount.",
    "Chapter two is too long. Move the argument about prices forward, cut the quotation, check the year of the treaty.",
    "Symptoms started on Monday: headache, slight fever. Took two tablets at eight. Doctor says rest until Thursday.",
    "Server notes: the nightly job fails when the quota is reached. Raise the limit, then restart the queue by hand.",
    "Interview questions: why did you leave, what was the hardest decision, how do you plan a week, any questions?",
    "Meter readings: 4 January 18223, 2 February 18391, 1 March 18570. Compare with the estimate on the last bill.",
)


@dataclass(frozen=True)
class Prose:
    """A text. source: what kind of text it is. asks: a question that it answers in other words; "" for none."""

    text: str
    source: str
    asks: str = ""


def corpus(half: int) -> list[Prose]:
    """Return half of the texts, 0 or 1, by what they say: sources by turns as long as each lasts, shuffled alike."""
    by_source: dict[str, dict[str, Prose]] = {}
    for each in (*_notes(), *_distributions(), *_system_documents(), *_docstrings()):
        text = each.text.strip()[:MOST]
        if (len(text) >= LEAST or each.source == "note") and zlib.crc32(text.encode()) % 2 == half:
            by_source.setdefault(each.source, {}).setdefault(text, Prose(text, each.source, each.asks))
    lists = []
    for source in sorted(by_source, reverse=True):
        found = sorted(by_source[source].values(), key=lambda each: each.text)
        random.Random(0).shuffle(found)
        lists.append(found)
    return [found[i] for i in range(max(map(len, lists))) for found in lists if i < len(found)]


def telling_words(texts: list[Prose], count: int) -> list[str]:
    """Return the `count` rarest words of each text, which no other text has all of; "" for a text without them."""
    words = [{w for w in re.findall(r"[^\W_]+", each.text.lower()) if w.isalpha() and len(w) >= 4} for each in texts]
    holders = defaultdict(set)
    for number, own in enumerate(words):
        for word in own:
            holders[word].add(number)
    chance, found = random.Random(1), []
    for own in words:
        rare = sorted(own, key=lambda word: (len(holders[word]), word))[:RARE]
        asked = chance.sample(rare, count) if len(rare) == RARE else []
        is_telling = asked and len(set.intersection(*(holders[word] for word in asked))) == 1
        found.append(" ".join(asked) if is_telling else "")
    return found


def _notes():
    return [Prose(text, "note") for text in NOTES]


def _distributions():
    """READMEs, documents and licences of the packages that are installed."""
    for package in distributions():
        readme = package.metadata.get_payload() or package.metadata.get("Description") or ""
        yield Prose(str(readme), "readme", package.metadata.get("Summary") or "")
        for file in package.files or ():
            path, name = Path(str(file.locate())), file.name.lower()
            is_licence = re.match("licen[sc]e|copying|notice", name) and path.suffix in ("", ".txt", ".md", ".rst")
            if (is_licence or path.suffix in (".md", ".rst")) and path.is_file():
                yield Prose(path.read_text("utf-8", "replace"), "licence" if is_licence else "document")


def _system_documents():
    """Documents of this project, and what the system keeps under /usr/share/doc."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        yield Prose(path.read_text("utf-8"), "document")
    for path in sorted(Path("/usr/share/doc").glob("*/*")):
        if path.name == "copyright" or (path.name.startswith("README") and path.suffix in ("", ".md", ".txt")):
            yield Prose(path.read_text("utf-8", "replace"), "licence" if path.name == "copyright" else "document")


def _docstrings():
    """What docstrings say after their first paragraph, which asks for it."""
    paths = [Path(sysconfig.get_path("stdlib")), *(Path(sysconfig.get_path("purelib")) / name for name in PACKAGES)]
    files = sorted(file for path in paths for file in (*path.glob("*.py"), *path.glob("[a-z]*/*.py")))
    for file in files:
        if "test" in str(file) or "site-packages" in str(file.relative_to(file.parents[1])):
            continue
        try:
            tree = ast.parse(file.read_text("utf-8", "replace"))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
                if 4 <= len(first.split()) <= 30:
                    yield Prose(rest, "docstring", " ".join(first.split()))
