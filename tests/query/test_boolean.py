"""Boolean queries: what they find is what judging every item finds, filters hold and widen, answers stay full."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import clipsearch
from clipsearch import Filter, Indexed, Text, parse
from clipsearch.errors import InvalidInputError
from clipsearch.query.fusion import SATURATED, TOLERATED
from clipsearch.query.grouped import cosines, evidence, judge
from clipsearch.query.resolving import Choice, Leaf, Sum, filters_of, proposals, resolve
from clipsearch.query.terms import AllOf, AnyOf, Filtered, Query, Weighted
from clipsearch.ranking import CONFIDENT, confidence, evalue_confidence, null_model
from clipsearch.types import Modality
from tests.support.cli import run_cli
from tests.support.joined import SETTINGS, fill, of_price, records

SEA, EVEN = Filter(tags=("sea",)), Filter(tags=("even",))


@pytest.fixture(scope="module")
def engine(tmp_path_factory, encoder):
    with fill(tmp_path_factory.mktemp("boolean"), encoder, [records(0, 0, 30), records(1, 30, 40)]) as filled:
        yield filled


def keys(found) -> list[str]:
    return [hit.item.key for hit in found]


class Judge:
    """Judges all pictures of a library, with plain numpy."""

    def __init__(self, engine):
        self.engine = engine
        with engine.library.read() as snapshot:
            live = snapshot.matching(Modality.IMAGE, Filter())
            items = snapshot.item_ids_of_rows(Modality.IMAGE, live.tolist())
            self.keys = [engine.find(Filter(ids=[items[row]])).items[0].key for row in live.tolist()]
            self.rows = snapshot.rows(Modality.IMAGE).gather(live)
            self.unit = snapshot.spreads().unit_of("text", Modality.IMAGE)

    def cosines(self, text):
        return self.rows @ self.engine.encoder.encode_queries([text])[0] / np.linalg.norm(self.rows, axis=1)

    def z(self, text):
        scores = self.cosines(text)
        seen = null_model(scores, len(scores), unit=self.unit)
        return (scores - seen.centre) / seen.spread

    def has(self, wanted):
        allowed = {item.key for item in self.engine.find(wanted).items}
        return np.array([key in allowed for key in self.keys])

    def order(self, merit):
        return [self.keys[i] for i in np.argsort(-merit, kind="stable") if np.isfinite(merit[i])]


def softplus(z):
    return np.log1p(np.exp(z - TOLERATED))


CASES = {
    '("a dog" or "snow")': lambda j: np.maximum(j.z("a dog"), j.z("snow")),
    '("a dog" or 2:"snow") and not "sea"': lambda j: (
        np.maximum(j.z("a dog"), 2 * j.z("snow")) - softplus(j.z("sea"))
    ),
    '("a dog" and not "snow") or ("boat" and "sea")': lambda j: np.maximum(
        j.z("a dog") - softplus(j.z("snow")), j.z("boat") + j.z("sea")
    ),
    '"a dog" and not ("snow" and "sea")': lambda j: j.z("a dog") - softplus(np.minimum(j.z("snow"), j.z("sea"))),
    '"a dog" and not ("snow" or "sea") and not "boat"': lambda j: (
        j.z("a dog") - (softplus(np.maximum(j.z("snow"), j.z("sea"))) + softplus(j.z("boat"))) / np.sqrt(2)
    ),
    '("a dog" and tag:"sea") or "boat" and where:price=3': lambda j: np.maximum(
        np.where(j.has(SEA), j.z("a dog"), -np.inf), np.where(j.has(of_price(3)), j.z("boat"), -np.inf)
    ),
    '("a dog" or "boat") and tag:"sea" and not where:price=3': lambda j: np.where(
        j.has(SEA & ~of_price(3)), np.maximum(j.z("a dog"), j.z("boat")), -np.inf
    ),
    '("a dog" or tag:"sea") and "boat"': lambda j: (
        np.where(j.has(SEA), np.maximum(j.z("a dog"), SATURATED + 1e-3 * j.z("a dog")), j.z("a dog")) + j.z("boat")
    ),
    '"a dog" and not ("snow" and tag:"sea")': lambda j: (
        j.z("a dog") - np.where(j.has(SEA), softplus(j.z("snow")), 0)
    ),
    '("a dog" or "boat") and not ("snow" or tag:"sea")': lambda j: np.where(
        j.has(~SEA), np.maximum(j.z("a dog"), j.z("boat")) - softplus(j.z("snow")), -np.inf
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def every_picture(engine):
    return Judge(engine)


@pytest.mark.parametrize("written", CASES)
def test_a_query_finds_what_judging_every_picture_finds(engine, every_picture, written):
    merit = CASES[written](every_picture)
    expected = every_picture.order(merit)
    found = engine.search(parse(written), modality="image", k=200)
    by_key = dict(zip(every_picture.keys, merit, strict=True))
    assert sorted(keys(found)) == sorted(expected)
    np.testing.assert_allclose([by_key[key] for key in keys(found)], [by_key[key] for key in expected], atol=1e-3)
    assert keys(engine.search(parse(written), modality="image", k=5)) == keys(found)[:5]


def test_the_score_is_the_cosine_with_what_decided(engine, every_picture):
    dog, snow = every_picture.cosines("a dog"), every_picture.cosines("snow")
    decided = np.where(every_picture.z("a dog") >= every_picture.z("snow"), dog, snow)
    expected = dict(zip(every_picture.keys, decided, strict=True))
    for hit in engine.search(Text("a dog") | Text("snow"), modality="image", k=100):
        assert hit.score == pytest.approx(expected[hit.item.key], abs=2e-3)


def test_the_confidence_is_that_of_the_fusion_over_the_library(engine, every_picture):
    merit = np.maximum(every_picture.z("a dog"), every_picture.z("snow"))
    seen = null_model(merit, max(len(merit), 100), unit=10.0)
    by_key = dict(zip(every_picture.keys, merit, strict=True))
    for hit in engine.search(Text("a dog") | Text("snow"), modality="image", k=100):
        chance = evalue_confidence(hit.log_evalue, seen)
        assert chance == pytest.approx(confidence(by_key[hit.item.key], seen), abs=0.01)
        assert hit.stands_out is (chance >= CONFIDENT)


def test_and_is_plus_and_not_is_minus(engine):
    plain = Text("a dog") + 2 * Text("boat") - Text("sea")
    for same in (
        '"a dog" and 2:"boat" and not "sea"',
        '("a dog" + 2:boat) and not (sea)',
        '("a dog" and 2:boat) - sea',
    ):
        assert [(h.item.key, h.score, h.confidence) for h in engine.search(parse(same), k=30)] == [
            (h.item.key, h.score, h.confidence) for h in engine.search(plain, k=30)
        ]


def test_a_filter_of_the_whole_query_is_a_filter_of_the_search(engine):
    terms = Text("a dog") + Text("boat")
    for query in (terms & SEA, terms - Filtered(~SEA), parse('"a dog" and tag:sea + boat')):
        found, expected = engine.search(query, k=30), engine.search(terms, filters=SEA, k=30)
        assert [(h.item.key, h.score, h.confidence) for h in found] == [
            (h.item.key, h.score, h.confidence) for h in expected
        ]
    both = engine.search((Text("a dog") | Text("boat")) & SEA, filters=of_price(1, 2, 3), k=100)
    assert sorted(keys(both)) == sorted(item.key for item in engine.find(SEA & of_price(1, 2, 3)).items)


def test_what_a_filter_in_an_or_lets_through_is_certain(engine):
    found = engine.search(Text("a dog") | of_price(3), modality="image", k=100)
    certain = {item.key for item in engine.find(of_price(3) & Filter(types=("image",))).items}
    assert certain <= {hit.item.key for hit in found if hit.confidence > 0.99}
    assert {*keys(found)[: len(certain)]} & certain


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A library of more vectors than a term proposes."""
    chance = np.random.default_rng(0)
    records = [
        {"id": f"r{i:04d}", "text": f"note {i}", "vector": chance.normal(size=16), "metadata": {"share": i % 40}}
        for i in range(1600)
    ]
    folder = tmp_path_factory.mktemp("many") / "library"
    with clipsearch.open(folder, create=True, model="elsewhere", dim=16, settings=SETTINGS) as engine:
        engine.add(records)
        yield engine


