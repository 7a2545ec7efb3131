"""The builtin encoders alone: pictures and texts a second, and what their first use costs in time and memory."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from harness import make_pictures, run, write_result
from PIL import Image

from clipsearch.encoders.builtin import BUILTIN_VARIANTS, BuiltinEncoder

PICTURES, TEXTS, ROUNDS, THREADS = 256, 512, 5, 2
FIRST_USE = (
    "from clipsearch.encoders.builtin import BuiltinEncoder; from PIL import Image; "
    "e = BuiltinEncoder({variant!r}, threads={threads}); e.encode_images([Image.new('RGB', (9, 9))]); "
    "e.encode_queries(['a'])"
)


def main() -> None:
    """Measure each variant: medians of a few rounds, and a first use with an empty cache."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        make_pictures(Path(scratch) / "photos", PICTURES, side=200)
        pictures = [Image.open(path).convert("RGB") for path in sorted((Path(scratch) / "photos").iterdir())]
        texts = [f"a photo of thing number {number}" for number in range(TEXTS)]
        for variant in BUILTIN_VARIANTS:
            script = FIRST_USE.format(variant=variant, threads=THREADS)
            first = run([sys.executable, "-c", script], {"CLIPSEARCH_CACHE": f"{scratch}/{variant}"})
            encoder = BuiltinEncoder(variant, threads=THREADS)
            encoder.encode_images(pictures[:8]), encoder.encode_texts(texts[:8])
            rows.append(
                {
                    "encoder": encoder.name,
                    "pictures_per_second": rate(encoder.encode_images, pictures),
                    "short_texts_per_second": rate(encoder.encode_texts, texts),
                    "first_use_seconds": round(first[0], 1),
                    "first_use_peak_mib": round(first[1]),
                }
            )
    write_result("encoder_speed", {"picture": "200 x 200, decoded", "threads": THREADS, "rows": rows})


def rate(encode, batch: list) -> int:
    """Items a second, the median of ROUNDS."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        encode(batch)
        times.append(time.perf_counter() - started)
    return round(len(batch) / statistics.median(times))


if __name__ == "__main__":
    main()
