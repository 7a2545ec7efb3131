"""How fast films are read, in times real time, and in how much memory: python benchmarks/films.py [--seconds 180]

Makes films of 1280 x 720 pixels at 25 frames a second (H.264, a key frame at least every 2 s): moving patterns, another
every 6 s. `key frames`: a film of more than two minutes, of which nothing but key frames is decoded. `every frame`: the
first minute of it. `far apart`: that film with a key frame every 40 s, of which every frame is decoded. `real_time` is
the length of a film over the seconds that its frames, facts and end take to come from the process that reads it.
"""

import argparse
import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from harness import HERE, write_result

sys.path.insert(0, str(HERE.parent))

from clipsearch.media.films.base import FilmRequest
from clipsearch.media.films.process import FilmReader, open_film
from tests.support.films import scene, write_film

RATE, SIZE, SCENE_SECONDS = 25, (1280, 720), 6


def moving(seconds):
    for number in range(seconds * RATE):
        place, step = divmod(number, SCENE_SECONDS * RATE)
        yield number / RATE, np.roll(scene(place, SIZE), 4 * step, 1)


def measure(case, path, seconds, rounds):
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        with open_film(str(path), 1 << 40) as (descriptor, _):
            with closing(FilmReader(descriptor, FilmRequest(224, 10**8))) as reader:
                frames = sum(1 for _ in reader)
        took.append(time.perf_counter() - started)
    median = float(np.median(took))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    row = {"case": case, "film_seconds": seconds, "frames": frames, "seconds": round(median, 2)}
    row |= {"real_time": round(seconds / median, 1), "peak_mib": round(peak)}
    print(row, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = (("every frame", 60, 50), ("key frames", given.seconds, 50), ("far apart", given.seconds, 1000))
        rows = []
        for case, seconds, gop in cases:
            path = write_film(
                Path(folder) / f"{len(rows)}.mp4", moving(seconds), gop=gop, options={"preset": "ultrafast"}
            )
            rows.append(measure(case, path, seconds, given.rounds))
    write_result("films", {"rows": rows})


if __name__ == "__main__":
    main()
