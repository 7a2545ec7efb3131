"""Measure the page in Chromium: how much is sent, and how soon after an answer its first hits are painted.

python benchmarks/page.py [--pictures 400] [--rounds 12] [--slowdown 4]

Needs the `dev` extra, and Chromium on PATH or in $CLIPSEARCH_CHROMIUM. The processor of the page is slowed down by
Chromium itself (Emulation.setCPUThrottlingRate); the server is not. A round is a search for other words, by keyboard.
From the end of its answer (PerformanceResourceTiming.responseEnd) it is measured until the frame that has the first
hits is painted, and until the first pictures of the screen are there.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import make_pictures, write_result

from clipsearch.config import Settings
from clipsearch.query.engine import SearchEngine
from clipsearch.server.page_files import read_page_files
from clipsearch.store.library import Library
from indexer.pipeline import IndexOptions, index
from tests.support.browser import MISSING, browsing, find_chromium, open_page, until
from tests.support.serving import serving

WORDS = "dog snow child sea bicycle mountain red boat street night flower horse tree house train bird".split()

# A message that is posted within a frame arrives after it was painted.
WATCH = """
performance.setResourceTimingBufferSize(100000);
window.painted = 0;
window.loaded = 0;
let shown = null;
const afterPaint = (run) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = run;
  port2.postMessage(0);
});
new MutationObserver(() => {
  const grid = document.querySelector(".grid");
  if (!grid || grid === shown || !grid.querySelector(".tile")) return;
  shown = grid;
  loaded = 0;
  afterPaint(() => (painted = performance.now()));
}).observe(document, { childList: true, subtree: true });
document.addEventListener("load", (event) => {
  if (event.target.matches?.(".tile-picture") && !loaded) afterPaint(() => (loaded ||= performance.now()));
}, true);
"""

ANSWERED = """performance.getEntriesByType("resource").filter((each) => each.name.endsWith("/v1/search"))
  .map((each) => each.responseEnd)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--slowdown", type=float, default=4.0)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    chromium = find_chromium()
    if chromium is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as scratch:
        photos, library = Path(scratch) / "photos", Path(scratch) / "library"
        make_pictures(photos, options.pictures)
        settings = Settings(threads=1, offline=True)
        index(library, [str(photos)], settings, IndexOptions(model="builtin-small"))
        with (
            SearchEngine(Library(library), settings) as engine,
            serving(engine) as served,
            browsing(chromium) as browser,
        ):
            engine.search("warm")
            measured = measure(browser, served.url, options.rounds, options.slowdown)
    values = {"pictures": options.pictures, "slowdown": options.slowdown, "load_before": load, **sizes(), **measured}
    write_result("page", values)
    for name, value in values.items():
        print(f"{name}: {value}")


def sizes() -> dict[str, int]:
    """Bytes as they are sent, of all files together."""
    files = read_page_files()
    return {"files": len(files), "bytes_sent": sum(len(each.packed or each.data) for each in files.values())}


def measure(browser, address: str, rounds: int, slowdown: float) -> dict[str, object]:
    page, faults = open_page(browser, address)
    page.locator(".tile").first.wait_for()
    first = page.evaluate(
        "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
        ".filter((each) => !each.name.includes('/v1/')).reduce((sum, each) => sum + each.encodedBodySize, 0)"
    )
    page.context.add_init_script(WATCH)
    page.reload()
    page.locator(".tile").first.wait_for()
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    painted, loaded = [], []
    for number in range(rounds):
        count = len(page.evaluate(ANSWERED))
        page.evaluate("painted = loaded = 0")
        search = page.locator("#search")
        search.fill(f"{WORDS[number % len(WORDS)]} {WORDS[(3 * number + 1) % len(WORDS)]}")
        search.press("Enter")
        until(page, "painted > 0 && loaded > 0")
        answered = page.evaluate(ANSWERED)
        assert len(answered) == count + 1, "a round is one search"
        painted.append(page.evaluate("painted") - answered[-1])
        loaded.append(page.evaluate("loaded") - answered[-1])
        page.wait_for_timeout(400)
    page.context.close()
    assert not faults.found, faults.found
    return {"first_load_bytes": first, "hits_painted_ms": spread(painted), "first_picture_ms": spread(loaded)}


def spread(times: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times), 1), "most": round(max(times), 1)}


if __name__ == "__main__":
    main()
