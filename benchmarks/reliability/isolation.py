"""What decoding in worker processes costs: indexing with --isolate beside --no-isolate, in turn, in fresh libraries.

    python benchmarks/reliability/isolation.py [--rounds 7]

Ratios are medians over rounds of the time with over the time without, of whole commands, of the wall and of the
processor (workers included), with builtin-small, the fastest encoder and so the one where decoding weighs most.
"""

import argparse
import resource
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import COMMAND, make_pictures, median_ratio, run, write_result
from photographs import write_photographs


def main() -> None:
    """Time each set of pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_pictures(root / "256 x 256", 400)
        write_photographs(root / "2000 x 1500", 100, (2000, 1500))
        make_pictures(root / "256 x 256, 3 files", 3)
        for folder in sorted(path for path in root.iterdir()):
            rows.append(measure(folder, rounds, root / "library"))
            print(rows[-1], flush=True)
    write_result("isolation", {"encoder": "builtin-small", "rounds": rounds, "rows": rows})


def measure(folder: Path, rounds: int, library: Path) -> dict:
    """Index a folder both ways, in turn."""
    times: dict[str, list[float]] = {"--no-isolate": [], "--isolate": []}
    computed: dict[str, list[float]] = {flag: [] for flag in times}
    count = len(list(folder.iterdir()))
    for number in range(rounds + 1):
        for flag, found in times.items():
            shutil.rmtree(library, ignore_errors=True)
            command = [COMMAND, "index", str(folder), "--library", str(library), "--model", "builtin-small", flag]
            before = processor_seconds()
            seconds = run(command, {"HF_HUB_OFFLINE": "1"})[0]
            if number:  # the first is a warm-up
                found.append(seconds)
                computed[flag].append(processor_seconds() - before)
    return {
        "pictures": folder.name,
        "files": count,
        "files_per_second": round(count / statistics.median(times["--no-isolate"]), 1),
        "isolated_files_per_second": round(count / statistics.median(times["--isolate"]), 1),
        "time_ratio": round(median_ratio(times["--isolate"], times["--no-isolate"]), 3),
        "processor_time_ratio": round(median_ratio(computed["--isolate"], computed["--no-isolate"]), 3),
    }


def processor_seconds() -> float:
    """Return what all processes below this one have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
