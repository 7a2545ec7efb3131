"""Dates, places, tags and cameras that are lifted out of the words of a query, and all that must stay in them."""

from __future__ import annotations

import asyncio
import random
import string
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import event

import clipsearch
from clipsearch import Filter, InvalidInputError, SearchEngine, Text
from clipsearch.cli.find import find
from clipsearch.query.understanding.gate import MAX_LENGTH, may_hold_filter
from clipsearch.query.understanding.library_names import LibraryNames
from clipsearch.query.understanding.runs import MAX_RUNS, find_runs
from clipsearch.query.understanding.tokens import tokenize
from clipsearch.query.understanding.understand import likely_words, understand_words
from clipsearch.query.understanding.understood import Understood
from clipsearch.store import tags
from clipsearch.store.library import Library
from clipsearch.store.place_names import NAMES_KEY, PlaceAlias, PlaceNames
from clipsearch.store.tags import TagSource
from tests.support.cli import run_cli
from tests.support.libraries import index, names
from tests.support.pictures import noise_picture

NOW = datetime(2025, 3, 12, 15, 30)
PICTURES = {
    "oslo.jpg": ("2024:07:02 12:00:00", "NIKON D70", ("Norway", "Oslo", "Oslo"), ("Marie", "Storm")),
    "bergen.jpg": ("2024:12:24 18:00:00", "NIKON D70", ("Norway", "Vestland", "Bergen"), ("Olav",)),
    "lyon.jpg": ("2023:05:01 09:30:00", "Apple iPhone 13 mini", ("France", "Auvergne-Rhône-Alpes", "Lyon"), ()),
    "mobile.jpg": ("2021:08:09 10:00:00", "Canon PowerShot G7", ("United States", "Alabama", "Mobile"), ()),
    "chengdu.jpg": ("2022:10:03 10:00:00", None, ("China", "Sichuan", "Chengdu"), ("小红", "海滩", "O'Brien Jr")),
}
ALIASES = [
    PlaceAlias("Norwegen", "country", "Norway", True),
    PlaceAlias("Norvège", "country", "Norway", True),
    PlaceAlias("挪威", "country", "Norway", True),
    PlaceAlias("成都", "city", "Chengdu", False),
    PlaceAlias("Lione", "city", "Lyon", False),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("understanding")
    (folder / "photos").mkdir()
    for seed, (name, (taken, camera, _, _)) in enumerate(PICTURES.items()):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = taken
        if camera:
            exif[0x0110] = camera
        noise_picture(seed, (64, 48)).save(folder / "photos" / name, exif=exif)
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    with SearchEngine(Library(folder / ".clipsearch"), encoder=encoder) as engine:
        aliases = list(ALIASES)
        for name, (_, _, place, own) in PICTURES.items():
            key = str(folder / "photos" / name)
            engine.update([key], metadata=dict(zip(("country", "region", "city"), place, strict=True)))
            aliases += [PlaceAlias(n, f, n, True) for f, n in zip(("country", "region", "city"), place, strict=True)]
            if own:
                engine.tag([key], add=list(own))
        with engine.library.writer() as writer:
            writer.set_setting(NAMES_KEY, PlaceNames().add(aliases).dump())
    return folder


@pytest.fixture(scope="module")
def engine(home, encoder):
    with SearchEngine(Library(home / ".clipsearch"), encoder=encoder) as opened:
        yield opened


@pytest.fixture(scope="module")
def understand(engine):
    """Understand words as on one day of the calendar."""

    def read(text: str) -> str:
        with engine.library.read() as snapshot:
            return str(understand_words(text, LibraryNames(snapshot), NOW))

    return read


def names_of(items):
    return [item.path.rpartition("/")[2] for item in items]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("boats in Norway", "boats, in Norway"),
        ("boats in norway", "boats, in norway"),
        ("Boote in Norwegen", "Boote, in Norwegen"),
        ("bateaux en Norvège", "bateaux, in Norvège"),
        ("rain Lyon", "rain, in Lyon"),
        ("cafe in Lione, May 2023", "cafe, taken in May 2023, in Lione"),
        ("a street in Mobile", "a street, in Mobile"),
        ("a phone in Bergen harbour", "a phone harbour, in Bergen"),
        ("Norway", "everything, in Norway"),
        ("pictures from Norway with Olav", "everything, in Norway, with Olav"),
        ("Olav and Marie dancing", "dancing, with Olav, with Marie"),
        ("a walk with Storm", "a walk, with Storm"),
        ("Marie's hat", "hat, with Marie"),
        ("o'brien jr on stage in 2022", "on stage, taken in 2022, with o'brien jr"),
        ("waves 24 December 2024", "waves, taken on 24 December 2024"),
        ("waves December 24, 2024", "waves, taken on 24 December 2024"),
        ("waves on the 3rd of October 2022", "waves, taken on 3 October 2022"),
        ("waves 2024-12-24", "waves, taken on 24 December 2024"),
        ("sledge last winter", "sledge, taken from 1 December 2024 to 28 February 2025"),
        ("sledge winter 2023", "sledge, taken from 1 December 2023 to 29 February 2024"),
        ("market 2022", "market, taken in 2022"),
        ("market in 2022 with rain", "market with rain, taken in 2022"),
        ("this week", "everything, taken from 10 March 2025 to 16 March 2025"),
        ("letzte Woche", "everything, taken from 3 March 2025 to 9 March 2025"),
        ("mercado el mes pasado", "mercado, taken in February 2025"),
        ("cena ayer", "cena, taken on 11 March 2025"),
        ("soup three days ago", "soup, taken on 9 March 2025"),
        ("rain in December", "rain, taken in December 2024"),
        ("nikon rain", "rain, taken with nikon"),
        ("rain shot with my Nikon D70", "rain, taken with Nikon D70"),
        ("iphone 13 breakfast", "breakfast, taken with iphone 13"),
        ("taken with Apple iPhone", "everything, taken with Apple iPhone"),
        ("成都的熊猫", "熊猫, in 成都"),
        ("在挪威拍的雪", "雪, in 挪威"),
        ("跟小红的合影", "合影, with 小红"),
        ("小红在成都", "everything, in 成都, with 小红"),
        ("去年7月的花", "花, taken in July 2024"),
        ("2022年秋天的熊猫", "熊猫, taken from 1 September 2022 to 30 November 2022"),
        ("用尼康拍的雨", "雨, taken with nikon"),
        ("上个月的花", "花, taken in February 2025"),
    ],
)
def test_what_is_certain_becomes_a_filter(understand, text, read):
    assert understand(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "a storm over the sea",
        "Storm clouds",
        "mobile phone on a table",
        "a car in mobile traffic",
        "Lyon Hearts logo",
        "the Bergen",
        "map of Norway",
        "salmon from Scotland",
        "Oslo Airport",
        "Marie Curie",
        "St. Olav statue",
        "a nikon on a table",
        "Nikon store",
        "a woman using nikon",
        "Canon",
        "sony headphones",
        "Apple",
        "a march through the city",
        "in march order",
        "may contain nuts",
        "winter coat",
        "fall leaves",
        "2001 a space odyssey",
        "blade runner 2049",
        "room 2022",
        "market 1950",
        "9999-99-99",
        "2023-13-45 beach",
        "31 February 2023 party",
        "the year 2022 bug",
        "成都火锅",
        "海滩的日落",
        "小红书",
        "小狗在跑",
        "挪威三文鱼",
        "今天早上好",
        "text:rain in Norway",
        "yesterday once more",
        "- + - +",
        "'s 's of of in in",
    ],
)
def test_what_may_be_anything_else_stays(understand, text):
    assert understand(text) == (text or "everything")


