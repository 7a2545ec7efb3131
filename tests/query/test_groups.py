"""Queries with and, or, not, parentheses and filters: what is read as one, what stays words, what is refused."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.query.parser import QuerySyntaxError, parse, parse_groups
from clipsearch.query.terms import MAX_DEPTH, AllOf, AnyOf, Filtered, Indexed, Picture, Query, Text, Weighted, as_query

DOG, CAT, SNOW, INDOOR = Text("dog"), Text("cat"), Text("snow"), Text("indoor")
BEACH = Filter(tags=("beach",))
JULY = Filter(taken_from=datetime(2023, 7, 1), taken_until=datetime(2023, 8, 1))


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("(dog or cat) and not indoor", (DOG | CAT) - INDOOR),
        ("(dog OR cat) AND NOT indoor", (DOG | CAT) - INDOOR),
        ("not indoor and (dog or cat)", -INDOOR + (DOG | CAT)),
        ('"dog" or "cat"', DOG | CAT),
        ('"dog" or cat', DOG | CAT),
        ('dog or "cat"', DOG | CAT),
        ("(dog or cat)", DOG | CAT),
        ("( dog or cat )", DOG | CAT),
        ('("dog"or"cat")and(snow)', (DOG | CAT) + SNOW),
        ('"dog" or "cat" and snow', DOG | (CAT + SNOW)),
        ('"dog" and "cat" or snow', (DOG + CAT) | SNOW),
        ('not "dog" and cat', -DOG + CAT),
        ('not ("dog" and cat) and snow', ~(DOG + CAT) + SNOW),
        ('not (not "dog")', as_query(DOG)),
        ('not not "dog"', as_query(DOG)),
        ("(dog or cat) + snow - indoor", (DOG | CAT) + SNOW - INDOOR),
        ("(dog + snow or cat) - indoor", ((DOG + SNOW) | CAT) - INDOOR),
        ("(dog - snow) or cat", (DOG - SNOW) | CAT),
        ("2:(dog or cat) and 3:snow", 2 * (DOG | CAT) + 3 * SNOW),
        ('(dog or "2:cat") and snow', (DOG | 2 * CAT) + SNOW),
        ("2:(dog - snow) and (cat)", 2 * DOG - 2 * SNOW + CAT),
        ("(dog or cat) or snow", Query((Weighted(1, AnyOf(tuple(map(as_query, (DOG, CAT, SNOW))))),))),
        ("id:4 or id:5", Indexed(4) | Indexed(5)),
        ("(./a.jpg or https://example.org/b_(1).png) and snow",
         (Picture("./a.jpg") | Picture("https://example.org/b_(1).png")) + SNOW),
        ("dog and tag:beach", DOG & BEACH),
        ("dog and not tag:beach", DOG & ~as_query(Filtered(BEACH))),
        ("dog and on:2023-07", DOG & JULY),
        ("(dog and tag:beach) or (cat and not on:2023-07)", (DOG & BEACH) | (CAT - as_query(JULY))),
        ('"black and white" or "rock or roll"', Text("black and white") | Text("rock or roll")),
        ("(dog or cat) and black and white", (DOG | CAT) + Text("black") + Text("white")),
        ("(dog or cat) and camera:canon eos and min-width:800",
         (DOG | CAT) & Filter(cameras=("canon eos",)) & Filter(min_width=800)),
        ("dog And Not tag:beach", DOG & ~as_query(Filtered(BEACH))),
        ("（猫 or 狗） and not “室内”", (Text("猫") | Text("狗")) - Text("室内")),
        ("(猫 or 狗) and not 室内", (Text("猫") | Text("狗")) - Text("室内")),
        ('tag:"beach"', as_query(BEACH)),
        ('filter:"{\\"any_of\\": [{\\"tags\\": [\\"a\\"]}, {\\"types\\": [\\"png\\"]}]}" and dog',
         as_query(Filter(tags=("a",)) | Filter(types=("png",))) + DOG),
    ],
)  # fmt: skip
def test_groups_are_read(written, query):
    assert parse(written) == query
    assert parse(str(query)) == query


WORDS = [
    "rock and roll", "black and white photo", "trick or treat", "TRICK OR TREAT", "DO NOT ENTER", "to be or not to be",
    "not a cat", "a dog not a cat", "a dog and not a cat", "dog or cat", "dogs AND cats", "a sign says DO NOT WALK",
    "(black and white) photo", "salt and (freshly ground) pepper", "Tom (and Jerry)", "not (yet) ready",
    "blood not type:A", "blood (not type:B)", "Rock And Roll",
    "The Good (or the Bad) and the Ugly", "(I can't get no) satisfaction and more", "fish and chips (and peas)",
    "a man and (partially visible", "dog or cat)", "smile :) or :(", "(: or :)", "(or)", "(and)", "() or ()",
    "nothing but the sea", "sand or snow", "an orange and notes", "band:and or:not", "10:30 and 11:30",
    "tag: beach and sea", "note:this or that", "blood type:A and type:B", "in 2023 and on 2024",
    "./rock and roll.jpg", "https://example.org/a or b.png", "5\" and 7\" prints", "猫 和 狗", "and", "or", "not",
    "and or not", "(dog) (cat)", "((((((((((((((((((((", ")))) and ((((", "a and b", "A AND B", "(dog)", "f(x) or g(x)",
]  # fmt: skip


@pytest.mark.parametrize("written", WORDS)
def test_what_people_write_stays_words(written):
    assert parse_groups(written) is None


@pytest.mark.parametrize(
    ("signed", "spelled"),
    [
        ("dog + tag:beach", '"dog" and tag:beach'),
        ("dog - tag:beach", '"dog" and not tag:beach'),
        ("tag:beach + a dog - fence", 'tag:beach and "a dog" and not "fence"'),
        ("2:dog + on:2023 - id:4", '2:"dog" and on:2023 and not id:4'),
    ],
)
def test_a_filter_can_be_added_and_taken_away_by_signs(signed, spelled):
    assert parse(signed) == parse(spelled)


@pytest.mark.parametrize(
    "written", ["dog + on:stage", "dog + note:this", "dog + tag: beach", "ratio 3:2 - x", "tag:beach"]
)
def test_what_is_no_filter_stays_words_beside_a_sign(written):
    assert parse_groups(written) is None


@pytest.mark.parametrize("written", [
    "rock and roll + black and white - trick or treat", '"beach" + rock and roll', 'rock and roll - "not a cat"',
    "id:4 - black and white", "2:dog or cat + 3:rock and roll",
])  # fmt: skip
def test_words_between_signs_stay_words(written):
    assert parse_groups(written) is None
    assert all(isinstance(part.term, Text | Indexed) for part in parse(written))


@pytest.mark.parametrize(
    ("written", "column", "message"),
    [
        ("(dog or cat) and", 17, "no term at column 17"),
        ("(dog or cat) and and x", 18, "no term at column 18"),
        ("(dog or cat) or - indoor and +", 30, "no term at column 30"),
        ("((dog or cat) and indoor", 1, "column 1 is not closed"),
        ("(dog or cat)) and indoor", 13, r"no \( for the \) at column 13"),
        ("(dog or cat) not indoor", 14, "need an and, an or.* at column 14"),
        ('(dog or cat) and "indoor', 18, "quote at column 18 is not closed"),
        ("(dog or cat) and on:2023-13", 18, "2023-13.*column 18"),
        ("dog and on:2023-13", 9, "2023-13.*column 9"),
        ("min-rating:9 and dog", 1, "'9' is not a number of stars.*column 1"),
        ("dog not tag:beach", 5, "need an and, an or.* at column 5"),
        ("(dog or cat) and type:flim", 18, "flim.*column 18"),
        ("(dog or cat) and 2:tag:beach", 18, "has no weight.*column 18"),
        ("(dog or cat) and 0:snow", 18, "weight.*column 18"),
        ("(dog or cat) and id:x", 18, "'x'.*column 18"),
        ('(dog or cat) and filter:"[]"', 18, "no object.*column 18"),
        ('(dog or cat) and filter:"{"', 18, "no JSON.*column 18"),
        ('(dog or cat) and filter:"{\\"colour\\": 1}"', 18, "not values of a filter.*column 18"),
        ("(a or b) or " * 100, 602, "100 terms.*column 602"),
        ("(" * 17 + "dog or cat" + ")" * 17, 17, f"grouped {MAX_DEPTH} deep.*column 17"),
    ],
)
def test_what_is_meant_and_cannot_be_read_is_refused_with_its_place(written, column, message):
    with pytest.raises(QuerySyntaxError, match=message) as raised:
        parse(written)
    assert raised.value.position == column


@pytest.mark.parametrize("written", [
    "(" * 100_000 + "a or b", "(a or " * 50_000, "not " * 100_000 + "(a)", "(a) or " * 20_000 + "b",
    "a(" * 50_000 + " or (b)", "a and b or " * 20_000 + "c",
    'filter:"' + '{\\"any_of\\":[' * 2_000 + '"', "(a) and " + '"\\' * 50_000, "(a) or " + "b" * 100_000,
])  # fmt: skip
def test_hostile_texts_are_read_or_refused_soon(written):
    try:
        assert len(str(parse(written))) > 0
    except QuerySyntaxError as error:
        assert error.position


def test_groups_of_a_tree_are_bounded():
    query = as_query(DOG)
    for number in range(MAX_DEPTH):
        query = (query | Text(f"word {number}")) + SNOW
    with pytest.raises(InvalidInputError, match=f"grouped {MAX_DEPTH} deep"):
        _ = query | CAT


def test_operators_build_the_tree():
    assert str((DOG | CAT) & ~INDOOR) == '("dog" or "cat") and not "indoor"'
    assert DOG & CAT == DOG + CAT and ~DOG == -DOG and ~~as_query(DOG) == as_query(DOG)
    assert str(SNOW & ~(DOG & CAT)) == '"snow" and not ("dog" and "cat")'
    assert ~~(DOG & CAT) == DOG + CAT
    assert DOG | CAT | SNOW == DOG | (CAT | SNOW)
    assert BEACH & DOG == as_query(BEACH) + DOG and BEACH | DOG == as_query(Filtered(BEACH)) | DOG
    assert str(2 * (DOG & BEACH)) == '2:"dog" and tag:"beach"' and ~~as_query(BEACH) == as_query(BEACH)
    assert [str(term) for term in ((DOG | Picture("./a.png")) - (CAT + Indexed(3) * 2)).leaves()] == [
        '"dog"', 'image:"./a.png"', '"cat"', "id:3",
    ]  # fmt: skip
    parts = []
    parts += DOG | CAT  # a list takes the terms of a query, as before
    assert parts == [*(DOG | CAT)]


@pytest.mark.parametrize("make", [
    lambda: DOG | "cat", lambda: DOG & 3, lambda: AnyOf((as_query(DOG),)), lambda: 2 * Weighted(2, Filtered(BEACH)),
    lambda: Weighted(2, Filtered(BEACH)), lambda: 0 * (DOG | CAT), lambda: Filtered({"tags": ["beach"]}),
])  # fmt: skip
def test_trees_that_mean_nothing_are_refused(make):
    with pytest.raises((InvalidInputError, TypeError)):
        make()


FILTERS = [
    BEACH, JULY, Filter(tags=("a", "b")), Filter(folders=("/photos/a b", "/x")), Filter(folders=("old",)),
    Filter(types=("png", "jpeg")), Filter(min_width=3), Filter(near=(48.86, 2.35, 20)), Filter(box=(1, 2, 3, 4)),
    Filter(caption='"on the beach" dog*'), Filter(where={"price": {"lt": 20}}), Filter(where={"a": 1, "b": ["x", "y"]}),
    Filter(where={"sold": False}), Filter(where={"title": {"contains": "x\"y\\"}}),
    Filter(taken_from=datetime(2023, 1, 1)),
    Filter(taken_until=datetime(2023, 1, 1, 12, 30)), Filter(taken_from=datetime(2023, 1, 1, 1, 1, 1, 5)),
    Filter(ids=[1, 2]), Filter(ids=[]), Filter(keys=("a",)), Filter(orientation="square"), Filter(), ~BEACH,
    Filter(cameras=("canon",)), Filter(collections=("Best of",)), (BEACH | JULY) & ~Filter(types=("png",)),
]  # fmt: skip


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_every_filter_is_a_term_that_is_read_again(wanted):
    query = DOG & wanted
    assert parse(str(query)) == query
    assert parse(str(DOG | wanted)) == DOG | wanted


def test_filters_are_written_by_their_names():
    assert [str(Filtered(each)) for each in FILTERS[:2]] == ['tag:"beach"', 'on:"2023-07"']
    assert str(Filtered(Filter(where={"price": {"lt": 20}}))) == 'where:"price<20"'


leaves = (
    st.builds(Text, st.text(min_size=1).filter(str.strip) | st.sampled_from(["and", "(a or b)", "tag:x", "not", 'a"b']))
    | st.builds(Picture, st.text(min_size=1).filter(str.strip) | st.sampled_from(["a or (b).jpg"]))
    | st.builds(Indexed, st.integers(1, 10**18 - 1))
)
weights = st.sampled_from([1.0, 2.0, 0.5])


def _sums(terms):
    part = st.builds(lambda weight, sign, term: Weighted(weight * sign, term), weights, st.sampled_from([1, -1]), terms)
    held = st.builds(
        lambda sign, held: Weighted(sign, Filtered(held)), st.sampled_from([1.0, -1.0]), st.sampled_from(FILTERS)
    )
    return st.lists(part | held, min_size=1, max_size=3).map(lambda parts: Query(tuple(parts)))


trees = st.recursive(
    leaves,
    lambda terms: (
        st.builds(lambda parts: AnyOf(tuple(parts)), st.lists(_sums(terms), min_size=2, max_size=3))
        | st.builds(AllOf, _sums(terms))
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(_sums(trees))
def test_every_tree_is_read_again_as_it_was(query):
    assert parse(str(query)) == query


@given(
    st.lists(st.sampled_from([*'()+-"', " ", "and", "or", "not", "dog", "2:", "tag:x", "id:4", ' "a b" ']), max_size=14)
)
def test_any_mix_is_read_or_refused(pieces):
    try:
        query = parse(" ".join(pieces))
    except QuerySyntaxError:
        return
    assert parse(str(query)) == query
