"""The query language in the page: it reads and writes what the server reads."""

import pytest

from clipsearch.errors import InvalidInputError
from clipsearch.query.parser import parse
from clipsearch.query.terms import Indexed, Picture
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

FOLDER = ROOT / "clipsearch" / "server" / "page"

QUERIES = [
    "horse + stripes",
    "kitty - puppy - roof - fence",
    '2:"golden retriever" - fence',
    "a beach + id:1 - id:2",
    "- fence + horse",
    '.5:horse + "2:stripes"',
    'text:"id:17"',
    '"say \\"cheese\\" and \\\\"',
    "image:upload - 3:text:dog",
    "well-known + T-shirt",
    "狗 + 雪地",
    "https://example.org/cat.jpg + dog",
    "horse +",
    "+ + horse",
    'cat "dog"',
    'cat + "dog',
    "0:cat",
    "id:x",
    "text:",
    '""',
    "",
]

GROUPED = [
    "(dog or cat) and not tag:beach",
    '"a dog" and "a cat"',
    "dog + tag:beach",
    "dog and id:3",
    "NOT (dog) AND cat",
    "(dog or cat) and",
]
"""With operators: these the server reads for the page."""

TEXTS = [
    "(black and white) photo",
    "dog and id:3",
    "horse",
    "a dog in the snow",
    "2:stripes",
    "id:17",
    "image:x",
    "./cat.jpg",
    "cat.jpg",
    '5" screen',
    "a\\b",
    "+",
    "- -",
]

READ = """async (texts) => {
  const { parse, write } = await import("/page/terms.js");
  return texts.map((text) => { const terms = parse(text); return terms && [terms, write(terms)]; });
}"""

WRITE = """async (texts) => {
  const { makeTerm, termAt, write } = await import("/page/terms.js");
  return texts.map((text) => {
    const terms = [makeTerm("text", text), makeTerm("text", text, -1, 2.5), makeTerm("id", 3, -1)];
    return [write(terms), termAt(terms, write(terms).lastIndexOf("id:") + 1)];
  });
}"""


def of_server(text):
    """The terms as the page has them; None where the server cannot read them."""
    try:
        query = parse(text)
    except InvalidInputError:
        return None
    return [_of_term(part.weight, part.term) for part in query]


def _of_term(weight, term):
    kind = "id" if isinstance(term, Indexed) else "image" if isinstance(term, Picture) else "text"
    value = term.id if kind == "id" else term.source if kind == "image" else term.text
    return {"kind": kind, "value": value, "sign": 1 if weight > 0 else -1, "weight": abs(weight)}


def test_the_page_reads_queries_as_the_server_does(visit, address):
    read = visit(address).evaluate(READ, QUERIES)
    for text, found in zip(QUERIES, read, strict=True):
        expected = of_server(text)
        assert (found and found[0]) == expected, text
        if found:
            assert of_server(found[1]) == expected, text


def test_any_words_that_become_a_chip_reach_the_server_as_they_are(visit, address):
    written = visit(address).evaluate(WRITE, TEXTS)
    for text, (query, place) in zip(TEXTS, written, strict=True):
        once, twice, item = of_server(query)
        assert (once["kind"], once["value"], once["weight"]) == ("text", text, 1), query
        assert (twice["value"], twice["sign"], twice["weight"]) == (text, -1, 2.5), query
        assert item["value"] == 3 and place == 2, query


def test_queries_with_operators_are_sent_as_they_are(visit, address):
    texts = [*GROUPED, "rock and roll", '"rock and roll" + "(a or b)"', "cat + https://example.org/x"]
    script = """async (texts) => {
      const { hasSyntax, isGrouped, makeTerm, parse, write } = await import("/page/terms.js");
      const isLeft = (text) => isGrouped(text) && hasSyntax(text) && !parse(text);
      return texts.map((text) => [isLeft(text), write([makeTerm("query", text)])]);
    }"""
    read = visit(address).evaluate(script, texts)
    assert read == [[text in GROUPED, text] for text in texts]