FRESH = {
    "rain norway": "rain, in norway",
    "oslo 2024": "everything, taken in 2024, in oslo",
    "oslo, norway": "everything, in oslo, in norway",
    "norway trip": "trip, in norway",
    "mountains of Norway": "mountains, in Norway",
    "City Hall Oslo": "City Hall, in Oslo",
    "Karl Johan Norway": "Karl Johan, in Norway",
    "air norway": "air norway",
    "norway lamp": "norway lamp",
    "pottery from Norway": "pottery from Norway",
    "Norway by Jane Doe": "Norway by Jane Doe",
    "Norway by night": "by night, in Norway",
    "marie on a boat": "on a boat, with marie",
    "marie antoinette": "marie antoinette",
    "marie, dick and harry": "marie, dick and harry",
    "Marie, Storm and Olav": "everything, with Marie, with Storm, with Olav",
    "rain in Norway movie": "rain in Norway movie",
    "Marie statue": "Marie statue",
    "pictures I took in Norway": "everything, in Norway",
    "photos with nikon": "everything, taken with nikon",
    "canon g-7 rain": "rain, taken with Canon PowerShot G7",
    "canon powershotg7 rain": "rain, taken with Canon PowerShot G7",
    "nikon d-70 rain": "rain, taken with NIKON D70",
    "nikon z9 rain": "nikon z9 rain",
    "nikon mounted on a helmet": "nikon mounted on a helmet",
    "成都夜景": "夜景, in 成都",
    "和小红在成都吃火锅": "吃火锅, in 成都, with 小红",
    "在成都大学": "在成都大学",
    "2023年以后的狗": "狗, taken since 2023",
    "挪威旅行2024": "旅行, taken in 2024, in 挪威",
    "上个周末去挪威滑雪": "滑雪, taken from 8 March 2025 to 9 March 2025, in 挪威",
    "房间2024": "房间2024",
    "挪威旅行2049": "旅行2049, in 挪威",
    "canon law book": "canon law book",
    "2023年之後的狗": "狗, taken after 2023",
    "last summer's trip": "trip, taken from 1 June 2024 to 31 August 2024",
    "yesterday’s dinner": "dinner, taken on 11 March 2025",
    "yesterday, dinner": "dinner, taken on 11 March 2025",
    "dinner the day before yesterday": "dinner, taken on 10 March 2025",
    "this morning's breakfast": "breakfast, taken on 12 March 2025",
    "hike the year before last": "hike, taken in 2023",
    "sailing two years ago": "sailing, taken in 2023",
    "a rainbow three months ago": "a rainbow, taken in December 2024",
    "last Friday's concert": "concert, taken on 7 March 2025",
    "lake last weekend": "lake, taken from 8 March 2025 to 9 March 2025",
    "trip last December": "trip, taken in December 2024",
    "rain in the last 3 months": "rain, taken from 12 December 2024 to 12 March 2025",
    "the past week": "everything, taken from 5 March 2025 to 12 March 2025",
    "photos from the 2020s": "everything, taken from 1 January 2020 to 31 December 2029",
    "rain in the 2020s": "rain, taken from 1 January 2020 to 31 December 2029",
    "picnic in april": "picnic, taken in April 2024",
    "from 2022 onwards": "everything, taken since 2022",
    "ab 2022": "everything, taken since 2022",
    "2022 and 2023": "everything, taken from 1 January 2022 to 31 December 2023",
    "July and August 2023": "everything, taken from 1 July 2023 to 31 August 2023",
    "15-20 July 2021": "everything, taken from 15 July 2021 to 20 July 2021",
    "July 15 to 20, 2021": "everything, taken from 15 July 2021 to 20 July 2021",
    "28 June - 2 July 2021": "everything, taken from 28 June 2021 to 2 July 2021",
    "winter 2021-2022": "everything, taken from 1 December 2021 to 28 February 2022",
    "Q4 2023": "everything, taken from 1 October 2023 to 31 December 2023",
    "on Sunday, 11 August 2024": "everything, taken on 11 August 2024",
    "beach 2021 in Norway": "beach, taken in 2021, in Norway",
    "this winter": "this winter",
    "Garten vor zwei Jahren": "Garten, taken in 2023",
    "in den letzten drei Monaten": "everything, taken from 12 December 2024 to 12 March 2025",
    "il y a deux ans": "everything, taken in 2023",
    "hace dos años": "everything, taken in 2023",
    "pendant l'été 2021": "everything, taken from 1 June 2021 to 31 August 2021",
    "buses in the United States": "buses, in United States",
    "dogs in France or Norway": "dogs, in France or Norway",
    "Oslo & Lyon": "everything, in Oslo or Lyon",
    "Lyon, France or Norway": "everything, in Lyon or France or Norway",
    "Oslo, Mobile": "everything, in Oslo, in Mobile",
    "a trip to Norway": "a trip, in Norway",
    "Marie & Olav": "everything, with Marie, with Olav",
    "with marie in oslo": "everything, in oslo, with marie",
    "marie's hat": "hat, with marie",
    "photos of marie": "everything, with marie",
    "a picture of Marie's dog": "dog, with Marie",
    "a street without cars in Norway": "a street, in Norway, without cars",
    "a street without cars last winter": "a street, taken from 1 December 2024 to 28 February 2025, without cars",
    "photos from my Canon": "everything, taken with Canon",
    "Canon G7": "everything, taken with G7",
    "nikon or canon": "everything, taken with nikon or canon",
    "rain (Oslo, 2024)": "rain, taken in 2024, in Oslo",
    "shot on G7 in Mobile": "everything, in Mobile, taken with G7",
    "our flat before 2022": "our flat, taken before 2022",
    "Olav without Marie": "a photo, with Olav, without Marie",
    "what did Olav cook yesterday?": "what did cook, taken on 11 March 2025, with Olav",
    "rain (iphone)": "rain, taken with iphone",
    "２０２２年１０月的花": "花, taken in October 2022",
    "二〇二二年十月的花": "花, taken in October 2022",
    "上個月的花": "花, taken in February 2025",
    "兩年前的花": "花, taken in 2023",
    "三个月前的花": "花, taken in December 2024",
    "上周五的花": "花, taken on 7 March 2025",
    "最近三个月的花": "花, taken from 12 December 2024 to 12 March 2025",
    "2022年1月至3月的花": "花, taken from 1 January 2022 to 31 March 2022",
    "去年国庆在挪威": "国庆, taken in 2024, in 挪威",
    "挪威 花 2022": "花, taken in 2022, in 挪威",
    "佳能拍的花": "花, taken with canon",
    "用蘋果手機拍的花": "花, taken with apple",
    "chengdu, china": "everything, in chengdu, in china",
    "oslo architecture at night": "architecture at night, in oslo",
    "Lyon street fashion": "street fashion, in Lyon",
    "architecture of Oslo": "architecture, in Oslo",
    "marie drinking coffee": "drinking coffee, with marie",
    "portraits with the nikon d70": "portraits, taken with nikon d70",
    "praia em Norway 2024": "praia, taken in 2024, in Norway",
    "挪威极光": "极光, in 挪威",
    "小红包饺子": "包饺子, with 小红",
}
"""Of 557 queries that were written before their answers were seen, kinds that were not understood, and their like."""

