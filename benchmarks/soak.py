"""The memory of `clipsearch serve` under a mixed load that goes on: python benchmarks/soak.py [--minutes 60]

Searches of all kinds, pages, pictures, thumbnails, uploads, embeddings, facets, writes, index jobs, and clients that go
away in the middle, over a library of 2,000 pictures of the builtin encoder. Each kind of work has a client, which asks
again after --pause seconds. `growth` is what the last quarter of the run takes more than the second.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import COMMAND, write_result
from served_library import make_library

from tests.support.serving import TOKEN
from tests.support.soaking import soak


def main() -> None:
    """Serve, load, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--pause", type=float, default=0.2)
    parser.add_argument("--name", default="soak", help="of the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        own = {"CLIPSEARCH_CACHE": f"{work}/cache", "XDG_STATE_HOME": work, "CLIPSEARCH_TOKEN": TOKEN}
        os.environ |= {**own, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        make_library(Path(work), options.pictures)
        command = [COMMAND, "serve", "--library", f"{work}/library", "--port", "0", "--allow-write"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            url = re.search(r"http://[0-9.:]+\d", process.stderr.readline())[0]
            try:
                seen = soak(url, process.pid, 60 * options.minutes, options.pause)
            finally:
                process.terminate()
    answers = Counter({name: 0 for name, _ in seen.answers})
    for (name, _), count in seen.answers.items():
        answers[name] += count
    failed = {
        f"{name} {status}": count for (name, status), count in seen.answers.items() if status >= 500 or not status
    }
    row = {
        "minutes": options.minutes,
        "requests": answers.total(),
        "failed": sum(failed.values()),
        "mib_at_a_tenth": round(seen.resident[len(seen.resident) // 10]),
        "mib_at_half": round(seen.resident[len(seen.resident) // 2]),
        "mib_at_the_end": round(seen.resident[-1]),
        "growth_mib": round(seen.growth, 1),
    }
    print(row, failed, dict(answers), [round(each) for each in seen.resident])
    write_result(options.name, {"pause": options.pause, "pictures": options.pictures, "rows": [row]})


if __name__ == "__main__":
    main()
