"""Negation in sentences: what is taken away, and what only looks like it."""

import pytest

from clipsearch import Text
from clipsearch.query.negation import negated_query, split_negation
from clipsearch.query.understanding.gate import MAX_LENGTH

NEGATED = {
    "a cat without glasses": ("a cat", "glasses"),
    "empty street, no people": ("empty street", "people"),
    "a man without a hat on the beach": ("a man on the beach", "hat"),
    "a man with no beard": ("a man", "beard"),
    "a beach but no people": ("a beach", "people"),
    "mountains and no snow.": ("mountains", "snow"),
    "a street without cars or people": ("a street", "cars", "people"),
    "a house without a roof or any windows": ("a house", "roof", "windows"),
    "a dog, not a cat": ("a dog", "cat"),
    "a cat, no dogs, no people": ("a cat", "dogs", "people"),
    "a cat, no dogs, no people, in a garden": ("a cat in a garden", "dogs", "people"),
    "a dog, without a leash, in the park": ("a dog in the park", "leash"),
    "A Man WITHOUT His Red Hat": ("A Man", "Red Hat"),
    "a man without a helmet is walking on rocks": ("a man is walking on rocks", "helmet"),
    "ein Hund ohne Leine": ("ein Hund", "Leine"),
    "eine leere Straße, keine Menschen": ("eine leere Straße", "Menschen"),
    "Strand ohne Menschen und Hunde": ("Strand", "Menschen", "Hunde"),
    "ein Mann ohne einen Hut auf einem Felsen": ("ein Mann auf einem Felsen", "Hut"),
    "un chien sans laisse": ("un chien", "laisse"),
    "une rue vide, pas de voitures": ("une rue vide", "voitures"),
    "une table, pas d'eau": ("une table", "eau"),
    "un homme sans chapeau sur la plage": ("un homme sur la plage", "chapeau"),
    "un perro sin correa": ("un perro", "correa"),
    "calle vacía, sin gente": ("calle vacía", "gente"),
    "un hombre sin gafas en la playa": ("un hombre en la playa", "gafas"),
    "un hombre sin mujer": ("un hombre", "mujer"),
    "a portrait without glasses and without hat": ("a portrait", "glasses", "hat"),
    "a portrait w/o glasses": ("a portrait", "glasses"),
    "a cake with neither candles nor cream": ("a cake", "candles", "cream"),
    "Strand ohne Menschen und ohne Hunde": ("Strand", "Menschen", "Hunde"),
    "没有猫和狗的院子": ("院子", "猫", "狗"),
    "没戴眼镜的猫": ("猫", "眼镜"),
    "没有人的街道": ("街道", "人"),
    "街道上没有人": ("街道上", "人"),
    "无人的海滩": ("海滩", "人"),
    "不戴帽子的女人": ("女人", "帽子"),
    "公园里没戴帽子的孩子": ("公园里孩子", "帽子"),
}
WORDS = [
    "a man without a shirt", "a woman with no shoes on the beach", "ein Mann ohne Hemd", "un homme sans chemise",
    "un hombre sin camisa en la playa", "没穿衣服的孩子",
    "a cat", "rock and roll", "doctors without borders", "rebel without a cause", "no smoking sign",
    "a film without words", "no country for old men", "without you", "a man without hesitation", "say no",
    "the house of no return", "yes and no", "a sign, no parking", "nobody on the beach", "not a cat",
    "a dog not a cat", "home without it", "wireless router", "there is no place like home", "no people",
    "without glasses", "water without end", "man with no name", "mambo no 5", "a bottle no. 5", "text, no 3",
    "a day without laughing", "a man without a plan for the future of his country",
    "a man with a hat and no shoes lays on the ground", "a man with no shirt sit on a dock", "to be or not to be",
    "oben ohne", "ohne dich", "mit ohne", "Mann ohne Angst", "keine Ahnung", "sans abri", "un sans-abri",
    "sans doute", "Médecins sans frontières", "un homme sans chapeau de paille d'Italie", "sin duda",
    "una persona sin hogar", "sin", "无线耳机", "无人机", "无花果", "没问题", "没关系", "没有问题的猫",
    "他没有来", "没事的人", "", "   ", ", no ", "ohne", 'a sign "without cats"', "a cat without glasses " * 20,
]  # fmt: skip


@pytest.mark.parametrize("text", NEGATED)
def test_what_is_not_there_is_taken_away(text):
    kept, *gone = NEGATED[text]
    assert split_negation(text) == (kept, tuple(gone))


@pytest.mark.parametrize("text", WORDS)
def test_what_only_looks_like_it_stays_as_it_is(text):
    assert split_negation(text) == (text, ())


@pytest.mark.parametrize("piece", ["a no ", ", no a", "x without ", "or a ", "a-", "没有人的", "a without b or c "])
def test_hostile_texts_take_no_time(piece):
    for length in (MAX_LENGTH // len(piece), 100_000):
        text = piece * length
        kept, gone = split_negation(text)
        assert len(kept) + sum(map(len, gone)) <= len(text)


@pytest.mark.parametrize("start", ["dog without a b", "hund ohne ein b", "chien sans un b", "perro sin un b"])
def test_many_alternatives_are_read_in_one_way(start):
    joined = {"dog": " or a b", "hund": " oder ein b", "chien": " ou un b", "perro": " o un b"}[start.split()[0]]
    text = start + joined * 20 + " ?"  # read in two ways each, it would take a million steps and more
    assert len(text) <= MAX_LENGTH and split_negation(text)


def test_a_sentence_that_negates_is_a_query_of_terms():
    asked = negated_query(*split_negation("a street without cars or people"))
    assert str(asked) == '"a street" - 0.5:"cars" - 0.5:"people"'
    assert negated_query("a dog", ["leash"]) == Text("a dog") - 0.5 * Text("leash")