def test_filters_within_an_or_widen_the_candidates(many):
    one, other = (Filter(where={"share": [number]}) for number in (7, 23))
    ids = [many.get(f"r{number:04d}").id for number in (0, 1)]
    query = (Indexed(ids[0]) & one) | (Indexed(ids[1]) & other)
    found = many.search(query, k=80)
    assert sorted(keys(found)) == sorted(item.key for item in many.find(one | other).items)
    first = keys(many.search(query, k=12))
    assert len(first) == 12 and first == keys(found)[:12]
    wide = many.search(Indexed(ids[0]) | one, k=60)
    assert {item.key for item in many.find(one).items} <= {*keys(wide)}


def test_deep_pages_go_on_where_the_pages_before_ended(many):
    ids = [many.get(f"r{number:04d}").id for number in (0, 1)]
    query = (Indexed(ids[0]) | Indexed(ids[1])) & ~Filter(where={"share": [3]})
    whole = keys(many.search(query, k=2000))
    assert len(whole) == len({*whole}) == 1600 - 40 - 2
    assert keys(many.search(query, k=40, offset=700)) == whole[700:740]
    other = (Indexed(ids[0]) | Indexed(ids[1])) & ~Filter(where={"share": [4]})
    assert keys(many.search(other, k=40, offset=700)) != whole[700:740]  # which is kept for another query


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (parse('tag:"sea" or tag:"even"'), "only filters.*clipsearch find"),
        (parse('tag:"sea" and not "dog"'), 'not "dog" only says what not to find'),
        (Text("dog") | -Text("sea"), '"sea" only says what not to find'),
        (-(Text("dog") | Text("sea")), "only says what not to find"),
        (Text("dog") & ~(-Text("sea") - Text("boat")), "only says what not to find"),
        (sum((Text(f"word {i}") for i in range(40)), Text("a cat")) | Text("x"), "42 terms"),
    ],
)
def test_queries_that_cannot_be_answered_say_why(engine, query, message):
    with pytest.raises(InvalidInputError, match=message):
        engine.search(query)


