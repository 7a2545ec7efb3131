"""Costs that grow with a library: python benchmarks/slopes.py [--before CHECKOUT] [--case NAME ...] [--scale 1.0]

Each case is measured at sizes N, 2 N and 4 N, in a process of its own. The slope is the exponent of the cost by size,
by least squares over the logarithms: 1 is linear, 2 quadratic, 0 does not grow. CHECKOUT is a working tree of another
version (`git worktree add CHECKOUT COMMIT`): both are measured in turn, over the same inputs.
"""

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3


def moved(folder: Path, size: int) -> dict[str, float]:
    """Move equal files to another folder, all at once, and index again."""
    from clipsearch.config import Settings
    from clipsearch.store.library import Library
    from indexer.pipeline import IndexOptions, index

    photos, library = folder / "photos", folder / "library"
    (photos / "a").mkdir(parents=True)
    for number in range(size):
        (photos / "a" / f"{number:06d}.txt").write_text("The same words in every file.\n")
    settings = Settings(threads=1, offline=True, model="builtin-small")
    index(library, [str(photos)], settings)
    os.rename(photos / "a", photos / "b")
    Library(library).close()
    started = time.perf_counter()
    report = index(library, [], settings, IndexOptions())
    spent = time.perf_counter() - started
    assert report.moved == size, report
    return {"seconds": spent}


