"""Indexing with the builtin encoders: rate, peak memory at two sizes, a second run, and building the encoder.

Memory must not grow with the folder: 20,000 files are indexed beside 1,000.
"""

import json
import tempfile
from pathlib import Path

from harness import COMMAND, make_pictures, run, write_result

SIZES = (1000, 20000)
VARIANTS = ("builtin-small", "builtin-base")


def main() -> None:
    """Index with each variant and size in fresh libraries."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for size in SIZES:
            make_pictures(root / str(size), size)
        for variant in VARIANTS:
            cache = {"CLIPSEARCH_CACHE": str(root / f"cache-{variant}"), "HF_HUB_OFFLINE": "1"}
            warm = [COMMAND, "index", str(root / str(SIZES[0])), "--model", variant, "--json", "--library"]
            first, _, _ = run([*warm, str(root / f"first-{variant}")], cache)
            for size in SIZES:
                library = str(root / f"library-{variant}-{size}")
                command = [COMMAND, "index", str(root / str(size)), "--model", variant, "--json", "--library", library]
                seconds, peak, out = run(command, cache)
                again, _, again_out = run(command, cache)
                assert json.loads(out)["encoded"] == size and json.loads(again_out)["encoded"] == 0
                rows.append(
                    {
                        "encoder": variant,
                        "files": size,
                        "files_per_second": round(size / seconds, 1),
                        "peak_mib": round(peak),
                        "second_run_seconds": round(again, 2),
                        "first_use_extra_seconds": round(first - seconds, 1) if size == SIZES[0] else None,
                    }
                )
                print(rows[-1], flush=True)
    write_result("indexing", {"picture": "256 x 256 JPEG", "rows": rows})


if __name__ == "__main__":
    main()