@pytest.mark.parametrize("fusion", ["feature", "rank"])
def test_an_or_is_fused_by_decision(engine, fusion):
    with pytest.raises(InvalidInputError, match=f"by decision, not by {fusion}"):
        engine.search(Text("a dog") | Text("snow"), fusion=fusion)


def test_a_choice_is_its_best_part_and_what_nothing_allows_is_nothing():
    tree = Sum(((1.0, Choice((Sum(((1.0, Leaf(0)),)), Sum(((1.0, Leaf(1)),), SEA)), EVEN)), (-1.0, Leaf(2))))
    z = np.array([[1, 2, 3, 4.0], [4, 3, 2, 1], [-30, -30, 9, -30]])
    passes = {SEA: np.array([True, False, True, True]), EVEN: np.array([False, False, False, True])}
    merit = judge(tree, z, passes).merit
    np.testing.assert_allclose(merit, [4, 2, 3 - softplus(9), SATURATED + 4e-3], atol=1e-6)
    np.testing.assert_allclose(judge(tree, z).merit, [4, 3, 3 - softplus(9), 4], atol=1e-6)
    only = Sum(((1.0, Leaf(0)),), SEA)
    assert judge(Sum(((1.0, Choice((only,))),)), z, passes).merit[1] == -np.inf


def test_every_way_to_meet_a_query_proposes_candidates():
    resolved = resolve(parse('("a" and tag:"sea" or "b" or tag:"even") and "c" and not ("d" or "e")'))
    wanted = np.array([each.weight > 0 for each in resolved.leaves])
    assert wanted.tolist() == [True, True, True, False, False]
    found = {each: sorted(w.tolist() for w in weights) for each, weights in proposals(resolved.tree, wanted).items()}
    a, b, c = np.eye(5)[:3]
    assert found == {
        Filter(tags=("sea",)): sorted(w.tolist() for w in (a, c, a + c)),
        None: sorted(w.tolist() for w in (b, c, b + c)),
        Filter(tags=("even",)): [c.tolist()],
    }