LOOK_ALIKES = [
    "Nikon the cat", "a cat called Nikon", "the new iPhone", "Mount Fuji", "Lyon and the Machine", "Storm and Drang",
    "Peugeot 2021", "a BMW 2021", "class of 2021", "calendar 2022", "May the 4th 2022", "spring/summer 2021",
    "summer 2021 and summer 2022", "first week of May 2022", "early 2022", "end of 2021", "half a year ago",
    "over a year ago", "the last three days of the condor", "today's newspaper", "in the early 2020s",
    "fashion from the 2020s", "a man in his 20s", "this may be", "soldiers in march", "a train from Oslo to Lyon",
    "road to Oslo", "letter to Marie", "two hours from Lyon", "made in Norway", "in southern Norway",
    "us in the garden", "wine from Lyon", "Marie vs Storm", '"rain in Oslo"', "born in 2022",
    "Nikon Monarch binoculars", "iPhone 13 box",
    "Norway vs France", "a walk past Lyon", "with marie curie", "30-31 February 2022", "2020年到现在的花",
    "半年前的花", "2020年初的花", "佳能拍立得", "王国的花", "在挪威和海边的花",
    "Oslo, Texas", "oslo, georgia", "nikon geosystems", "a man with the nikon d70", "marie kondo drinking coffee",
    "挪威歌剧", "小红画展",
]  # fmt: skip


