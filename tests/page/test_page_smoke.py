"""The page opens, searches, and nothing goes wrong in the browser: the quick test, for `make test`."""


def test_the_page_opens_and_answers(visit, address):
    page = visit(address)
    page.get_by_role("searchbox").fill("a red bicycle")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=*")
    page.locator("main img").first.wait_for()
    assert "clipsearch" in page.title()
