"""What the reliability runs compare: the state of a library, its answers, and whether damage is found.

The state is read past the code under test, with plain sqlite3 and NumPy. Answers are those of the engine.
"""

import json
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

State = dict[str, Any]
"""JSON values: `items` by place, `generations`, `failures`; see read_state."""


def read_state(library: Path) -> State:
    """Read all that a user can see of a library: no ids, no numbers of rows. {} where there is no library yet."""
    path = library / "catalog.db"
    if not path.exists():
        return {}
    if path.with_name("catalog.db-journal").exists():  # it died while it was made: only who may write can undo that
        with tempfile.TemporaryDirectory() as folder:
            for name in ("catalog.db", "catalog.db-journal"):
                shutil.copy(library / name, folder)
            with closing(sqlite3.connect(Path(folder) / "catalog.db")) as db:
                return _read(db, library)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return _read(db, library)


def _read(db: sqlite3.Connection, library: Path) -> State:
    db.row_factory = sqlite3.Row
    db.execute("BEGIN")
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "settings" not in tables:
        return {}
    settings = dict(db.execute("SELECT key, value FROM settings").fetchall())
    dim = int(settings.get("dim", 0))
    segments = [dict(row) for row in db.execute("SELECT * FROM segments ORDER BY modality, first_row")]
    roots = {row["id"]: row["path"] for row in db.execute("SELECT id, path FROM roots")}
    rows = db.execute("SELECT * FROM vectors ORDER BY item_id, modality, part").fetchall()
    items = db.execute("SELECT * FROM items WHERE NOT deleted").fetchall()
    dead = {tuple(row) for row in db.execute("SELECT modality, row FROM tombstones")}
    tags = db.execute("SELECT item_id, source, tag FROM tags ORDER BY 1, 2, 3").fetchall() if "tags" in tables else []
    failures = [list(row) for row in db.execute("SELECT path, reason FROM failures ORDER BY 1")]
    kinds = [list(row) for row in db.execute("SELECT modality, kind, watermark FROM generations ORDER BY 1")]
    matrices = _matrices(library / "vectors", segments, dim)
    found: dict[int, dict[str, Any]] = {}
    for item in items:
        where = {"path": item["path"], "root": roots[item["root_id"]], "hash": item["content_hash"]}
        seen = {name: item[name] for name in ("modality", "size", "width", "height", "taken_at", "camera")}
        caption = item["caption"] if "caption" in item.keys() else None
        found[item["id"]] = {**where, **seen, "caption": caption, "parts": [], "tags": []}
    for row in rows:
        if row["item_id"] in found:
            if (row["modality"], row["row"]) in dead:
                raise AssertionError(f"row {row['row']} of a live item is marked as deleted")
            vector = matrices[row["modality"]][row["row"]].tobytes().hex()
            found[row["item_id"]]["parts"].append([row["modality"], row["part"], row["text"], vector])
    for item_id, source, tag in tags:
        if item_id in found:
            found[item_id]["tags"].append([source, tag])
    for item in found.values():
        if not item["parts"]:
            raise AssertionError(f"item {item['path']} has no vectors")
    named = {f"{item['root']}|{item['path']}": item for item in found.values()}
    return {"items": named, "failures": failures, "generations": kinds, "roots": sorted(roots.values())}


def _matrices(folder: Path, segments: list[dict[str, Any]], dim: int) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for segment in segments:
        data = (folder / segment["name"]).read_bytes()[: segment["committed_rows"] * dim * 2]
        if len(data) != segment["committed_rows"] * dim * 2:
            raise AssertionError(f"{segment['name']} is shorter than what is committed")
        parts.setdefault(segment["modality"], []).append(np.frombuffer(data, "<f2").reshape(-1, dim))
    return {modality: np.concatenate(found) for modality, found in parts.items()}


@dataclass(frozen=True)
class Answer:
    """An answer as JSON without its warnings, or the error in its place."""

    value: str
    told: bool
    error: str = ""


WORDS = ("a red field", "the harbour and the sea", "record 12 of export", "green")


FEW = ("vector 0", "by words", "filtered", "similar 3", "find all", "find tag", "tags")