@pytest.mark.parametrize("text", FRESH)
def test_what_others_write_is_understood(understand, text):
    assert understand(text) == FRESH[text]


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_what_others_write_that_is_no_filter_stays(understand, text):
    assert understand(text) == text


def test_a_search_says_what_it_understood_and_combines_it_with_filters(engine):
    found = engine.search("rain in Norway 2024", understand=True)
    assert sorted(names(found)) == ["bergen.jpg", "oslo.jpg"] and found.query == "rain in Norway 2024"
    assert found.understood["description"] == "rain, taken in 2024, in Norway" and found.understood["text"] == "rain"
    assert found.hits == engine.search("rain", filters=Understood.from_values(found.understood).filters).hits
    narrow = engine.search("rain in Norway 2024", understand=True, filters=Filter(cameras=("nikon",), tags=("olav",)))
    assert names(narrow) == ["bergen.jpg"]
    plain = engine.search("rain in Norway 2024")
    assert len(plain) == len(PICTURES) and plain.understood is None
    assert engine.search("a red boat", understand=True) == engine.search("a red boat")


def test_without_words_all_that_is_allowed_is_listed_newest_first(engine):
    found = engine.search("photos from Norway", understand=True)
    assert names(found) == ["bergen.jpg", "oslo.jpg"] and found.confident
    assert [(hit.rank, hit.score, hit.confidence) for hit in found] == [(1, 0.0, None), (2, 0.0, None)]
    assert names(engine.search("photos from Norway", understand=True, k=1, offset=1)) == ["oslo.jpg"]
    assert not engine.search("photos from Norway", understand=True, modality="text")


