"""All at once: python benchmarks/reliability/mixed.py [--minutes M]

For M minutes two indexers, a builder, a forgetter, eight readers, and a daemon with somebody who asks it work on one
library, each in a process of its own. Pictures of one folder are never touched; those of two others come, go, move and
change all the time, are indexed and forgotten. What must hold:

    readers   each picture that is never touched is the first hit for its own vector, with a score of 0.999 at least;
              `find` lists it; as many hits as were asked for; not one error
    writers   exit code 0, or 4 where another writer is at work, which is tried again; not one other error
    daemon    each question is answered, and by the daemon
    the end   `clipsearch verify` (or doctor) finds no damage; one more `index` completes; the pictures that were never
              touched have the vectors that they had at first, to the byte
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import support
from checks import damage, read_state

KEPT, CHURN = 40, 30
READERS = 8
LOCKED = 4


class Mixed:
    """One library, and those who work on it until a time."""

    def __init__(self, folder: Path, seconds: float, encoder: Any, seed: int) -> None:
        self.folder, self.seconds, self.encoder, self.seed = folder, seconds, encoder, seed
        self.library = folder / "lib"
        self.kept = corpus.pictures(folder / "kept", KEPT)
        for number, name in enumerate(("one", "two")):
            corpus.pictures(folder / name, CHURN, 1000 * (number + 1))
        source = corpus.export(folder, "export", 400, 5)
        for arguments in (corpus.index(self.library, *self.roots), corpus.bring(self.library, source)):
            ended = support.fork(lambda arguments=arguments: support.command(*arguments))
            if ended.code:
                raise RuntimeError(ended.out)
        self.first = read_state(self.library)
        self.until = 0.0

    @property
    def roots(self) -> list[Path]:
        """The three folders."""
        return [self.folder / name for name in ("kept", "one", "two")]

    def parts(self) -> dict[str, Callable[[random.Random, Counter[str], list[str]], None]]:
        """Return who works, by name: each takes its chance, what it counts, and the errors that it finds."""
        found: dict[str, Any] = {f"indexer {name}": self._indexer(name) for name in ("one", "two")}
        found |= {"builder": self._builder, "forgetter": self._forgetter, "asker": self._asker}
        return found | {f"reader {number}": self._reader for number in range(READERS)}

    def run(self) -> tuple[dict[str, Counter[str]], list[str]]:
        """Let all work; return what each has counted, and the errors."""
        os.environ["CLIPSEARCH_DAEMON"] = "1"
        daemon = support.Victim(lambda: support.command("daemon"))
        self.until = time.monotonic() + self.seconds
        parts = self.parts()
        try:
            done = support.share(len(parts), lambda job: self._work(*[*parts.items()][job]))
            status = support.fork(lambda: support.command("daemon", "--status"))
            support.fork(lambda: support.command("daemon", "--stop"))
        finally:
            ended = daemon.wait(20)
            os.environ["CLIPSEARCH_DAEMON"] = "0"
        counts = {name: Counter(each["counts"]) for name, each in zip(parts, done, strict=True)}
        errors = [f"{name}: {line}" for name, each in zip(parts, done, strict=True) for line in each["errors"]]
        if ended.code or status.code:
            errors.append(f"daemon: ended with {ended.code}, status with {status.code}: {ended.out[-300:]}")
        return counts, errors + [f"the end: {line}" for line in support.ask_fork(self.examine)]

    def _work(self, name: str, part: Callable[..., None]) -> dict[str, Any]:
        counts, errors = Counter[str](), list[str]()
        chance = random.Random(f"{self.seed} {name}")
        while time.monotonic() < self.until and len(errors) < 20:
            part(chance, counts, errors)
        return {"counts": counts, "errors": errors}

    def _write(self, what: str, counts: Counter[str], errors: list[str], *arguments: object, well: int = 0) -> None:
        """Run a writing command in a fork; well: another exit code that is no error."""
        ended = support.fork(lambda: support.command(*arguments))
        if ended.code == LOCKED:
            counts["refused"] += 1
            time.sleep(0.02)
        elif ended.code in (0, well):
            counts[what] += 1
        else:
            errors.append(f"{what} ended with {ended.code}: {ended.out[-300:]}")

    def _indexer(self, name: str) -> Callable[[random.Random, Counter[str], list[str]], None]:
        folder = self.folder / name

        def part(chance: random.Random, counts: Counter[str], errors: list[str]) -> None:
            for _ in range(chance.randrange(1, 8)):
                _churn(folder, chance)
            self._write("runs", counts, errors, *corpus.index(self.library, folder))

        return part

    def _builder(self, chance: random.Random, counts: Counter[str], errors: list[str]) -> None:
        kind = chance.choice(("pq4", "flat", "ivfpq"))
        self._write("builds", counts, errors, "build", "--index", kind, "--library", self.library)
        time.sleep(chance.uniform(0, 0.5))

    def _forgetter(self, chance: random.Random, counts: Counter[str], errors: list[str]) -> None:
        folder = self.folder / chance.choice(("one", "two"))
        files = sorted(folder.rglob("*.jpg"))
        what = chance.choice([*files, folder])
        self._write("forgotten", counts, errors, "forget", what, "--library", self.library, well=2)
        time.sleep(chance.uniform(0, 0.3))

    def _reader(self, chance: random.Random, counts: Counter[str], errors: list[str]) -> None:
        from clipsearch.config import Settings
        from clipsearch.query.engine import SearchEngine
        from clipsearch.store.library import Library

        try:
            settings = Settings(query_cache=False, threads=1, offline=True)
            with SearchEngine(Library(self.library), settings, encoder=self.encoder) as engine:
                for _ in range(chance.randrange(1, 60)):  # some stay open for long, some for one question
                    self._ask(engine, chance, errors)
                    counts["answers"] += 1
                    if time.monotonic() > self.until:
                        return
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    def _ask(self, engine: Any, chance: random.Random, errors: list[str]) -> None:
        from clipsearch.filtering import Filter
        from clipsearch.types import Modality

        path = chance.choice(self.kept)
        item = next(item for item in self.first["items"].values() if item["path"] == path.name)
        vector = _vector(item)
        hits = engine.search(vector=vector, k=10, modality=Modality.IMAGE)
        if not len(hits) or hits[0].path != str(path) or hits[0].score < 0.999:
            errors.append(
                f"{path.name} is not the first hit for its own vector: {[(h.path, h.score) for h in hits[:2]]}"
            )
        if len(hits) != 10:
            errors.append(f"{len(hits)} hits of 10")
        if hits.warnings:
            errors.append(f"warned: {hits.warnings}")
        if chance.random() < 0.1:
            listed = {each.path for each in engine.find(Filter(folders=(str(self.folder / "kept"),)))}
            if listed != {str(each) for each in self.kept}:
                errors.append(f"find lists {len(listed)} of {KEPT}")

    def _asker(self, chance: random.Random, counts: Counter[str], errors: list[str]) -> None:
        from clipsearch.cli.daemon.protocol import ask

        words = chance.choice(("a red field", "green and blue", "the sea"))
        arguments = ["query", words, "--json", "--library", self.library]
        before = (ask({"do": "status"}) or {}).get("answered")
        ended = support.fork(lambda: support.command(*arguments))
        after = (ask({"do": "status"}) or {}).get("answered")
        if ended.code or len(json.loads(ended.out.splitlines()[-1])["hits"]) != 10:
            errors.append(f"query ended with {ended.code}: {ended.out[-300:]}")
        counts["answers"] += 1
        counts["by the daemon"] += before is not None and after is not None and after > before

    def examine(self) -> list[str]:
        """Look at the library when all is over."""
        wrong = damage(self.library)
        code = support.command(*corpus.index(self.library, *self.roots))
        if code:
            wrong.append(f"the next index ends with {code}")
        wrong += damage(self.library)
        now = read_state(self.library)["items"]
        names = {path.name for path in self.kept}
        for place, item in self.first["items"].items():
            if item["path"] in names and now.get(place) != item:
                wrong.append(f"{place} is not as it was at first")
        for folder in self.roots[1:]:
            on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*.jpg")}
            held = {item["path"] for item in now.values() if item["root"] == str(folder)}
            if on_disk != held:
                wrong.append(f"{folder.name}: {len(on_disk)} pictures on the disk, {len(held)} in the library")
        return wrong


def _vector(item: dict[str, Any]) -> Any:
    import numpy as np

    (stored,) = [vector for modality, _, _, vector in item["parts"] if modality == "image"]
    return np.frombuffer(bytes.fromhex(stored), "<f2").astype(np.float32)


def _churn(folder: Path, chance: random.Random) -> None:
    """Add, remove, move or change a picture."""
    files = sorted(folder.rglob("*.jpg"))
    what = chance.choice(("add", "remove", "move", "change")) if len(files) > 10 else "add"
    name = f"p{chance.randrange(10**6):06d}.jpg"
    if what == "add":
        corpus.picture(folder / name, chance.randrange(10**4, 10**6))
    elif what == "remove":
        chance.choice(files).unlink()
    elif what == "move":
        (folder / "moved").mkdir(exist_ok=True)
        chance.choice(files).rename(folder / "moved" / name)
    else:
        corpus.picture(chance.choice(files), chance.randrange(10**4, 10**6))


def main() -> None:
    given = support.parser(__doc__, minutes=10.0).parse_args()
    support.quiet()
    with support.workplace() as folder:
        encoder = support.warm(support.cache(folder))
        mixed = Mixed(folder, 60 * given.minutes, encoder, given.seed)
        counts, errors = mixed.run()
        rows = [{"part": name, **each} for name, each in counts.items() if not name.startswith("reader")]
        answers = sum(each["answers"] for name, each in counts.items() if name.startswith("reader"))
        rows.append({"part": f"{READERS} readers", "answers": answers})
        if not counts["asker"]["by the daemon"]:
            errors.append("the daemon has answered nothing")
        idle = [name for name, each in counts.items() if not sum(each.values())]
        errors += [f"{name}: did nothing" for name in idle]
        support.report("mixed", given, same_columns(rows), errors)


def same_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each row of a table every column."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


if __name__ == "__main__":
    main()
