"""What a file costs apart from decoding and encoding: python benchmarks/pipeline_overhead.py [--before CHECKOUT]

A null decoder and a null encoder take their places, which return at once; all else is the real pipeline: walk, compare,
read, hash, look up, commit, and the end of the run. 20,000 files, each of other bytes, with 2 and 16 decode threads.
Then 4,000 synthetic pictures of 256 pixels with the real decoder and the null encoder, beside reading and decoding them
alone. Each run is a process of its own, after `sync`. CHECKOUT is a working tree of another version, which runs in
alternation. Figures are medians over the rounds, the peak is the largest.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES, BYTES, PICTURES = 20_000, 16_384, 4_000
BATCH, DIM, SIDE = 256, 512, 224
TASKS = {"null": "nothing decoded", "real": "decoded", "decode": "decoded, without the pipeline"}


def make_files(folder, count, size):
    """Write files that begin as a JPEG does, each of other bytes, 1,000 to a folder."""
    for number in range(count):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(size - 4))


def null_reader():
    """Make a reader that returns the same small picture for each file."""
    from PIL import Image

    from clipsearch.media.image_metadata import Embedded
    from clipsearch.types import PictureInfo

    picture, info, words = Image.new("RGB", (8, 8)), PictureInfo(8, 8), Embedded()

    class NullReader:
        def prepare(self, data, encoder, **limits):
            return encoder.preprocess(picture), info, words

        def decode(self, data, **limits):  # what older versions ask for
            return picture, info, words

        def close(self):
            pass

    return NullReader()


def null_encoder():
    """Make an encoder that returns rows that it made before."""
    import numpy as np

    rows = np.random.default_rng(0).standard_normal((BATCH, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    class NullEncoder:
        name, dim, logit_scale, fingerprint = "null", DIM, 1.0, "0" * 64
        picture_side, batch_size, streams, max_tokens = SIDE, BATCH, 1, 64

        def preprocess(self, picture):
            return (np.asarray(picture if picture.size == (8, 8) else picture.resize((SIDE, SIDE))),)

        def encode_pixels(self, batch):
            return rows[: len(batch)]

        def encode_texts(self, texts):
            return rows[: len(texts)]

        encode_queries = encode_texts

    return NullEncoder()


def run_once(task, folder, library, threads):
    """Do a task: null, real (index with that decoder), or decode (read and decode alone); print JSON."""
    import resource

    from clipsearch.config import Settings
    from clipsearch.media.decode import decode_picture
    from clipsearch.media.image_metadata import read_embedded
    from indexer import pipeline
    from indexer.picture_reader import DirectReader

    Settings.cores = property(lambda self: threads)  # more than there are cores, too
    reader = null_reader() if task == "null" else DirectReader()
    pipeline.make_reader = lambda settings: reader
    encoder, settings = null_encoder(), Settings()
    started, cpu = time.perf_counter(), time.process_time()
    if task == "decode":

        def load(path):
            data = path.read_bytes()
            picture, _ = decode_picture(data, min_side=SIDE, max_pixels=settings.max_pixels)
            return read_embedded(data), encoder.preprocess(picture)

        with ThreadPoolExecutor(threads) as pool:
            files = sum(1 for _ in pool.map(load, Path(folder).iterdir()))
    else:
        files = pipeline.index(Path(library), [folder], settings, encoder=encoder).added
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"files": files, "seconds": seconds, "cpu": cpu, "peak_mib": peak}))


def measure(tree, task, folder, work, threads):
    """Run one version once; the numbers of `run_once`, times in milliseconds a file."""
    from harness import run

    with tempfile.TemporaryDirectory(dir=work) as library:
        os.sync()
        command = [sys.executable, __file__, "--once", task, str(folder), library, str(threads)]
        found = json.loads(run(command, {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"})[2])
    assert found["files"] == (FILES if task == "null" else PICTURES), found
    per_file = 1000 / found["files"]
    return {"ms": found["seconds"] * per_file, "cpu_ms": found["cpu"] * per_file, "peak_mib": found["peak_mib"]}


def summarise(runs):
    """Return the medians of runs, and the largest peak."""
    ms, cpu = (round(statistics.median(each[name] for each in runs), 4) for name in ("ms", "cpu_ms"))
    return {"ms_a_file": ms, "cpu_ms_a_file": cpu, "peak_mib": round(max(each["peak_mib"] for each in runs))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        task, folder, library, threads = given.once
        run_once(task, folder, library, int(threads))
        return
    from harness import make_pictures, write_result

    trees = {"now": ROOT} | ({"before": given.before.resolve()} if given.before else {})
    sizes = {"files": FILES, "bytes": BYTES, "pictures": PICTURES, "batch": BATCH, "rounds": given.rounds}
    rows = []
    with tempfile.TemporaryDirectory() as work:
        files, pictures = Path(work) / "files", Path(work) / "pictures"
        make_files(files, FILES, BYTES)
        make_pictures(pictures, PICTURES)
        cases = [("null", files, 2), ("null", files, 16), ("real", pictures, 2), ("decode", pictures, 2)]
        for task, folder, threads in cases:
            runs = {name: [] for name in trees}
            for _ in range(given.rounds):
                for name, tree in trees.items():
                    runs[name].append(measure(tree, task, folder, work, threads))
            for name, found in runs.items():
                rows.append({"task": TASKS[task], "threads": threads, "version": name, **summarise(found)})
                print(rows[-1], flush=True)
    write_result("pipeline_overhead", sizes | {"rows": rows})


if __name__ == "__main__":
    main()