def test_where_nothing_is_left_the_answer_says_so(engine):
    found = engine.search("rain in Lyon with Olav", understand=True)
    assert not found and "Nothing in the library is in Lyon, with Olav" in found.warnings[-1]


def test_asyncio_and_a_server_do_the_same(engine):
    found = asyncio.run(engine.asearch("rain in Norway", understand=True))
    assert found == engine.search("rain in Norway", understand=True)
    values = engine.understand("rain in Norway").to_values()
    assert Understood.from_values(values) == engine.understand("rain in Norway")
    assert engine.understand("rain") == Understood("rain") and not engine.understand("rain")
    for wrong in (None, 5, b"rain"):
        with pytest.raises(InvalidInputError, match="Words to understand are a str"):
            engine.understand(wrong)


def test_several_libraries_understand_by_the_names_of_any(home, engine, tmp_path, encoder):
    (tmp_path / "more").mkdir()
    noise_picture(77, (64, 48)).save(tmp_path / "more" / "other.jpg")
    index(tmp_path / ".clipsearch", tmp_path / "more", encoder=encoder)
    with clipsearch.open([home / ".clipsearch", tmp_path / ".clipsearch"]) as both:
        assert str(both.understand("rain in Norway")) == "rain, in Norway"
        found = both.search("rain in Norway", understand=True)
        assert sorted(names(found)) == ["bergen.jpg", "oslo.jpg"] and found.understood["parts"] == ["in Norway"]
        assert names(both.search("photos from Norway", understand=True)) == ["bergen.jpg", "oslo.jpg"]


def test_the_command_understands_unless_it_is_plain(home):
    done = run_cli("query", "rain in Norway", "--json", cwd=home)
    assert "Understood: rain, in Norway. --plain searches" in done.err and b'"understood"' in done.out
    done = run_cli("query", "--plain", "rain in Norway", "--json", cwd=home)
    assert "Understood" not in done.err and b"understood" not in done.out


def test_places_are_filters_by_any_of_their_names(engine, home, monkeypatch, capsysbinary):
    for place in ("Norway", "norway", "挪威", "Norvège"):
        assert names_of(engine.find(Filter(places=(place,)))) == ["bergen.jpg", "oslo.jpg"]
    assert names_of(engine.find(Filter(places=("Bergen", "lyon")))) == ["bergen.jpg", "lyon.jpg"]
    assert not engine.find(Filter(places=("Sweden",)))
    for wrong in (("",), (5,), "Norway"):
        with pytest.raises(InvalidInputError, match=r"name of a place|must be a list"):
            Filter(places=wrong)
    monkeypatch.chdir(home)
    find.main(["--place", "Norway", "--not", "--place", "oslo", "--paths"], standalone_mode=False)
    assert capsysbinary.readouterr().out.endswith(b"bergen.jpg\n")


