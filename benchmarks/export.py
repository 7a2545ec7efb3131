"""How fast a library is exported and read back, and with how much memory.

    python benchmarks/export.py [--rows N] [--formats jsonl,csv,parquet] [--dim D]

Generated unit vectors with a caption and two values of metadata each are imported into a library, which each format
then exports, and reads back into a new library, in processes of their own. Peaks are those of the processes.
`status` says what a process needs that only opens the library.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import run, write_result

BLOCK = 100_000
COMMAND = [sys.executable, "-c", "from clipsearch.cli.entry import main; main()"]


def main() -> None:
    """Measure, and write the figures and their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--formats", default="jsonl,csv,parquet")
    parser.add_argument("--no-import", action="store_true", help="Only export.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), given.rows, given.dim, given.formats.split(","), not given.no_import)
    for row in rows:
        print(row)
    name = "export" if given.rows == parser.get_default("rows") else f"export_{given.rows // 1000}k"
    write_result(name, {"rows": rows})


def measure(folder: Path, count: int, dim: int, formats: list[str], is_read_back: bool) -> list[dict[str, object]]:
    """Make a library, and export it and read it back by each format."""
    library = folder / "lib"
    make_library(folder, library, count, dim)
    _, peak, _ = clipsearch("status", "--library", library)
    rows: list[dict[str, object]] = [
        {"process": "status", "rows_per_second": None, "peak_mib": round(peak), "mb": None}
    ]
    for kind in formats:
        out = folder / "out"
        seconds, peak, _ = clipsearch("export", out, "--format", kind, "--library", library)
        size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
        rows.append(row_of(f"export {kind}", count / seconds, peak, size))
        if is_read_back:
            seconds, peak, _ = clipsearch("import-embeddings", out, "--library", folder / "back")
            rows.append(row_of(f"read back {kind}", count / seconds, peak, None))
            shutil.rmtree(folder / "back")
        shutil.rmtree(out)
    return rows


def row_of(process: str, rate: float | None, peak: float, size: float | None) -> dict[str, object]:
    """Return a row of the table."""
    rate_text = None if rate is None else f"{rate:,.0f}"
    whole = None if size is None else round(size, 1)
    return {"process": process, "rows_per_second": rate_text, "peak_mib": round(peak), "mb": whole}


def make_library(folder: Path, library: Path, count: int, dim: int) -> None:
    """Import generated vectors and records."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(folder / "v.npy", "w+", np.float16, (count, dim))
    with open(folder / "v.jsonl", "w") as file:
        for start in range(0, count, BLOCK):
            block = rng.standard_normal((min(BLOCK, count - start), dim)).astype(np.float32)
            array[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
            for number in range(start, start + len(block)):
                said = {"id": f"r{number}", "caption": f"A picture of thing {number % 977} and {number % 31}"}
                file.write(json.dumps({**said, "price": number % 400, "brand": f"brand-{number % 97}"}) + "\n")
    del array
    given = ["--items", folder / "v.jsonl", "--encoder", "made-up", "--library", library]
    clipsearch("import-embeddings", folder / "v.npy", *given)
    for name in ("v.npy", "v.jsonl"):
        (folder / name).unlink()


def clipsearch(*arguments: object) -> tuple[float, float, bytes]:
    """Run a command: wall seconds, peak MiB, stdout."""
    return run([*COMMAND, *map(str, arguments)])


if __name__ == "__main__":
    main()
