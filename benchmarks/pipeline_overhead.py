"""What a file costs apart from decoding and encoding: python benchmarks/pipeline_overhead.py [--before CHECKOUT]

A null decoder and a null encoder take their places, which return at once; all else is the real pipeline: walk, compare,
read, hash, look up, commit, and the end of the run. 20,000 files, each of other bytes, with 2 and 16 decode threads,
each run in a process of its own. CHECKOUT is a working tree of another version, which runs in alternation; `sync` comes
before each run.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES, BYTES, BATCH, DIM = 20_000, 16_384, 256, 512


def make_files(folder, count, size):
    """Write files that begin as a JPEG does, each of other bytes, 1,000 to a folder."""
    for number in range(count):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(size - 4))


def run_once(folder, library, threads):
    """Index a folder with nothing to decode and nothing to encode; print what it took as JSON."""
    import resource

    import numpy as np
    from PIL import Image

    from clipsearch.config import Settings
    from clipsearch.media.image_metadata import Embedded
    from clipsearch.types import PictureInfo
    from indexer import pipeline

    picture, pixels = Image.new("RGB", (8, 8)), (np.zeros((8, 8, 3), np.uint8),)
    rows = np.random.default_rng(0).standard_normal((BATCH, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    class NullReader:
        def decode(self, data, **limits):
            return picture, PictureInfo(8, 8), Embedded()

        def close(self):
            pass

    class NullEncoder:
        name, dim, logit_scale, fingerprint = "null", DIM, 1.0, "0" * 64
        picture_side, batch_size, streams, max_tokens = 8, BATCH, 1, 64

        def preprocess(self, picture):
            return pixels

        def encode_pixels(self, batch):
            return rows[: len(batch)]

        def encode_texts(self, texts):
            return rows[: len(texts)]

        encode_queries = encode_texts

    pipeline.make_reader = lambda settings: NullReader()
    Settings.cores = property(lambda self: threads)  # more than there are cores, too
    settings = Settings()
    started, cpu = time.perf_counter(), time.process_time()
    report = pipeline.index(Path(library), [folder], settings, encoder=NullEncoder())
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"added": report.added, "seconds": seconds, "cpu": cpu, "peak_mib": peak}))


def measure(tree, photos, work, threads):
    """Run one version once; the numbers of `run_once`."""
    from harness import run

    with tempfile.TemporaryDirectory(dir=work) as library:
        os.sync()
        command = [sys.executable, __file__, "--once", str(photos), library, str(threads)]
        found = json.loads(run(command, {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"})[2])
    assert found["added"] == FILES
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        folder, library, threads = given.once
        run_once(folder, library, int(threads))
        return
    from harness import write_result

    trees = {"now": ROOT} | ({"before": given.before.resolve()} if given.before else {})
    values = {"files": FILES, "bytes": BYTES, "batch": BATCH, "rounds": given.rounds}
    with tempfile.TemporaryDirectory() as work:
        photos = Path(work) / "photos"
        make_files(photos, FILES, BYTES)
        for threads in (2, 16):
            found = {name: [] for name in trees}
            for _ in range(given.rounds):
                for name, tree in trees.items():
                    found[name].append(measure(tree, photos, work, threads))
            for name, runs in found.items():
                row = {
                    "ms_a_file": round(1000 * statistics.median(each["seconds"] for each in runs) / FILES, 4),
                    "cpu_ms_a_file": round(1000 * statistics.median(each["cpu"] for each in runs) / FILES, 4),
                    "peak_mib": round(max(each["peak_mib"] for each in runs)),
                }
                values[f"{threads} threads, {name}"] = row
                print(f"{threads:2} threads {name:7} {row}", flush=True)
    write_result("pipeline_overhead", values)


if __name__ == "__main__":
    main()