def tagged(folder: Path, size: int) -> dict[str, float]:
    """List the tags of a library whose items have three each; size: of tags in all."""
    from clipsearch.store import tags
    from clipsearch.store.library import Library
    from clipsearch.store.tags import TagSource

    library = records(folder, size // 3, lambda number: None)
    chance = random.Random(0)
    with library.writer() as writer:
        connection, _ = writer.storage
        with connection.begin():
            names = (
                (number, {f"tag {int(chance.paretovariate(1)) % 5000}" for _ in range(4)})
                for number in range(1, size // 3 + 1)
            )
            tags.add(connection, ((number, sorted(each)[:3]) for number, each in names), TagSource.LABEL)
    library.close()
    library = Library(folder / "library")
    with library.query() as connection:
        return {"seconds": best(lambda: tags.count_tags(connection))}


def captioned(folder: Path, size: int) -> dict[str, float]:
    """Index a folder again that has one picture and a table of this many captions, all unchanged."""
    import numpy as np
    from PIL import Image

    from clipsearch.config import Settings
    from indexer.pipeline import index

    photos = folder / "photos"
    photos.mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(photos / "p0000001.png")
    with (photos / "captions.csv").open("w") as table:
        table.write("image,caption\n")
        table.writelines(
            f'p{number:07d}.png,"a picture of the thing with the number {number}"\n' for number in range(size)
        )
    time.sleep(2.5)  # a table that has just changed is not trusted to stay
    settings = Settings(threads=1, offline=True, model="builtin-small")
    index(folder / "library", [str(photos)], settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pid = os.fork()
    if pid == 0:  # a process of its own: the peak of memory is that of this run
        os.execv(sys.executable, [sys.executable, __file__, "--again", str(folder), str(photos)])
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, status
    seconds = float((folder / "again").read_text())
    return {"seconds": seconds, "mib": usage.ru_maxrss / 1024, "first_mib": before / 1024}


def again(folder: str, photos: str) -> None:
    """Index once more, and write down how long that takes; part of `captioned`."""
    from clipsearch.config import Settings
    from indexer.pipeline import index

    settings = Settings(threads=1, offline=True, model="builtin-small")
    started = time.perf_counter()
    report = index(Path(folder) / "library", [photos], settings)
    (Path(folder) / "again").write_text(str(time.perf_counter() - started))
    assert report.unchanged == 1, report


def worded(folder: Path, size: int) -> dict[str, float]:
    """Find the items that have a word; 15 % of the texts have it."""
    chance = random.Random(0)
    rare = [f"w{number:05d}" for number in range(20_000)]

    def text(number: int) -> str:
        return " ".join([*chance.choices(rare, k=9), *(["dog"] if chance.random() < 0.15 else [])])

    library = records(folder, size, text)

    def search() -> None:
        with library.read() as snapshot:
            assert snapshot.keyword_search("dog", None, 200).ids

    search()
    return {"seconds": best(search)}


def opened(folder: Path, size: int) -> dict[str, float]:
    """Make an index ready for a cold query, whose file has so many MiB; what it holds makes no difference to that."""
    import hashlib

    from clipsearch.query import candidates
    from clipsearch.store.catalog import Generation
    from clipsearch.store.generations import FOLDER
    from clipsearch.types import Modality

    where = folder / "library" / FOLDER / "image-0123456789abcdef"
    where.mkdir(parents=True)
    digest = hashlib.blake2b()
    block = os.urandom(1 << 20)
    with (where / "index.faiss").open("wb") as file:
        for _ in range(size):
            file.write(block)
            digest.update(block)
    time.sleep(2.5)
    generation = Generation(Modality.IMAGE, where.name, "none", {}, 0, {"index.faiss": digest.hexdigest()})

    def check() -> None:
        try:
            candidates.open_generation(folder / "library", generation, None)
        except candidates.AnnIndexError:  # after its files were found to be right: there is no such kind
            return
        raise AssertionError

    check()
    return {"seconds": best(check)}


CASES = {
    "equal files moved at once": (moved, 1000),
    "tags": (tagged, 375_000),
    "captions in a table, unchanged": (captioned, 250_000),
    "texts, a word in 15 % of them": (worded, 250_000),
    "MiB of an index, compared when it is opened": (opened, 64),
}
"""What is measured, and at which size first; then at two and four times that."""


def records(folder: Path, count: int, text):
    """Make a library of imported records with vectors of two numbers."""
    import numpy as np

    from clipsearch.store.library import Library
    from clipsearch.store.records import CollectionRecord, RecordBlock
    from clipsearch.types import EncoderPin, Modality

    library = Library.create(folder / "library")
    library.pin(EncoderPin("test", "0", 2))
    with library.writer() as writer:
        root = writer.add_collection(library.base, "/records")
        for first in range(0, count, 8192):
            block = [CollectionRecord(f"{number}", text(number)) for number in range(first, min(first + 8192, count))]
            rows = np.tile(np.array([1, 0], np.float16), (len(block), 1))
            writer.commit_records(root, RecordBlock(block, {Modality.IMAGE: rows}))
    return library


def best(call) -> float:
    """The least seconds of several calls."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def measure(tree: Path, case: str, size: int) -> dict[str, float]:
    """Measure a case with the code of a tree, in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(tree), "CLIPSEARCH_CACHE": f"{folder}/cache"}
        (Path(folder) / "work").mkdir()
        command = [sys.executable, __file__, "--one", case, str(size), f"{folder}/work"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])


def slope(sizes: list[int], costs: list[float]) -> float:
    """The exponent of costs by sizes."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def main() -> None:
    """Measure every case, or those that are named."""
    if sys.argv[1:2] == ["--one"]:
        case, size, folder = sys.argv[2:]
        print(json.dumps(CASES[case][0](Path(folder), int(size))))
        return
    if sys.argv[1:2] == ["--again"]:
        again(*sys.argv[2:])
        return
    sys.path[:0] = [str(ROOT / "benchmarks")]
    from harness import write_result

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--scale", type=float, default=1.0)
    given = parser.parse_args()
    trees = {"before": given.before.resolve()} if given.before else {}
    trees["now"] = ROOT
    rows = []
    for case in given.case or CASES:
        sizes = [int(CASES[case][1] * given.scale) * times for times in (1, 2, 4)]
        found = {name: [] for name in trees}
        for size in sizes:
            for name, tree in trees.items():
                found[name].append(measure(tree, case, size))
        for name, costs in found.items():
            seconds = [cost["seconds"] for cost in costs]
            row = {"cost": case, "version": name}
            row |= {f"size_{i}": size for i, size in enumerate(sizes, 1)}
            row |= {f"ms_{i}": round(1000 * spent, 2) for i, spent in enumerate(seconds, 1)}
            row["slope"] = round(slope(sizes, seconds), 2)
            row["peak_MiB"] = round(costs[-1]["mib"]) if "mib" in costs[-1] else None
            rows.append(row)
            print(row, flush=True)
        if not given.case:
            write_result("slopes", {"rows": rows, "scale": given.scale})


if __name__ == "__main__":
    main()
