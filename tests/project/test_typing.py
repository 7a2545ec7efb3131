"""A project that uses clipsearch is checked by mypy --strict, as its author would: with the package installed."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CONSUMER = Path(__file__).parent / "consumer"
CONFIG = """
[mypy]
strict = true
cache_dir = {cache}
# Large, and no type of theirs is part of the API.
[mypy-torch.*,torchvision.*,transformers.*,open_clip.*,onnx.*,onnxruntime.*,faiss.*,rapidocr.*,cv2.*,haystack.*]
follow_imports = skip
ignore_missing_imports = true
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment of its own, in which our packages are installed as the wheel has them, beside what we need."""
    folder = tmp_path_factory.mktemp("consumer") / "env"
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib*/python*/site-packages"))
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in settings["packages"]:
        shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def check(python, tmp_path, name):
    """Run mypy on one file of the project."""
    shutil.copy(CONSUMER / name, tmp_path / name)
    (tmp_path / "mypy.ini").write_text(CONFIG.format(cache=python.parents[1] / "cache"))
    command = [sys.executable, "-m", "mypy", "--python-executable", str(python), "--no-error-summary", name]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)


def test_right_uses_pass_and_wrong_ones_do_not(python, tmp_path):
    passed = check(python, tmp_path, "uses.py")
    assert (passed.returncode, passed.stdout) == (0, ""), passed.stdout + passed.stderr
    failed = check(python, tmp_path, "misuses.py")
    lines = (CONSUMER / "misuses.py").read_text().splitlines()
    found = {int(line.split(":")[1]) for line in failed.stdout.splitlines() if ": error:" in line}
    assert found == {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}, failed.stdout


def test_our_types_are_declared():
    """The wheel has every file of these folders, so the marker too."""
    assert (ROOT / "clipsearch" / "py.typed").is_file() and (ROOT / "indexer" / "py.typed").is_file()
