"""What the page says when the server is busy, gone or overdue, and when nothing matches."""

import re

import pytest

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.browser import until
from tests.support.libraries import index, photo
from tests.support.serving import serving

pytestmark = pytest.mark.slow

PROBLEM = "application/problem+json"


def search(page, words):
    page.get_by_role("searchbox").fill(words)
    page.keyboard.press("Enter")


def test_a_busy_server_is_asked_again(visit, address):
    page = visit(address, expected=[429])
    page.locator(".tile").first.wait_for()
    answers = []

    def refuse_once(route):
        answers.append(route)
        if len(answers) > 1:
            return route.continue_()
        body = '{"type": "urn:clipsearch:problem:busy", "title": "The server is busy", "status": 429}'
        route.fulfill(status=429, body=body, headers={"Retry-After": "1", "Content-Type": PROBLEM})

    page.route("**/v1/search", refuse_once)
    search(page, "a bicycle")
    page.get_by_text("trying again").wait_for()
    page.get_by_text("best match first").first.wait_for()
    assert len(answers) == 2


@pytest.mark.parametrize(
    "kind, said", [("overdue", "That took too long"), ("encoder-unavailable", "The encoder is unavailable")]
)
def test_a_server_that_cannot_answer_says_so_and_can_be_asked_again(visit, address, kind, said):
    page = visit(address, expected=[503])
    page.locator(".tile").first.wait_for()
    body = f'{{"type": "urn:clipsearch:problem:{kind}", "title": "The encoder is unavailable", "status": 503}}'
    page.route("**/v1/search", lambda route: route.fulfill(status=503, body=body, content_type=PROBLEM))
    search(page, "a bicycle")
    page.get_by_role("heading", name=said).wait_for()
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("best match first").first.wait_for()


def test_a_server_that_is_gone_is_said_to_be(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.locator(".tile").first.wait_for()
    page.context.set_offline(True)
    search(page, "a bicycle")
    page.get_by_role("heading", name="The server cannot be reached").wait_for()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    page.locator(".tile").first.wait_for()
    page.context.close()


def test_doubt_is_said_above_the_nearest_hits(visit, address):
    page = visit(f"{address}/?q=qwzx vkjh")
    page.get_by_text("No confident match.").wait_for()
    assert page.locator(".tile").count() > 0


def test_the_confidence_is_shown_on_the_tile_and_in_the_full_view(visit, address):
    page = visit(f"{address}/?q=a red bicycle")
    tile = page.locator(".tile").first
    tile.hover()
    sure = re.search(r"\d+%", tile.locator(".tile-confidence").text_content())[0]
    assert f"confidence {sure}" in tile.get_attribute("aria-label")
    tile.press("Enter")
    page.locator(".details").get_by_text(sure).wait_for()


def test_what_was_typed_before_does_not_replace_what_was_typed_later(visit, address):
    page = visit(address)
    page.locator(".tile").first.wait_for()
    held = []
    page.route(
        "**/v1/search", lambda route: held.append(route) if "slow" in route.request.post_data else route.continue_()
    )
    search(page, "slow")
    until(page, "document.querySelector('.is-waiting')")
    search(page, "quick")
    page.get_by_text("best match first").first.wait_for()
    assert page.locator("#search").input_value() == "quick" and len(held) == 1
    assert held[0].request.failure is not None  # it was given up


def test_nothing_found_offers_to_clear_the_filters(visit, address):
    page = visit(f'{address}/?filters={{"tags":["no such tag"]}}')
    page.get_by_role("button", name="Clear filters").click()
    page.locator(".tile").first.wait_for()


def test_an_empty_library_shows_what_is_indexed_later(visit, tmp_path, encoder):
    library = tmp_path / "my library"
    (tmp_path / "photos").mkdir()
    index(library, tmp_path / "photos", encoder=encoder)
    with SearchEngine(Library(library), encoder=encoder, may_be_empty=True) as engine:
        with serving(engine) as served:
            page = visit(served.url)
            page.get_by_role("heading", name="The library is empty").wait_for()
            assert page.locator(".count").text_content() == ""
            page.get_by_text(f'clipsearch index FOLDER --library "{library}"').wait_for()
            photo(tmp_path / "photos" / "a.jpg", 1)
            index(library, tmp_path / "photos", encoder=encoder)
            page.get_by_role("button", name="Try again").click()
            page.locator(".tile").first.wait_for()
            page.wait_for_load_state("networkidle")  # the server ends here


def test_a_chinese_page_says_in_chinese_where_a_query_cannot_be_read(visit, address):
    page = visit(address, expected=[422], locale="zh-CN")
    page.locator(".tile").first.wait_for()
    search(page, "马 + 狗 +")
    fault = page.locator(".search-fault")
    fault.get_by_text("第 7 列处无法理解查询").wait_for()
    assert "There is no term after the +" in fault.locator("small").text_content()


@pytest.mark.parametrize(
    "kind, status, said",
    [
        ("invalid-input", 422, "请求无效"),
        ("library-locked", 423, "图库正在写入"),
        ("overdue", 503, "处理超时"),
        ("forbidden", 403, "不允许此操作"),
    ],
)
def test_a_chinese_page_names_problems_in_chinese(visit, address, kind, status, said):
    page = visit(address, expected=[status], locale="zh-CN")
    page.locator(".tile").first.wait_for()
    body = f'{{"type": "urn:clipsearch:problem:{kind}", "title": "English", "status": {status}, "detail": "Why."}}'
    page.route("**/v1/search", lambda route: route.fulfill(status=status, body=body, content_type=PROBLEM))
    search(page, "自行车")
    page.get_by_role("heading", name=said).wait_for()
    assert page.locator(".empty small").text_content() == "Why."


def test_messages_of_a_chinese_page_have_a_chinese_title(visit, address):
    page = visit(address, locale="zh-CN")
    page.locator(".tile").first.wait_for()
    said = page.evaluate(
        """async () => {
      const { Problem } = await import("/page/api.js");
      return ["token-needed", "busy", "unreachable"].map((kind) => new Problem({ kind, detail: "Why." }).message);
    }"""
    )
    assert said == ["需要令牌：Why.", "服务器繁忙：Why.", "无法连接服务器：Why."]
