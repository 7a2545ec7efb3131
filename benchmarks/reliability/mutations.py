"""Take each defence away, one at a time, and see that a test fails without it.

    python benchmarks/reliability/mutations.py [--only WORD]

mutations.json lists them: what the defence is for, the file, the text that is replaced and by what, and the tests that
must fail. The tree is copied first, so nothing here changes. Exit code 1 where a test passes without its defence.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import write_result

PARTS = (
    "clipsearch",
    "indexer",
    "tests",
    "benchmarks",
    "tools",
    "docs",
    "pyproject.toml",
    "README.md",
    "CONTRIBUTING.md",
)


def copy_tree(folder):
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(source, folder / part)


def survives(folder, tests):
    """Tell whether the tests pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{tests}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="those whose description has this word")
    only = parser.parse_args().only
    listed = json.loads(Path(__file__).with_suffix(".json").read_text())
    chosen = [mutation for mutation in listed if only in mutation["defence"]]
    survivors = []
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        copy_tree(folder)
        for mutation in chosen:
            path = folder / mutation["file"]
            text = path.read_text()
            if text.count(mutation["old"]) != 1:
                raise SystemExit(
                    f"{mutation['defence']}: {mutation['file']} has the text {text.count(mutation['old'])} times"
                )
            path.write_text(text.replace(mutation["old"], mutation["new"]))
            alive = survives(folder, mutation["tests"])
            path.write_text(text)
            print("SURVIVED" if alive else "caught  ", mutation["defence"], flush=True)
            survivors += [mutation["defence"]] if alive else []
    if not only:
        write_result("reliability_mutations", {"mutations": len(chosen), "caught": len(chosen) - len(survivors)})
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
