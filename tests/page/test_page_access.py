"""Every view of the page in both themes, as axe-core judges it: WCAG 2.2 AA, and what is good practice."""

import re

import pytest

from tests.support.axe import faults_of

pytestmark = pytest.mark.slow

VIEWS = {
    "photos": ("/", ".tile"),
    "answer": ('/?q="red bicycle" - 2:"sea"&filters={"months":["2023"]}', ".tile, .empty"),
    "days": ("/?days=1", ".day"),
    "sorted": ("/?q=a red bicycle&sort=taken&days=1", ".tile"),
    "full view": ("/?view=3", "dialog[open] .details h3"),
    "timeline": ('/?show=timeline&filters={"months":["2023-05"]}', "[aria-pressed=true]"),
    "map": ("/?show=map", ".cluster"),
    "collections": ("/?show=collections", ".empty, .collection"),
    "compare": ("/?show=compare&ids=2,3", ".facts-table"),
    "jobs": ("/?show=jobs", ".jobs li"),
}


def ready(visit, address, view, **options):
    """Open a view, and wait until all that it loads is there."""
    path, wanted = VIEWS[view]
    page = visit(address + path, reduced_motion="reduce", **options)
    page.locator(wanted).first.wait_for()
    page.wait_for_load_state("networkidle")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_are_accessible(visit, address, view, scheme):
    page = ready(visit, address, view, color_scheme=scheme)
    assert faults_of(page) == []


@pytest.mark.parametrize("view", ["photos", "days", "sorted", "timeline", "map", "compare"])
def test_views_are_accessible_on_a_telephone(visit, address, view):
    page = ready(visit, address, view, viewport={"width": 360, "height": 740}, has_touch=True)
    assert faults_of(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


def test_what_opens_over_a_view_is_accessible(visit, address):
    page = ready(visit, address, "photos")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    assert faults_of(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name=re.compile("Menu")).click()
    assert faults_of(page) == []
    page.keyboard.press("Escape")
    page.locator(".tile").first.press("x")
    page.get_by_role("button", name="Copy paths").wait_for()
    assert faults_of(page) == []
