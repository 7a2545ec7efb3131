"""A query in a fresh process, beside the imports that any such query needs, and beside rclip.

The floor is a bare `python -c "import numpy, faiss, onnxruntime, sqlite3"`: what it costs to load the libraries.

rclip, in an environment of its own (`python -m venv V; V/bin/pip install rclip; export RCLIP=V/bin/rclip`), gets what
its own download would bring: its tower, ViT-B-32-256, here with random weights, in float32, under the names and with
the inputs that its code asks for; and its vocabulary, which open_clip ships. clipsearch gets the same tower from a
folder. Neither encodes the pictures: both get the same random vectors, clipsearch by `import-embeddings`, rclip in
the tables of its version 4. rclip is asked with --no-indexing, since clipsearch does not look for new pictures either.
Without rclip only the rows of clipsearch are made.
"""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from harness import COMMAND, interleaved, make_pictures, median_ratio, run, write_result

ROUNDS = 15
SIZES = (1000, 10_000)
TOWER = "ViT-B-32-256"
QUERY = "a cat on a sofa"
CHINESE = "沙发上的猫"
FLOOR = [sys.executable, "-c", "import numpy, faiss, onnxruntime, sqlite3"]
ALONE = ["env", "CLIPSEARCH_DAEMON=0", COMMAND, "query"]

SAVE_TOWER = """
import json, sys
from pathlib import Path
import open_clip, torch
from safetensors.torch import save_file
folder, name = Path(sys.argv[1]), sys.argv[2]
config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
(folder / "open_clip_config.json").write_text(json.dumps(config))
torch.manual_seed(0)
model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
weights = {key: value.contiguous() for key, value in model.state_dict().items()}
save_file(weights, folder / "open_clip_model.safetensors")
print(Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz"))
"""


