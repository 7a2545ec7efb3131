"""Vectors of regions of each picture beside that of the whole: what they bring for small objects, and what they cost.

    python benchmarks/regions.py --data FOLDER

The queries are names of objects; the pictures are photographs, of 200 pixels, in which the object is seen and covers
less than a tenth (small_objects.json: captions mention it, and a person looked). Each picture is looked for among all
that do not have the object: it is found if it is among the first ten. A picture's score is the best of its vectors.
"""

import json
import time
from pathlib import Path

import numpy as np
from harness import HERE, data_parser, write_result
from PIL import Image

from clipsearch.encoders import registry

CORNERS_AND_MIDDLE = (1, 3, 5, 7, 9)
LAYOUTS = {
    "whole": (0,),
    "whole, 5 regions": (0, *CORNERS_AND_MIDDLE),
    "whole, 9 regions": tuple(range(10)),
    "5 regions alone": CORNERS_AND_MIDDLE,
}
BONUSES = (0.0, 0.05, 0.1)
"""What the whole is ahead of its regions: a region is half as high and wide, and says less of the picture."""


def views(picture):
    """The picture, then 3 x 3 regions of half its width and height that overlap by half, row by row."""
    width, height = picture.size
    starts = [(across, down) for down in (0, 0.25, 0.5) for across in (0, 0.25, 0.5)]
    boxes = [(width * a, height * d, width * (a + 0.5), height * (d + 0.5)) for a, d in starts]
    return [picture, *(picture.crop(tuple(map(round, box))) for box in boxes)]


def encode(encoder, files):
    """float32 (pictures, 10, dim), and the seconds of a whole picture and of its nine regions."""
    vectors, whole, regions = [], 0.0, 0.0
    for path in files:
        pictures = views(Image.open(path).convert("RGB"))
        started = time.perf_counter()
        first = encoder.encode_images(pictures[:1])
        middle = time.perf_counter()
        rest = encoder.encode_images(pictures[1:])
        whole, regions = whole + middle - started, regions + time.perf_counter() - middle
        vectors.append(np.concatenate([first, rest]))
    return np.stack(vectors), whole, regions


def found_in_ten(scores, judged, places):
    """For each pair of an object and a picture, whether it is among the first ten: bool (pairs,)."""
    found = []
    for name, said in judged.items():
        row = scores[name].copy()
        others = [places[each] for each in (*said["small"], *said["left_out"])]
        rest = np.delete(row, others)
        found += [int((rest > row[places[each]]).sum()) < 10 for each in said["small"]]
    return np.array(found)


def interval(differences, rng):
    """The 95 % interval of a mean by bootstrap over pairs (Efron 1979), in percent."""
    means = [rng.choice(differences, len(differences)).mean() for _ in range(4000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def main() -> None:
    parser = data_parser(__doc__)
    parser.add_argument("--vectors", type=Path, help="where the vectors are kept between runs")
    given = parser.parse_args()
    files = sorted(given.data.rglob("*.jpg"))
    places = {path.name: number for number, path in enumerate(files)}
    judged = json.loads((HERE / "small_objects.json").read_text())
    encoder = registry.load(given.model, threads=1, offline=True)
    if given.vectors and given.vectors.exists():
        vectors, times = np.load(given.vectors), None
    else:
        vectors, *seconds = encode(encoder, files)
        times = round(sum(seconds) / seconds[0], 1)
        if given.vectors:
            np.save(given.vectors, vectors)
    queries = dict(zip(judged, encoder.encode_queries([f"{name}" for name in judged]), strict=True))
    rng, rows, base = np.random.default_rng(0), [], None
    for layout, chosen in LAYOUTS.items():
        for bonus in BONUSES if 0 in chosen and len(chosen) > 1 else (0.0,):
            ahead = np.where(np.array(chosen) == 0, bonus, 0.0)
            scores = {name: (vectors[:, chosen] @ query + ahead).max(axis=1) for name, query in queries.items()}
            found = found_in_ten(scores, judged, places)
            base = found if base is None else base
            row = {
                "vectors": layout,
                "whole_ahead_by": bonus,
                "pairs": len(found),
                "R@10_%": round(100 * float(found.mean()), 1),
            }
            row["beyond_the_whole"] = interval(found.astype(float) - base, rng)
            rows.append(row)
            print(row, flush=True)
    write_result("regions", {"model": given.model, "times_to_encode": times, "rows": rows})


if __name__ == "__main__":
    main()
