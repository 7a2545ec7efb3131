"""Composed queries: what is read, what is printed, what is refused and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import InvalidInputError
from clipsearch.query.parser import QuerySyntaxError, parse, parse_arguments
from clipsearch.query.terms import Indexed, Picture, Query, Text, Weighted

ZEBRA = Text("horse") + Text("stripes")
POOL = Picture("./pool.jpg") + 2 * Text("golden retriever") - Text("fence")


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("horse", Query((Weighted(1, Text("horse")),))),
        ("a cat on a sofa", Query((Weighted(1, Text("a cat on a sofa")),))),
        ('"horse" + "stripes"', ZEBRA),
        ("horse + stripes", ZEBRA),
        ("  horse\n+\tstripes  ", ZEBRA),
        ("+ horse + stripes", ZEBRA),
        ("horse - a fence", Text("horse") - Text("a fence")),
        ("- fence + horse", -Text("fence") + Text("horse")),
        ("2:golden retriever", 2 * Text("golden retriever")),
        ('2:"golden retriever"', 2 * Text("golden retriever")),
        ('"2:golden retriever"', 2 * Text("golden retriever")),
        ("dog + .5:snow", Text("dog") + 0.5 * Text("snow")),
        ('"./pool.jpg" + "2:golden retriever" - "fence"', POOL),
        ("id:42", Query((Weighted(1, Indexed(42)),))),
        ("id:42 + id:7 - 3:id:9", Indexed(42) + Indexed(7) - 3 * Indexed(9)),
        ("https://example.org/a b.png", Query((Weighted(1, Picture("https://example.org/a b.png")),))),
        ("beach.JPG", Query((Weighted(1, Picture("beach.JPG")),))),
        ("a picture of beach.jpg", Query((Weighted(1, Text("a picture of beach.jpg")),))),
        ("image:beach", Query((Weighted(1, Picture("beach")),))),
        ('text:"./pool.jpg"', Query((Weighted(1, Text("./pool.jpg")),))),
        ('text:"10:30 train"', Query((Weighted(1, Text("10:30 train")),))),
        (r'"say \"hi\" \\ twice"', Query((Weighted(1, Text(r'say "hi" \ twice')),))),
        ("rock-n-roll -pop +jazz", Query((Weighted(1, Text("rock-n-roll -pop +jazz")),))),
        ("猫 - 犬", Text("猫") - Text("犬")),
        (r"C:\photos\a.png", Query((Weighted(1, Picture(r"C:\photos\a.png")),))),
        ("~/a", Query((Weighted(1, Picture("~/a")),))),
    ],
)  # fmt: skip
def test_what_is_written_is_what_is_meant(written, query):
    assert parse(written) == query


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (["horse", "+", "stripes"], ZEBRA),
        (["a", "cat", "on", "a", "sofa"], Query((Weighted(1, Text("a cat on a sofa")),))),
        (["./pool.jpg", "+", "2:golden retriever", "-", "fence"], POOL),
        (["-", "fence", "+", "horse"], -Text("fence") + Text("horse")),
        (['say "hi" + go'], Query((Weighted(1, Text('say "hi" + go')),))),
        (["id:3", "-", "id:4"], Indexed(3) - Indexed(4)),
        (["/photos/a b.jpg"], Query((Weighted(1, Picture("/photos/a b.jpg")),))),
    ],
)  # fmt: skip
def test_arguments_are_terms_and_signs(arguments, query):
    assert parse_arguments(arguments) == query


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("horse +", r"after the \+ at column 7"),
        ("horse + - stripes", r"between \+ and - at column 9"),
        ('"horse" "stripes"', "Two terms need a .* at column 9"),
        ('horse "stripes"', "Two terms need a .* at column 7"),
        ('cat + "dog', "quote at column 7 is not closed"),
        ("cat + id:x", "'x'.*'id:x' at column 7"),
        ("cat + id:", "no content.*|column 7"),
        ("0:cat", "weight of \"cat\".*column 1"),
        ("cat - 5000:dog", "weight.*5000.*column 7"),
        ('""', "has no words.*column 1"),
        ('2:" "', "has no words.*column 1"),
        ("id:0", "at least 1.*column 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(written, message):
    with pytest.raises(QuerySyntaxError, match=message):
        parse(written)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "empty"),
        (["cat", "-"], "after the - at argument 2"),
        (["cat", "+", "+", "dog"], "at argument 3"),
        (["a", "cat", "-", "id:dog"], "'dog'.*argument 4"),
        (["cat", "+", ""], "has no words.*argument 3"),
        (["cat", "-", "0:dog"], "weight.*argument 4|argument 3"),
    ],
)
def test_an_argument_that_cannot_be_read_is_named(arguments, message):
    with pytest.raises(QuerySyntaxError, match=message):
        parse_arguments(arguments)


def test_the_tree_is_built_with_signs_and_numbers():
    query = 2 * (Text("dog") + Picture("./a.png")) - (Text("fence") - Indexed(4)) * 0.5
    assert str(query) == '2:"dog" + 2:image:"./a.png" - 0.5:"fence" + 0.5:id:4'
    assert [part.weight for part in query] == [2, 2, -0.5, 0.5]


@pytest.mark.parametrize("make", [
    lambda: Text(""), lambda: Text(" \n"), lambda: Text(3), lambda: Picture(""), lambda: Indexed(0),
    lambda: Indexed("4"),
    lambda: Text("a") + "b", lambda: Text("a") - 2, lambda: 0 * Text("a"), lambda: float("nan") * Text("a"),
    lambda: Query(()), lambda: 1e9 * Text("a"),
])  # fmt: skip
def test_a_tree_that_means_nothing_is_refused(make):
    with pytest.raises(InvalidInputError):
        make()


contents = st.text(min_size=1).filter(str.strip) | st.sampled_from(
    [
        "2:x",
        "id:4",
        "id:x",
        "text:",
        "image:a",
        "./a",
        "~/b",
        "a.jpg",
        "http://x",
        "a + b",
        "- a",
        '"',
        "\\",
        '\\"',
        "0:a",
    ]
)
terms = st.builds(Text, contents) | st.builds(Picture, contents) | st.builds(Indexed, st.integers(1, 10**18 - 1))
weights = st.floats(1e-300, 1000.0) | st.sampled_from([1.0, 2.0, 0.5, 1e-7])
queries = st.lists(
    st.builds(lambda weight, sign, term: Weighted(sign * weight, term), weights, st.sampled_from([1, -1]), terms),
    min_size=1,
    max_size=5,
).map(lambda parts: Query(tuple(parts)))


@given(queries)
def test_what_is_printed_is_read_again_as_it_was(query):
    assert parse(str(query)) == query


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        query = parse(text)
    except QuerySyntaxError:
        return
    assert parse(str(query)) == query


@given(st.lists(st.text() | st.sampled_from(["+", "-", "2:a", "id:1"])))
def test_any_arguments_are_read_or_refused(arguments):
    try:
        query = parse_arguments(arguments)
    except QuerySyntaxError:
        return
    assert parse(str(query)) == query