class Questions:
    """A fixed set of questions for a library; their vectors are made once."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._vectors = encoder.encode_queries(list(WORDS))

    def ask(self, library: Path, only: Sequence[str] = ()) -> dict[str, Answer]:
        """Ask everything, or some questions by name, of a library that is opened for it."""
        return dict(self._ask(library, only))

    def hold(self, library: Path) -> Any:
        """Open a library, ask everything once, and return the engine, which keeps it open."""
        engine = self._open(library)
        for _ in self._ask_engine(engine, ()):
            pass
        return engine

    def ask_held(self, engine: Any) -> dict[str, Answer]:
        """Ask everything of a library that is open."""
        return dict(self._ask_engine(engine, ()))

    def _ask(self, folder: Path, only: Sequence[str]) -> Iterator[tuple[str, Answer]]:
        from clipsearch.errors import ClipSearchError

        try:
            engine = self._open(folder)
        except ClipSearchError as error:
            yield "open", Answer("", True, f"{type(error).__name__}: {error}")
            return
        except Exception as error:
            yield "open", Answer("", False, f"INTERNAL {type(error).__name__}: {error}")
            return
        try:
            yield from self._ask_engine(engine, only)
        finally:
            engine.close()

    def _open(self, folder: Path) -> Any:
        from clipsearch.config import Settings
        from clipsearch.query.engine import SearchEngine
        from clipsearch.store.library import Library

        settings = Settings(query_cache=False, threads=1, offline=True)
        return SearchEngine(Library(folder), settings, encoder=self._encoder)

    def _ask_engine(self, engine: Any, only: Sequence[str]) -> Iterator[tuple[str, Answer]]:
        from clipsearch.errors import ClipSearchError

        for name, run in self._questions(engine).items():
            if only and name not in only:
                continue
            with told() as lines:
                try:
                    value, noted = run()
                    yield name, Answer(value.replace(str(engine.library.folder), "LIBRARY"), noted or bool(lines))
                except ClipSearchError as error:
                    yield name, Answer("", True, f"{type(error).__name__}: {error}")
                except Exception as error:
                    yield name, Answer("", False, f"INTERNAL {type(error).__name__}: {error}")

    def _questions(self, engine: Any) -> dict[str, Any]:
        from clipsearch import present
        from clipsearch.filtering import Filter
        from clipsearch.query.terms import Indexed
        from clipsearch.types import Modality

        def search(**asked: Any) -> Any:
            def run() -> tuple[str, bool]:
                found = engine.search(**asked)
                extra = [asdict(hit.item) for hit in found]
                return json.dumps([present.to_payload(found), extra], default=str), bool(found.warnings)

            return run

        def find(filters: Filter) -> Any:
            def run() -> tuple[str, bool]:
                found = engine.find(filters)
                return json.dumps([[asdict(item), found.tags.get(item.id)] for item in found], default=str), False

            return run

        def count() -> tuple[str, bool]:
            from clipsearch.store.tags import count_tags

            with engine.library.query() as connection:
                return json.dumps(count_tags(connection)), False

        asked = {f"vector {i}": search(vector=row, k=8) for i, row in enumerate(self._vectors)}
        asked["pictures alone"] = search(vector=self._vectors[0], k=50, modality=Modality.IMAGE)
        asked["texts alone"] = search(vector=self._vectors[1], k=50, modality=Modality.TEXT)
        asked["by words"] = search(text=WORDS[1], k=10)
        asked["filtered"] = search(vector=self._vectors[0], k=10, filters=Filter(cameras=("Camera 1",)))
        asked["similar 3"] = search(text=Indexed(3), k=10)
        asked["similar 40"] = search(text=Indexed(40), k=10)
        asked["find all"] = find(Filter())
        asked["find camera"] = find(Filter(cameras=("Camera 2",)))
        asked["find caption"] = find(Filter(caption="red"))
        asked["find tag"] = find(Filter(tags=("red",)))
        asked["tags"] = count
        return asked


@contextmanager
def told() -> Iterator[list[str]]:
    """Collect what is logged as a warning in this block: a user sees it."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    lines: list[str] = []
    logger, handler = logging.getLogger("clipsearch"), Keep(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def damage(library: Path) -> list[str]:
    """Return what `clipsearch verify --full` finds damaged; before there was that command, what doctor does."""
    from clipsearch.cli.main import COMMANDS, cli
    from clipsearch.errors import ClipSearchError, StoreCorruptError
    from clipsearch.store import health
    from clipsearch.store.findings import Severity
    from clipsearch.store.library import Library

    if "verify" in COMMANDS:
        from click.testing import CliRunner

        result = CliRunner().invoke(cli, ["verify", "--full", "--json", "--library", str(library)])
        if isinstance(result.exception, ClipSearchError):
            return [str(result.exception)]
        if result.exit_code == StoreCorruptError.exit_code:
            findings = json.loads(result.stdout)["findings"]
            return [f"{each['check']}: {each['found']}" for each in findings if each["severity"] == Severity.PROBLEM]
        return [] if result.exit_code == 0 else [f"verify ended with {result.exit_code}: {result.exception!r}"]
    try:
        opened = Library(library)
    except ClipSearchError as error:
        return [str(error)]
    try:
        return [f.found for f in health.examine(opened, "clipsearch build") if f.severity is Severity.PROBLEM]
    finally:
        opened.close()


def lost(before: State, after: State, now: State, acknowledged: list[str]) -> list[str]:
    """Compare the state after a crash with those before and after the command: what is wrong with it.

    Each item must be as it was before or as it is after; what was acknowledged must be as it is after.
    """
    old, new, found = (state.get("items", {}) for state in (before, after, now))
    wrong = []
    for place in old.keys() | new.keys() | found.keys():
        states = [old.get(place), new.get(place)]
        if place in found and found[place] not in states:
            wrong.append(f"{place} is neither as before nor as after")
        if place not in found and None not in states:
            wrong.append(f"{place} is gone")
    paths = {item["path"]: item for item in found.values()}
    final = {item["path"]: item for item in new.values()}
    wrong += [f"{path} was committed and is lost" for path in acknowledged if paths.get(path) != final.get(path)]
    return wrong