def main() -> None:
    """Index, then time all commands of one size in turn."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="cold-") as scratch:
        photos = Path(scratch) / "photos"
        make_pictures(photos, max(SIZES))
        for size in SIZES:
            rows += builtin(Path(scratch), first(photos, size), size)
        rows += same_tower(Path(scratch), photos, max(SIZES))
    write_result("cold_query", {"rounds": ROUNDS, "rows": rows})


def first(photos: Path, size: int) -> Path:
    """Return a folder with the first pictures."""
    folder = photos.with_name(f"photos-{size}")
    folder.mkdir()
    for path in sorted(photos.iterdir())[:size]:
        os.link(path, folder / path.name)
    return folder


def builtin(scratch: Path, photos: Path, size: int) -> list[dict]:
    """Time queries with the encoder that needs no hub."""
    library = str(scratch / f"library-{size}")
    environment = {"CLIPSEARCH_LIBRARY": library, "HF_HUB_OFFLINE": "1"}
    run([COMMAND, "index", str(photos), "--model", "builtin"], environment)
    with daemon(environment) as runtime:
        commands = {
            "imports alone": FLOOR,
            "text": [*ALONE, "--no-cache", QUERY],
            "text in Chinese": [*ALONE, "--no-cache", CHINESE],
            "text, asked before": [*ALONE, QUERY],
            "picture": [*ALONE, "--image", str(photos / "000000.jpg")],
            "text, by the daemon": [COMMAND, "query", "--no-cache", QUERY],
            "text asked before, by the daemon": [COMMAND, "query", QUERY],
        }
        return measure(commands, {**environment, **runtime}, size, "builtin")


def same_tower(scratch: Path, photos: Path, size: int) -> list[dict]:
    """Time clipsearch and rclip with one tower over the same vectors."""
    tower = scratch / "tower"
    tower.mkdir()
    vocabulary = subprocess.check_output([sys.executable, "-c", SAVE_TOWER, tower, TOWER], text=True).split()[-1]
    vectors = np.random.default_rng(0).standard_normal((size, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(scratch / "vectors.npy", vectors)
    paths = sorted(photos.iterdir())
    (scratch / "items.jsonl").write_text("".join(json.dumps({"path": str(path)}) + "\n" for path in paths))
    environment = {"CLIPSEARCH_CACHE": str(scratch / "cache"), "HF_HUB_OFFLINE": "1"}
    environment["CLIPSEARCH_LIBRARY"] = str(scratch / "imported")
    # One picture, so that the tower is exported, and the import knows it by more than its name.
    run(
        [COMMAND, "index", str(paths[0]), "--model", f"local-dir:{tower}", "--library", str(scratch / "one")],
        environment,
    )
    source = ["--items", str(scratch / "items.jsonl"), "--encoder", f"local-dir:{tower}"]
    run([COMMAND, "import-embeddings", str(scratch / "vectors.npy"), *source], environment)
    commands = {"imports alone": FLOOR, "text": [*ALONE, "--no-cache", QUERY], "text, asked before": [*ALONE, QUERY]}
    if rclip := os.environ.get("RCLIP"):
        prepare_rclip(scratch, Path(vocabulary), paths, vectors)
        environment["RCLIP_DATADIR"] = str(scratch / "rclip")
        commands["rclip"] = ["env", "-C", str(photos), rclip, "--no-indexing", QUERY]
    else:
        print("rclip is left out: the variable RCLIP does not name its command.")
    return measure(commands, environment, size, TOWER)


def prepare_rclip(scratch: Path, vocabulary: Path, paths: list[Path], vectors: np.ndarray) -> None:
    """Fill the folder of rclip with its model, its vocabulary and its tables."""
    import onnx

    home = scratch / "rclip"
    models, tokenizer = home / "ViT-B-32-256-datacomp_s34b_b86k", home / "tokenizer"
    models.mkdir(parents=True)
    tokenizer.mkdir()
    shutil.copy(vocabulary, tokenizer)
    export = next((scratch / "cache" / "openclip").glob("*/text.onnx"))
    model = onnx.load(export)
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["input" if each == name else each for each in node.input]
    model.graph.input[0].name = "input"
    onnx.save(model, models / "textual.onnx")
    (models / "visual.onnx").write_bytes(b"never opened for a query in words")
    with closing(sqlite3.connect(home / "db.sqlite3")) as db:
        db.execute(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, deleted BOOLEAN, filepath TEXT NOT NULL UNIQUE, "
            "modified_at DATETIME NOT NULL, size INTEGER NOT NULL, vector BLOB NOT NULL, indexing BOOLEAN, hash TEXT)"
        )
        db.execute("CREATE UNIQUE INDEX existing_images ON images(filepath) WHERE deleted IS NULL")
        db.execute("CREATE INDEX hash_index ON images(hash) WHERE deleted IS NULL")
        db.execute("CREATE TABLE db_version (version INTEGER)")
        db.execute("INSERT INTO db_version VALUES (4)")
        states = ((path, path.stat(), row) for path, row in zip(paths, vectors, strict=True))
        rows = [(str(path), state.st_mtime, state.st_size, row.tobytes()) for path, state, row in states]
        db.executemany("INSERT INTO images (filepath, modified_at, size, vector) VALUES (?, ?, ?, ?)", rows)
        db.commit()


@contextmanager
def daemon(environment: dict[str, str]):
    """Run a daemon of its own; yields the environment that leads to it."""
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        runtime = {"XDG_RUNTIME_DIR": folder}
        where = {**os.environ, **environment, **runtime}
        with subprocess.Popen([COMMAND, "daemon"], env=where, stderr=subprocess.PIPE) as process:
            process.stderr.readline()
            yield runtime
            process.terminate()


def measure(commands: dict[str, list[str]], environment: dict[str, str], size: int, encoder: str) -> list[dict]:
    """Time commands in turn; one row each."""
    times = interleaved(commands, ROUNDS, environment)
    peaks = {name: round(run(command, environment)[1]) for name, command in commands.items()}
    peer = times.get("rclip")
    return [
        {
            "encoder": encoder,
            "pictures": size,
            "command": name,
            "median_seconds": round(statistics.median(times[name]), 3),
            "times_bare_imports": round(median_ratio(times[name], times["imports alone"]), 2),
            "times_rclip": round(median_ratio(times[name], peer), 2) if peer else None,
            "peak_mib": peaks[name],
        }
        for name in commands
    ]


if __name__ == "__main__":
    main()
