"""Two versions of clipsearch in turn: python benchmarks/before_after.py --before CHECKOUT [--rounds N]

CHECKOUT is a working tree of the other version (`git worktree add CHECKOUT COMMIT`). Both run in this environment, each
with a cache and a library of its own: a cold query by words over 2,000 pictures, and indexing them. Ratios are this
version over the other, medians over the rounds; "control" is the other version against itself, which is the noise.
`--unchanged 20000` times instead a run over so many pictures of which none has changed.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import COMMAND, make_pictures, median_ratio, run, write_result

PICTURES, SIDE = 2000, 128


class Version:
    """A tree, with a cache and a library."""

    def __init__(self, tree, folder):
        self.library = folder / "library"
        self.environment = {
            "PYTHONPATH": str(tree),
            "CLIPSEARCH_CACHE": str(folder / "cache"),
            "CLIPSEARCH_DAEMON": "0",
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "",  # as installed: compiled once
        }

    def index(self, photos, library=None):
        command = [COMMAND, "index", str(photos), "--model", "builtin-small", "--library", str(library or self.library)]
        return run(command, self.environment)[0]

    def query(self, words):
        command = [COMMAND, "query", "--no-cache", words, "--library", str(self.library)]
        return run(command, self.environment)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--query", default="a dog on a beach", metavar="WORDS")
    parser.add_argument("--pictures", type=int, help="index this many pictures; ask no queries")
    parser.add_argument("--unchanged", type=int, help="time runs over so many indexed pictures")
    given = parser.parse_args()
    values = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make_pictures(folder / "photos", given.unchanged or given.pictures or PICTURES, SIDE)
        trees = {"now": ROOT, "before": given.before.resolve(), "control": given.before.resolve()}
        versions = {name: Version(tree, folder / name) for name, tree in trees.items()}
        for version in () if given.pictures else versions.values():
            version.index(folder / "photos")
            if not given.unchanged:
                version.query(given.query)
        tasks = {
            "cold query": (given.rounds, lambda version, number: version.query(given.query)),
            "indexing": (
                max(3, given.rounds // 8),
                lambda version, number: version.index(folder / "photos", version.library.with_name(f"again{number}")),
            ),
        }
        if given.pictures:
            del tasks["cold query"], versions["control"]
            tasks["indexing"] = (given.rounds, tasks["indexing"][1])
        if given.unchanged:
            tasks = {"unchanged": (given.rounds, lambda version, number: version.index(folder / "photos"))}
        for task, (rounds, measure) in tasks.items():
            times = {name: [] for name in versions}
            for number in range(rounds):
                for name, version in versions.items():
                    times[name].append(measure(version, number))
            for name in versions.keys() - {"before"}:
                ratio = round(median_ratio(times[name], times["before"]), 3)
                seconds = round(statistics.median(times[name]), 3)
                values[f"{task}, {name}"] = {"seconds": seconds, "ratio": ratio, "rounds": rounds}
                print(f"{task:12} {name:8} {seconds:8.3f} s  x {ratio}")
    kind = f"_unchanged_{given.unchanged}" if given.unchanged else f"_{given.pictures}" if given.pictures else ""
    write_result(f"before_after{kind}", values)


if __name__ == "__main__":
    main()