def test_a_tag_of_a_stranger_is_only_compared(engine, understand):
    hostile = ["Ann\x1b[2J", "$(Reboot)", "' OR 1=1 --", "A" * 200, "%", "_", ".*"]
    key = engine.find().items[0].key
    engine.tag([key], add=hostile)
    try:
        assert understand("walk with Ann") == "walk with Ann"
        assert understand("with Reboot") == "with Reboot" and understand("with .*") == "with .*"
        assert understand("with ' OR 1=1 --") == "with ' OR 1=1 --"
    finally:
        engine.tag([key], remove=hostile)


def test_long_and_odd_words_cost_little_and_stay(understand):
    assert not may_hold_filter("in Norway " * MAX_LENGTH)
    long = ("in Norway with Olav 2024 " * 100)[:MAX_LENGTH]
    tokens = tokenize(long)
    assert len(find_runs(tokens, [], long)) <= MAX_RUNS
    assert understand(long) == long  # what names so much is a list of something else
    chance = random.Random(7)
    letters = string.printable + "的在和年月年去今0123456789春夏挪威成都\u202e\u0301\ud800"
    for _ in range(100):
        text = "".join(chance.choices(letters, k=chance.randint(1, 60)))
        assert isinstance(understand(text), str)


def test_many_tags_are_not_read(tmp_path, encoder):
    """Names are looked up in the index of tags: of the plan of SQLite, no step scans them."""
    noise_picture(1, (64, 48)).save(tmp_path / "one.jpg")
    index(tmp_path / "lib", tmp_path / "one.jpg", encoder=encoder)
    library = Library(tmp_path / "lib")
    with library.writer() as writer, writer.storage[0].begin() as transaction:
        own = [f"Name {number}" for number in range(2000)]
        tags.set_tags(transaction.connection, 1, own, TagSource.USER)
    asked = []
    with library.query() as connection:
        event.listen(connection, "before_cursor_execute", lambda *given: asked.append(given[2:4]))
        assert tags.find(connection, ["name 7", "Name 1999", "no"]) == {"name 7": "Name 7", "name 1999": "Name 1999"}
        statement, parameters = asked[-1]
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert any("ix_tags_folded" in step and "SEARCH" in step for step in plan), plan
    assert not any("SCAN tags" in step for step in plan), plan
    library.close()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a dog in Spain", "a dog"),
        ("a dog with Anna, July 2023", "a dog"),
        ("a dog", "a dog"),
        ("Anna's cake 2020", "cake"),
        ("rain taken with my Nikon", "rain"),
        ("Skater in the air", "Skater in the air"),
        ("photos from Spain", None),
    ],
)
def test_the_words_to_embed_beforehand_are_guessed_without_a_library(text, left):
    assert likely_words(text, NOW) == left


def test_periods_end_where_the_next_begins(understand):
    for back in range(0, 400, 11):
        day = NOW - timedelta(days=back)
        assert understand(f"rain {day:%Y-%m-%d}") == f"rain, taken on {day.day} {day:%B} {day.year}"


def test_what_is_not_there_is_taken_away_where_words_are_understood(engine):
    found = engine.understand("a dog without a leash, 2020-05-01")
    assert (found.text, found.without) == ("a dog", ("leash",)) and found.filters is not None
    assert str(found) == "a dog, taken on 1 May 2020, without leash"
    asked = "a red thing without roses"
    answer, plain = (engine.search(asked, understand=each) for each in (True, False))
    taken_away = engine.search(Text("a red thing") - 0.5 * Text("roses"), fusion="feature")
    assert [hit.item.id for hit in answer] == [hit.item.id for hit in taken_away]
    assert [hit.score for hit in answer] == [hit.score for hit in taken_away]
    assert answer.query == asked and answer.understood["without"] == ["roses"]
    assert plain.understood is None


