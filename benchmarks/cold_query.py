"""A text query in a fresh process, over 1,000 pictures, beside the imports that any such query needs.

The peer is a bare `python -c "import numpy, faiss, onnxruntime, sqlite3"`: what it costs to load the libraries. The
goal is under 3 times that.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from harness import COMMAND, interleaved, make_pictures, median_ratio, run, write_result

ROUNDS = 15
PICTURES = 1000


def main() -> None:
    """Index, then time both in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        photos, library = Path(scratch) / "photos", str(Path(scratch) / "library")
        make_pictures(photos, PICTURES)
        environment = {"CLIPSEARCH_LIBRARY": library, "HF_HUB_OFFLINE": "1"}
        run([COMMAND, "index", str(photos), "--model", "builtin"], environment)
        commands = {
            "imports": [sys.executable, "-c", "import numpy, faiss, onnxruntime, sqlite3"],
            "text query": [COMMAND, "query", "a cat on a sofa"],
            "picture query": [COMMAND, "query", "--image", str(photos / "000000.jpg")],
        }
        times = interleaved(commands, ROUNDS, environment)
        memory = {name: round(run(command, environment)[1]) for name, command in commands.items()}
    rows = [
        {
            "command": name,
            "median_seconds": round(statistics.median(times[name]), 3),
            "times_bare_imports": round(median_ratio(times[name], times["imports"]), 2),
            "peak_mib": memory[name],
        }
        for name in commands
    ]
    write_result("cold_query", {"pictures": PICTURES, "rounds": ROUNDS, "rows": rows})


if __name__ == "__main__":
    main()
