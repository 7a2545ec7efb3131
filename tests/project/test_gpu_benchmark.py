"""benchmarks/gpu_encode.py on the processor: every phase runs, results are kept after each, pictures are made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def run(folder: Path, budget: int) -> dict:
    """Run the benchmark, tiny, and return its phases."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_encode.py"), "--tiny", "--budget", str(budget)]
    command += ["--pictures", str(folder / "pictures"), "--out", str(folder / "out")]
    # Compiling takes half a minute, and needs a compiler.
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"TORCH_COMPILE_DISABLE": "1"})
    values: dict = json.loads((folder / "out" / "gpu_encode.json").read_text())["values"]
    assert len(values["rows"]) == 1
    phases: dict = values["models"]["tiny"]
    return phases


def test_every_phase_runs_and_what_was_made_is_kept(tmp_path):
    phases = run(tmp_path, 300)
    assert len(phases) == 11
    assert {name: found for name, found in phases.items() if "failed" in found or "skipped" in found} == {}
    assert min(found["per_second"] for found in phases.values() if "per_second" in found) > 0
    assert (tmp_path / "out" / phases["trace"]["file"]).stat().st_size > 1000

    pictures = sorted((tmp_path / "pictures").rglob("*.jpg"))
    assert len({path.read_bytes() for path in pictures}) == 48 + 100
    written = {path: path.stat().st_mtime_ns for path in pictures}
    torn = next(path for path in pictures if path.parent.name.startswith("48-"))
    phases = run(tmp_path, 0)
    assert {tuple(found) for found in phases.values()} == {("skipped",)}
    assert {path: path.stat().st_mtime_ns for path in pictures} == written

    torn.write_bytes(torn.read_bytes()[:1000])
    run(tmp_path, 0)
    assert torn.stat().st_size > 1000
