"""Pages far down: seconds of a page of 200 at an offset, of a search and of a list.

    python benchmarks/deep_pages.py [--pictures 100000] [--keep FOLDER]

`first` is a page of a query of which no page was asked before, `next` the page after that, `crossing` the slowest of
all pages where each 200 of one query is asked for in turn, up to that offset.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import write_result
from served_library import make_library, phrases

PAGE, OFFSETS, ROUNDS = 200, (0, 1_000, 10_000, 99_000), 5


def main() -> None:
    """Make a library, and time pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="a folder for the library, which is used again if it is there")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        own = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ |= {"CLIPSEARCH_CACHE": f"{own}/cache", "XDG_STATE_HOME": own, "HF_HUB_OFFLINE": "1"}
        if not (folder / "library").exists():
            make_library(folder, options.pictures)
        rows = measure(folder / "library")
    write_result("deep_pages", {"pictures": options.pictures, "rounds": ROUNDS, "rows": rows})


def measure(library: Path) -> list[dict]:
    """Return a row for each offset."""
    import clipsearch

    texts, rows = iter(phrases()), []
    with clipsearch.open(library) as engine:
        engine.search(next(texts))

        def page(text: str, offset: int) -> float:
            started = time.perf_counter()
            assert len(engine.search(text, k=PAGE, offset=offset)) == PAGE
            return time.perf_counter() - started

        def listed(offset: int) -> float:
            started = time.perf_counter()
            assert len(engine.find(limit=PAGE, offset=offset)) == PAGE
            return time.perf_counter() - started

        scrolled = next(texts)
        each = {offset: page(scrolled, offset) for offset in range(0, OFFSETS[-1] + 1, PAGE)}
        for offset in OFFSETS:
            asked = [next(texts) for _ in range(ROUNDS)]
            seconds = {
                "search_first": statistics.median(page(text, offset) for text in asked),
                "search_next": statistics.median(page(text, offset + PAGE) for text in asked),
                "search_crossing": max(taken for at, taken in each.items() if at <= offset),
                "find": statistics.median(listed(offset) for _ in range(ROUNDS)),
            }
            rows.append({"offset": offset, **{f"{name}_ms": round(1e3 * value) for name, value in seconds.items()}})
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
