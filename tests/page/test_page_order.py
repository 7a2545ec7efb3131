"""Orders in the page: sorted, varied, by day, by stars; and queries with operators. All of it is in the address."""

import json
import re
from datetime import datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.query.parser import parse
from clipsearch.store.library import Library
from tests.support.browser import until
from tests.support.libraries import index
from tests.support.pictures import write_exif_jpeg
from tests.support.serving import serving

pytestmark = pytest.mark.slow

DAYS = {datetime(2024, 5, 2, 8): 110, datetime(2024, 5, 1, 8): 12, None: 4}
RATED = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="{}"/></rdf:RDF></x:xmpmeta>'
)
CAPTIONS = ("A dog runs on the beach.", "A cat sleeps on a sofa.", "A red bicycle.")
QUERY = "(dog or cat) and not tag:beach"
WAITING = "document.querySelector('.grid-holder:not(.is-waiting) .tile')"


def write_holiday(folder):
    """Two days, one with more pictures than the page asks for at once, and some without a date; a few have stars."""
    folder.mkdir()
    times = [day and day + timedelta(minutes=n) for day, count in DAYS.items() for n in range(count)]
    for n, time in enumerate(times):
        path = folder / f"p{n}.jpg"
        write_exif_jpeg(path, taken_at=time, seed=n // 3, size=((96, 64), (64, 80))[n % 2])
        if n % 4 == 0:
            path.with_suffix(".txt").write_text(CAPTIONS[n // 4 % 3])
        if n % 9 == 0:
            path.with_suffix(".xmp").write_text(RATED.format(n // 9 % 5 + 1))


@pytest.fixture(scope="module")
def engine(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("order")
    write_holiday(folder / "photos")
    index(folder / "library", folder / "photos", encoder=encoder)
    with SearchEngine(Library(folder / "library"), encoder=encoder) as opened:
        opened.tag([item.id for item in opened.find() if "beach" in (item.caption or "")][:4], add="beach")
        yield opened


@pytest.fixture(scope="module")
def served(engine):
    with serving(engine) as running:
        yield running.url


def asked(page):
    """The parameters of the address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def await_ids(page, wanted):
    """Wait until the grid begins with these items."""
    ids = [each.item.id if hasattr(each, "item") else each.id for each in wanted][:8]
    shown = f"[...document.querySelectorAll('.tile')].slice(0, {len(ids)}).map((tile) => Number(tile.dataset.id))"
    until(page, f"JSON.stringify({shown}) === '{json.dumps(ids, separators=(',', ':'))}'")


def sort_by(page, label):
    page.get_by_label("Sort").select_option(label)


def option(page, name):
    return page.locator("#filters").get_by_role("checkbox", name=name)


def test_all_items_are_sorted_and_the_address_holds_it(visit, served, engine):
    page = visit(served)
    await_ids(page, engine.find(limit=8))
    for sort, label in {"name": "By name", "size": "Largest first", "rating": "Best rated first"}.items():
        sort_by(page, label)
        await_ids(page, engine.find(limit=8, sort=sort))
        assert asked(page) == {"sort": sort}
        page.locator(".count", has_text=f"126 items, {label}").wait_for()
    page.go_back()
    await_ids(page, engine.find(limit=8, sort="size"))
    assert page.get_by_label("Sort").input_value() == "size"
    page.reload()
    await_ids(page, engine.find(limit=8, sort="size"))
    sort_by(page, "Newest first")
    await_ids(page, engine.find(limit=8))
    assert asked(page) == {}


def test_a_search_is_sorted_among_likely_matches(visit, served, engine):
    page = visit(f"{served}/?sort=name")
    await_ids(page, engine.find(limit=8, sort="name"))
    page.get_by_role("searchbox").fill("a dog on the beach")
    page.keyboard.press("Enter")
    await_ids(page, engine.search("a dog on the beach", k=8))  # what all items were sorted by ends with the search
    assert asked(page) == {"q": "a dog on the beach"}
    sort_by(page, "By name")
    found = engine.search("a dog on the beach", k=100, sort="name")
    assert 0 < len(found) < 100
    await_ids(page, found)
    page.locator(".count", has_text=re.compile(f"^{len(found)} likely match")).wait_for()
    likely = option(page, "Likely matches only")
    assert likely.is_checked() and likely.is_disabled() and option(page, "Varied results").is_disabled()
    page.get_by_role("searchbox").fill("a dog")
    page.keyboard.press("Enter")
    await_ids(page, engine.search("a dog", k=8, sort="name"))  # while one changes the words, it stays
    page.get_by_role("searchbox").fill("qwzx vkjh")
    page.keyboard.press("Enter")
    page.locator(".empty").get_by_role("button", name="Best match first").click()
    until(page, WAITING)
    assert asked(page) == {"q": "qwzx vkjh"}


def test_varied_results_are_asked_for_by_a_checkbox(visit, served, engine):
    plain, varied = (engine.search("noise", k=8, diverse=diverse) for diverse in (False, True))
    assert [hit.item.id for hit in plain] != [hit.item.id for hit in varied]
    page = visit(f"{served}/?q=noise")
    await_ids(page, plain)
    option(page, "Varied results").check()
    await_ids(page, varied)
    assert asked(page)["diverse"] == "1"
    with page.expect_response("**/v1/search") as answer:
        sort_by(page, "Newest first")
    assert answer.value.ok and option(page, "Varied results").is_disabled()  # the server refuses both together
    until(page, "!document.querySelector('.is-waiting')")
    page.go_back()
    await_ids(page, varied)
    page.get_by_role("button", name="Remove the filter Varied results").click()
    await_ids(page, plain)


def test_days_have_headings_where_dates_are_the_order(visit, served, engine):
    page = visit(served, locale="en-US")
    option(page, "Group by day").check()
    page.locator(".day").nth(1).wait_for()
    headings = page.get_by_role("rowheader")
    assert headings.all_text_contents()[:2] == ["Without a date", "Thursday, May 2, 2024"]
    tile = page.locator(".day").nth(1).locator("xpath=../*[@role='gridcell'][1]")
    assert tile.get_attribute("data-position") == "4"
    assert headings.nth(1).bounding_box()["y"] < tile.bounding_box()["y"]
    page.locator(".tile").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    until(page, "document.activeElement.dataset.position === '4'")
    page.keyboard.press("Control+End")
    until(page, "document.activeElement.dataset.position === '125'")
    until(page, "[...document.querySelectorAll('.day')].at(-1)?.textContent === 'Wednesday, May 1, 2024'")
    assert page.locator("[data-position='114']").locator("xpath=..").get_by_role("rowheader").count() == 1
    assert page.locator("[data-position='100']").locator("xpath=..").get_by_role("rowheader").count() == 0
    sort_by(page, "By name")
    await_ids(page, engine.find(limit=8, sort="name"))
    assert headings.count() == 0 and option(page, "Group by day").is_disabled()
    page.go_back()
    page.locator(".day").first.wait_for()


def test_a_day_goes_on_from_block_to_block(visit, served):
    read = """async () => {
      const { HEAD, layOutBlock } = await import("/page/layout.js");
      const items = (days) => days.map((day) => ({ day, width: 3, height: 2 }));
      const lay = (days, before) => layOutBlock(items(days), 1000, true, ({ day }) => day, before && { day: before });
      const days = ({ rows }) => rows.filter((row) => "day" in row).map((row) => [row.day, row.start]);
      const two = lay(["a", "a", "b"]);
      const apart = two.rows[1].top - two.rows[0].top - two.rows[0].height;
      return [days(two), days(lay(["a", "b"], "a")), days(lay(["b"], "a")), two.rows[0].top === HEAD, apart > HEAD,
        lay(["a"], "a").rows[0].top];
    }"""
    assert visit(served).evaluate(read) == [[["a", 0], ["b", 2]], [["b", 1]], [["b", 0]], True, True, 0]


def test_stars_filter(visit, served, engine):
    page = visit(served)
    page.get_by_label("Rating").select_option("3 stars or more")
    rated = engine.find(Filter(min_rating=3))
    page.get_by_text(f"{rated.total} items").first.wait_for()
    await_ids(page, rated)
    assert json.loads(asked(page)["filters"]) == {"min_rating": 3}
    until(page, "document.activeElement.dataset.key === 'stars' || document.activeElement === document.body")
    sort_by(page, "Best rated first")
    await_ids(page, engine.find(Filter(min_rating=3), sort="rating"))
    page.get_by_role("button", name="Remove the filter 3 stars or more").click()
    page.get_by_text("126 items").first.wait_for()
    assert asked(page) == {"sort": "rating"}


def test_operators_do_what_the_command_does(visit, served, engine):
    page = visit(served)
    search = page.get_by_role("searchbox")
    search.fill(QUERY)
    page.get_by_text("Press Enter to search").wait_for()
    search.press("Enter")
    found = engine.search(parse(QUERY), k=8)
    tagged = {item.id for item in engine.find(Filter(tags=("beach",)))}
    assert tagged and not tagged & {hit.item.id for hit in found}
    await_ids(page, found)
    assert asked(page) == {"q": QUERY} and search.input_value() == QUERY and page.locator(".chip").count() == 0
    page.reload()
    await_ids(page, found)
    assert search.input_value() == QUERY
    page.locator(".tile").first.press("l")  # less like this: both become chips
    page.locator(".chips .chip").nth(1).wait_for()
    await_ids(page, engine.search(parse(f"({QUERY}) - id:{found[0].item.id}"), k=8))


@pytest.mark.parametrize("text, place", [("(dog or cat) and not", 21), ('("dog" or cat', 1)])
def test_operators_that_cannot_be_read_are_marked(visit, served, text, place):
    page = visit(served, expected=[422])
    search = page.get_by_role("searchbox")
    search.fill(text)
    search.press("Enter")
    until(page, f"document.getElementById('search-fault').textContent.includes('column {place}')")
    assert page.locator(".mirror mark").text_content() == (text[place - 1 : place] or " ")


@pytest.mark.parametrize("text", ["(black and white) photo", "rock and roll", "dog (not cat)"])
def test_words_that_only_look_like_operators_stay_words(visit, served, engine, text):
    page = visit(served)
    with page.expect_response(lambda got: "/v1/search" in got.url and "text" in got.request.post_data_json) as answer:
        page.get_by_role("searchbox").fill(text)
        page.keyboard.press("Enter")
    assert answer.value.request.post_data_json["text"] == text
    await_ids(page, engine.search(text, k=8, understand=True))
    page.reload()
    until(page, WAITING)
    assert page.get_by_role("searchbox").input_value() == text


def test_a_filter_with_a_sign_is_read(visit, served, engine):
    page = visit(f"{served}/?q={quote('dog + tag:beach')}")
    await_ids(page, engine.search(parse("dog + tag:beach"), k=8))
    page.locator(".count", has_text="4 items").wait_for()


@pytest.mark.parametrize("query", ["a dog, 2 May 2024", "dog and on:2024-05-02"])
def test_filters_within_the_words_are_not_counted_as_if_all_items_passed(visit, served, engine, query):
    page = visit(f"{served}/?q={quote(query)}")
    page.locator(".count", has_text="100 items and more").wait_for()
    page.locator(".tile").first.focus()
    page.keyboard.press("Control+End")
    page.locator(".count", has_text=re.compile("^110 items,")).wait_for()
    until(page, "document.activeElement.dataset.position === '109'")


def test_the_order_is_chosen_by_keyboard_and_explained(visit, served, engine):
    page = visit(f"{served}/?q=a+dog+on+the+beach")
    until(page, WAITING)
    choice = page.get_by_label("Sort")
    choice.focus()
    page.keyboard.press("ArrowDown")
    found = engine.search("a dog on the beach", k=8, sort="taken", explain=True)
    await_ids(page, found)
    until(page, "document.activeElement.matches('.sort')")
    page.keyboard.press("ArrowDown")
    await_ids(page, engine.search("a dog on the beach", k=8, sort="name"))
    page.go_back()
    await_ids(page, found)
    page.locator(".tile").nth(1).press("Enter")
    page.get_by_text("Why it is here").click()
    page.locator(".details").get_by_text(f"place {found[1].explanation.terms[0].place}").wait_for()
