"""What a stranger's library or link may say to the page: it stays text, whatever it is called."""

import pytest

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.api import SMALL
from tests.support.libraries import index
from tests.support.page_library import write_pictures
from tests.support.serving import serving

pytestmark = pytest.mark.slow

HARM = "<img src=x onerror='window.harm=1'><style>*{display:none}</style>"
NAMES = [
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    HARM,
    "javascript:window.harm=1",
    "a\u202eb",
    "é" * 190,
]


@pytest.fixture(scope="module")
def hostile_address(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("hostile")
    write_pictures(folder / "photos", count=6)
    index(folder / "library", folder / "photos", encoder=encoder)
    with SearchEngine(Library(folder / "library"), SMALL, encoder) as engine:
        engine.add(
            [
                {
                    "id": f"../{name}",
                    "image": next((folder / "photos").rglob("*.jpg")).read_bytes(),
                    "caption": name,
                    "metadata": {name[:50]: name, "url": "javascript:window.harm=1"},
                }
                for name in NAMES
            ],
            keep="bytes",
        )
        ids = [item.id for item in engine.find()]
        engine.tag(ids[:4], add=NAMES)
        for name in NAMES:
            engine.collect(name, add=ids[:3])
        with serving(engine) as served:
            yield served.url


def is_whole(page):
    """Tell whether nothing of what was said ran, nor became more than text."""
    return page.evaluate(
        "window.harm === undefined && ({}).a === undefined && Object.keys(Object.prototype).length === 0 && "
        '!document.querySelector(\'img[src="x"], body style, a[href^="javascript"]\')'
    )


def test_names_of_a_stranger_stay_text(visit, hostile_address):
    page = visit(hostile_address)
    page.locator(".tile").first.wait_for()
    assert page.get_by_text("__proto__").count() and is_whole(page)
    for number in range(len(NAMES)):
        page.locator(".tile").nth(number).press("Enter")
        page.locator("dialog.viewer[open]").wait_for()
        page.wait_for_timeout(100)
        assert is_whole(page)
        page.keyboard.press("Escape")
        page.locator("dialog.viewer[open]").wait_for(state="hidden")
    for view in ("timeline", "map", "collections"):
        page.goto(f"{hostile_address}/?view={view}")
        page.wait_for_timeout(300)
        assert is_whole(page)


@pytest.mark.parametrize(
    "state",
    [
        "q=%ED%A0%80%00%1b",
        "q=" + "x" * 8000,
        "q=__proto__&filters=%7B%22__proto__%22:%7B%22a%22:1%7D%7D",
        "filters=%5B%5B%5B",
        "filters=null",
        "filters=%7B%22tags%22:%22__proto__%22%7D",
        "filters=%7B%22tags%22:%5B%7B%7D,null,1%5D%7D",
        "show=1e999&view=__proto__",
        "show=-1&view=constructor&q=%22",
        "show=__proto__",
        "view=timeline&tag=__proto__&collection=constructor&month=__proto__",
        "%=%&__proto__=1&a[b]=c#__proto__",
        "terms=%5B%7B%22__proto__%22:1%7D%5D",
    ],
)
def test_a_link_of_a_stranger_opens_the_page_and_no_more(visit, hostile_address, state):
    page = visit(f"{hostile_address}/?{state}", expected=[400, 404, 422])
    page.locator("input, textarea").first.wait_for()
    page.wait_for_timeout(500)
    assert is_whole(page)