@pytest.mark.parametrize(
    "text",
    [
        "a beach without Marie", "dogs but not Olav", "dogs not in Norway", "dogs outside Norway",
        "anything but Norway", "dogs except in Norway", "dogs not shot on iPhone",
        "hunde ohne Marie", "perros sin Marie", "不是挪威的海滩", "not before July 2023",
        "older than 2022", "dog or Norway", "Norway or dogs",
        "born before 2022", "cars from before 1960", "after Christmas 2021", "2021年底的雪",
        "05/08/2021", "flight 2021-2022 schedule", "from 2021 to 2031", "2022 to 2021", "summer 2021/2023",
        "between May 2022 and now", "between March 2021 and the move",
    ],
)  # fmt: skip
def test_what_is_turned_into_something_else_is_left_in_the_words(engine, text):
    found = engine.understand(text)
    assert found.filters is None and found.parts == ()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("dogs before 2022", "dogs, taken before 2022"),
        ("beach before July 2023, with Marie", "beach, taken before July 2023, with Marie"),
        ("dogs after March 2022 in Norway", "dogs, taken after March 2022, in Norway"),
        ("since summer 2021", "everything, taken since 1 June 2021"),
        ("after last summer", "everything, taken after 31 August 2024"),
        ("until 2022", "everything, taken until 2022"),
        ("Hunde seit Juli 2022", "Hunde, taken since July 2022"),
        ("chiens avant 2022", "chiens, taken before 2022"),
        ("perros antes de 2022", "perros, taken before 2022"),
        ("2022年以前的狗", "狗, taken before 2022"),
        ("2022年5月以来的海滩", "海滩, taken since May 2022"),
        ("dogs between 2021 and 2022", "dogs, taken from 1 January 2021 to 31 December 2022"),
        ("dogs 2021-2022", "dogs, taken from 1 January 2021 to 31 December 2022"),
        ("dogs from 2021 to 2022 in Norway", "dogs, taken from 1 January 2021 to 31 December 2022, in Norway"),
        ("2021年到2022年的狗", "狗, taken from 1 January 2021 to 31 December 2022"),
        ("june to august 2023", "everything, taken from 1 June 2023 to 31 August 2023"),
        ("from December to February 2023", "everything, taken from 1 December 2022 to 28 February 2023"),
        ("from June 2022 to August 2023", "everything, taken from 1 June 2022 to 31 August 2023"),
        ("snow from 2023-01-02 until 2023-01-05", "snow, taken from 2 January 2023 to 5 January 2023"),
        ("15.08.2021", "everything, taken on 15 August 2021"),
        ("snow 08/15/2021", "snow, taken on 15 August 2021"),
        ("winter 2022/23", "everything, taken from 1 December 2022 to 28 February 2023"),
        ("Norway and France", "everything, in Norway or France"),
        ("Oslo, Norway and Lyon", "everything, in Oslo or Norway or Lyon"),
        ("dogs in Norway or France", "dogs, in Norway or France"),
        ("with Marie or Olav", "everything, with Marie or Olav"),
        ("Oslo, Norway", "everything, in Oslo, in Norway"),
        ("Marie and a dog", "a dog, with Marie"),
    ],
)
def test_bounds_ranges_and_lists(understand, text, meant):
    assert understand(text) == meant


def test_bounds_allow_what_they_say(engine):
    names = {"before 2022": {"mobile"}, "since 2023": {"oslo", "bergen", "lyon"}, "after 2023": {"oslo", "bergen"}}
    names |= {"until 2022": {"mobile", "chengdu"}, "2022-2023": {"chengdu", "lyon"}, "Lyon and Oslo": {"lyon", "oslo"}}
    for text, meant in names.items():
        assert {Path(item.path).stem for item in engine.find(engine.understand(text).filters)} == meant, text


def test_a_comma_ends_what_a_word_turns(understand):
    assert understand("a dog without a leash, in Norway").endswith("in Norway, without leash")


@pytest.mark.parametrize("text", ["april apr\u0131l 2023", "august augu\u017ft 2023", "yesterday ye\u017fterday"])
def test_letters_that_look_like_others_are_no_dates(understand, text):
    assert understand(text)
