"""A library to serve: photographs in files, made ones that are vectors alone, and captions; and texts to ask it."""

import itertools
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import make_pictures

FILES = 400
"""Pictures that are files, of which there are thumbnails."""

CAPTIONED = 8
"""Of so many made pictures one has a caption, whose words find it too."""

NOISE = 0.8
_BLOCK = 8192
_WHO = "dog cat horse child woman cyclist fisherman bird girl boy man farmer sailor painter lion duck".split()
_HOW = "red small wet happy old striped young tired quick white black tall quiet proud sleepy curious".split()
_DOES = "runs|jumps|sleeps|stands|plays|sits|waits|looks up|turns around|eats|drinks|falls|sings|hides".split("|")
_WHERE = "on a beach|in the snow|beside a river|on a sofa|in a street|under a tree|near a castle|at night".split("|")
_WITH = "|with a hat|with a ball|in the rain|at noon|and its shadow|before a wall|in the distance".split("|")


def phrases() -> list[str]:
    """Return all short descriptions, which differ from each other, in an order that mixes them."""
    parts = itertools.product(_HOW, _WHO, _DOES, _WHERE, _WITH)
    made = [f"a {how} {who} {does} {where} {more}".rstrip() for how, who, does, where, more in parts]
    return [made[i] for i in np.random.default_rng(0).permutation(len(made))]


def make_library(folder: Path, count: int) -> None:
    """Make a library of `count` pictures of the builtin encoder, as `index`, `add` and `build` make one."""
    import clipsearch
    from clipsearch import Record

    make_pictures(folder / "photos", FILES)
    with clipsearch.open(folder / "library", create=True, model="builtin-base") as engine:
        engine.index(folder / "photos")
        said = phrases()
        words = engine.embed(texts=said[: _BLOCK // 2])

        def records():
            chance = np.random.default_rng(1)
            for number in range(count - FILES):
                own = NOISE * chance.standard_normal(words.shape[1]) / words.shape[1] ** 0.5
                caption = said[number % len(said)] if number % CAPTIONED == 0 else None
                yield Record(
                    f"made-{number}", vector=words[number % len(words)] + own, modality="image", caption=caption
                )

        engine.add(records())
        engine.build()


if __name__ == "__main__":
    make_library(Path(sys.argv[1]), int(sys.argv[2]))
