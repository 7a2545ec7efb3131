"""Encoders in the cache: what others could have written there, or what leads elsewhere, is made again."""

import json
import logging
import os
import shutil
import stat

import numpy as np
import pytest

from clipsearch.encoders import export_folder, preparing, registry
from clipsearch.encoders.builtin.cache import open_tower
from clipsearch.private import check_folder, open_private, read_private, write_private

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")

FAULTS = ["file writable", "folder writable", "file link", "folder link", "file owner", "folder owner", "pipe"]


def spoil(folder, file, fault):
    """Do to a folder, or a file in it, what only others gain by."""
    target = folder if fault.startswith("folder") else folder / file
    if fault.endswith("writable"):
        target.chmod(stat.S_IMODE(target.stat().st_mode) | 0o020)
    elif fault.endswith("link"):
        target.symlink_to(target.rename(folder.parent.parent / "elsewhere"))
    elif fault == "pipe":
        target.unlink()
        os.mkfifo(target)
    elif os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    else:
        os.chown(target, 12345, -1)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", ["model.onnx", "meta.json"])
def test_a_builtin_tower_that_others_could_have_written_is_built_again(tmp_path, monkeypatch, caplog, fault, file):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    built = []

    def build():
        built.append(1)
        return {"model.onnx": b"1"}

    for _ in range(2):
        assert open_tower("x", build, lambda files: files["model.onnx"]) == b"1"
    assert len(built) == 1
    spoil(tmp_path / "encoders" / "x", file, fault)
    assert open_tower("x", build, lambda files: files["model.onnx"]) == b"1"
    assert len(built) == 2 and len(caplog.records) == 1


def test_the_names_of_files_in_a_tower_lead_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    (tmp_path / "secret").write_bytes(b"1")
    open_tower("x", lambda: {"model.onnx": b"1"}, lambda files: None)
    meta = tmp_path / "encoders" / "x" / "meta.json"
    meta.write_text(meta.read_text().replace("model.onnx", "../../secret"))
    assert open_tower("x", lambda: {"model.onnx": b"new"}, lambda files: dict(files)) == {"model.onnx": b"new"}


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o000])
def test_a_tower_is_private_whatever_the_umask_is(tmp_path, monkeypatch, umask):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    before = os.umask(umask)
    try:
        open_tower("x", lambda: {"model.onnx": b"1"}, lambda files: None)
        write_private(tmp_path / "state" / "a", b"1")
    finally:
        os.umask(before)
    folder = tmp_path / "cache" / "encoders" / "x"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "state" / "a").stat().st_mode) == 0o600


@pytest.fixture
def export(models, tmp_path):
    """A prepared model of this test alone."""
    folder, meta = models.export("classic_clip")
    return shutil.copytree(folder, tmp_path / "exports" / folder.name), meta


def test_an_export_is_private(models):
    folder, _ = models.export("classic_clip")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {path.name for path in folder.iterdir()} <= export_folder.FILES | {export_folder.META}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", ["image.onnx.data", "meta.json"])
def test_an_export_that_others_could_have_written_is_refused(export, caplog, fault, file):
    folder, meta = export
    assert export_folder.verify_export(folder) == meta
    spoil(folder, file, fault)
    with pytest.raises(export_folder.ExportDamagedError):
        export_folder.verify_export(folder)
    with caplog.at_level(logging.WARNING):
        assert export_folder.find_exports(folder.parent) == []
    assert fault == "pipe" or len(caplog.records) == 1


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "x.onnx", "image.onnx/../../x", ""])
def test_an_export_names_the_files_of_an_export_alone(export, name):
    folder, _ = export
    fields = json.loads((folder / "meta.json").read_text())
    fields.pop("checksum")
    fields["files"][name] = fields["files"]["image.onnx"]
    (folder / "meta.json").write_text(json.dumps({**fields, "checksum": export_folder._checksum(fields)}))
    with pytest.raises(export_folder.ExportDamagedError, match="does not belong to a prepared model"):
        export_folder.verify_export(folder)


@pytest.mark.slow
def test_a_model_that_cannot_be_kept_is_prepared_for_this_process_alone(models, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    expected = registry.load(f"openclip:local-dir:{models.source('classic_clip')}", threads=1, offline=True)
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    encoder = registry.load(expected.name, threads=1, offline=True)
    assert np.allclose(encoder.encode_texts(["a cat"]), expected.encode_texts(["a cat"]), atol=1e-5)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1 and "CLIPSEARCH_CACHE" in caplog.text
    preparing.drop_scratch()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_private_files(tmp_path):
    path = tmp_path / "new" / "file"
    write_private(path, b"1")
    assert read_private(path) == b"1"
    with pytest.raises(FileExistsError):
        write_private(path, b"2", replace=False)
    assert [each.name for each in path.parent.iterdir()] == ["file"]
    os.close(open_private(path))
    check_folder(path.parent)
    os.mkfifo(tmp_path / "pipe")
    for irregular in (tmp_path / "pipe", tmp_path):
        with pytest.raises(PermissionError, match="not a regular file"):
            open_private(irregular)
    for wrong in (path, tmp_path / "none"):
        with pytest.raises(OSError):
            check_folder(wrong)