def test_many_ways_are_bounded_and_no_term_is_left_out():
    query = parse(" and ".join(f'("a{i}" or "b{i}" and tag:"t{i}" or tag:"u{i}")' for i in range(16)))
    resolved = resolve(query)
    wanted = np.ones(32, np.bool_)
    found = proposals(resolved.tree, wanted)
    alone = {np.flatnonzero(w)[0] for weights in found.values() for w in weights if np.count_nonzero(w) == 1}
    assert alone == {*range(32)} and sum(map(len, found.values())) < 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["(a dog or snow) and not sea"], '("a dog" or "snow") and not "sea"'),
        (["(a dog or snow)", "and", "not", "tag:sea"], '("a dog" or "snow") and not tag:"sea"'),
        (["a dog", "and", "tag:sea"], '"a dog" and tag:"sea"'),
        (["rock", "and", "roll"], "rock and roll"),
        (["(black and white) photo"], "(black and white) photo"),
    ],
)
def test_the_command_reads_groups(engine, arguments, shown):
    folder = str(engine.library.folder)
    ran = run_cli("query", *arguments, "--library", folder, "--json", "-k", "60")
    assert ran.code == 0 and ran.json["query"] == shown, ran
    query = parse(shown) if "dog" in shown else shown
    assert [hit["id"] for hit in ran.json["hits"]] == [hit.item.id for hit in engine.search(query, k=60)]


@pytest.mark.slow
def test_the_command_names_the_place_of_a_fault(engine):
    ran = run_cli("query", "(dog or cat)", "and", "--library", str(engine.library.folder))
    assert ran.code == 2 and "no term at column 17" in ran.err and not ran.out, ran
    ran = run_cli("query", json.dumps("(dog or"), "--library", str(engine.library.folder), "--json")
    assert ran.code == 0 and ran.json["query"] == '"(dog or"', ran


names = st.sampled_from([Text("a"), Text("b"), Filtered(SEA), Filtered(EVEN)])


def _sums(terms):
    part = st.builds(Weighted, st.sampled_from([1.0, -1.0]), terms)
    return st.lists(part, min_size=1, max_size=3).map(lambda parts: Query(tuple(parts)))


def _within(name, filters):
    return Query((Weighted(1.0, Text(name)), Weighted(1.0, Filtered(filters))))


@pytest.mark.slow
@settings(max_examples=300)
@example(Query((Weighted(1.0, Text("a")), Weighted(1.0, AnyOf((_within("b", SEA), _within("b", EVEN)))))))
@given(
    _sums(
        st.recursive(
            names,
            lambda terms: st.builds(AnyOf, st.tuples(_sums(terms), _sums(terms))) | st.builds(AllOf, _sums(terms)),
            max_leaves=10,
        )
    )
)
def test_every_tree_is_judged_or_refused(query):
    try:
        resolved = resolve(query)
    except InvalidInputError as error:
        assert "says what not to find" in str(error) or "only filters" in str(error)
        return
    if resolved.tree is None:
        return
    wanted = np.array([each.weight > 0 for each in resolved.leaves])
    assert wanted.any() and proposals(resolved.tree, wanted)
    z = np.random.default_rng(0).normal(0, 3, (len(wanted), 8))
    passes = {each: np.arange(8) % 3 == i for i, each in enumerate(dict.fromkeys(filters_of(resolved.tree)))}
    judged = judge(resolved.tree, z, passes)
    assert not np.isnan(judged.merit).any() and not np.isposinf(judged.merit).any()
    assert np.isfinite(judge(resolved.tree, z).merit).all() and np.isfinite(judged.use).all()
    fit = evidence(resolved.tree, z, passes, 9.0)
    assert (np.isneginf(fit) == np.isneginf(judged.merit)).all() and not np.isnan(fit).any()
    unit = np.eye(len(wanted), dtype=np.float32)
    assert (np.abs(cosines(judged, z / 10, unit)) <= 1).all()
