"""clipsearch doctor over real libraries: what it measures is so, and every damage is found and stops nothing else."""

import json
import shutil
from dataclasses import replace

import click
import numpy as np
import pytest

from clipsearch.ann.base import Probe
from clipsearch.ann.calibrate import Calibrated, calibrate
from clipsearch.cli.main import cli
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.store.row_health import _odd_rows
from clipsearch.store.vectors import VectorStore, new_segment
from clipsearch.types import EncoderPin, Modality
from indexer import calibration
from indexer.importing import import_embeddings
from tests.support.cli import run_cli
from tests.support.damage import edit, segment, spoil_page, sql
from tests.support.libraries import index, photos
from tests.support.state import tree_digest
from tests.support.vectors import DIM, built, fill, unit

SEVERITIES = ["ok", "note", "warning", "problem"]


@pytest.fixture
def doctor(capsysbinary):
    """Run the command; give its exit code and its findings by (modality, check)."""

    def run(folder, *options):
        code = cli.main(["doctor", "--json", "--library", str(folder), *options], standalone_mode=False)
        payload = json.loads(capsysbinary.readouterr().out)
        check_contract(payload, folder, code)
        return code or 0, {(finding["modality"], finding["check"]): finding for finding in payload["findings"]}

    return run


def check_contract(payload, folder, code):
    assert list(payload) == ["library", "severity", "findings"]
    assert payload["library"] == str(folder)
    severities = []
    for finding in payload["findings"]:
        assert list(finding) == ["check", "modality", "severity", "found", "todo", "values"]
        assert finding["found"] and finding["modality"] in ("image", "text", None)
        assert finding["todo"] or finding["severity"] in ("ok", "note")
        severities.append(SEVERITIES.index(finding["severity"]))
    assert payload["severity"] == SEVERITIES[max(severities)]
    assert (code or 0) == (5 if payload["severity"] == "problem" else 0)


def worse_than(found, severity):
    """What is worse than a severity, without what is said of the encoder, which no library of given vectors has."""
    limit = SEVERITIES.index(severity)
    return {key for key, f in found.items() if SEVERITIES.index(f["severity"]) > limit and key != (None, "encoder")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A library of 1,200 pictures and 300 texts, with IVF-PQ indexes."""
    folder = tmp_path_factory.mktemp("doctor") / "library"
    fill(folder, unit(1200))
    fill(folder, unit(300, seed=1, noise=0.4), Modality.TEXT)
    return built(folder, "ivfpq")


@pytest.fixture
def library(prepared, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(prepared, tmp_path / "library")


# --- What it measures


@pytest.mark.slow
def test_a_sound_library_has_nothing_to_be_done(doctor, prepared):
    before = tree_digest(prepared)
    code, found = doctor(prepared)
    assert code == 0 and not worse_than(found, "ok")
    for modality, rows in (("image", 1200), ("text", 300)):
        assert found[modality, "vectors"]["values"] == {
            "vectors": rows, "tombstones": 0, "dead_share": 0.0, "row_bytes": 2 * DIM
        }  # fmt: skip
        assert found[modality, "index"]["values"]["kind"] == "ivfpq"
        size = next(prepared.glob(f"ann/{modality}-*/index.faiss")).stat().st_size
        assert found[modality, "index"]["values"]["bytes_per_vector"] == pytest.approx(size / rows, abs=0.05)
        for kind in ("text", "image"):
            measured = found[modality, f"recall_{kind}"]["values"]
            assert measured["queries"] == 200 and measured["target"] == 0.95 and 0.9 <= measured["recall"] <= 1
            assert measured["calibrated"] >= 0.9
        latency = found[modality, "latency"]["values"]
        assert 0 < latency["p50_ms"] <= latency["p95_ms"] and latency["queries"] >= 5
    assert found["image", "recall_image"]["values"]["fresh"] and not found["image", "recall_text"]["values"]["fresh"]
    assert tree_digest(prepared) == before, "the library was changed"


def test_the_table_has_a_line_for_each_finding(prepared):
    ran = run_cli("doctor", "--library", prepared, "--queries", 20)
    assert ran.code == 0, ran
    lines = ran.out.decode().splitlines()
    assert any(line.split()[:3] == ["ok", "image", "recall_text"] and "20 texts" in line for line in lines)
    assert any("To do: List the encoders: clipsearch models" in line for line in lines)
    count = sum(line.split()[0] in SEVERITIES for line in lines)
    assert lines[-1] == f"{prepared}: 1 note, {count - 1} ok"


def brute_recall(folder, rows):
    """What share of its nine nearest others a picture finds, by numpy and the public engine."""
    half = rows.astype(np.float16).astype(np.float32)
    shares = []
    with SearchEngine(Library(folder)) as engine:
        for i, row in enumerate(half[::10]):
            scores = half @ row
            scores[10 * i] = -np.inf
            true = {f"{j:06d}" for j in np.argsort(-scores)[:9]}
            hits = {hit.path.rpartition("/")[2] for hit in engine.search(vector=row, k=10, modality="image")}
            shares.append(len(true & hits) / 9)
    return np.mean(shares)


@pytest.mark.slow
def test_a_calibration_that_promises_too_much_is_seen_by_what_is_really_found(doctor, tmp_path, monkeypatch):
    """A real build, but one that takes the least there is and says that it found nearly all."""

    def lie(index, queries, true, target, allowed=None):
        return Calibrated(Probe(1, 0.25, 10), 0.99, 0.001, target, len(queries.vectors), queries.source, 10.0)

    rows = unit(1000, seed=2, noise=1.5)
    fill(tmp_path / "bad", rows)
    with monkeypatch.context() as patch:
        patch.setattr(calibration, "calibrate", lie)
        built(tmp_path / "bad", "ivfpq")
    code, found = doctor(tmp_path / "bad")
    measured = found["image", "recall_image"]
    assert code == 0 and measured["severity"] == "warning"
    assert measured["todo"].startswith("clipsearch build --index ivfpq;")
    assert measured["values"]["calibrated"] == 0.99 and measured["values"]["target"] == 0.95
    assert measured["values"]["recall"] < 0.8
    assert measured["values"]["recall"] == pytest.approx(brute_recall(tmp_path / "bad", rows), abs=0.06)

    built(tmp_path / "bad", "ivfpq")
    _, found = doctor(tmp_path / "bad")
    measured = found["image", "recall_image"]
    assert measured["severity"] == "ok" and measured["values"]["recall"] >= 0.93
    assert measured["values"]["recall"] == pytest.approx(brute_recall(tmp_path / "bad", rows), abs=0.04)


@pytest.mark.slow
def test_each_kind_of_query_is_asked_with_its_own_probe(doctor, tmp_path, monkeypatch):
    def blind_for_words(index, queries, true, target, allowed=None):
        if queries.own is not None:
            return calibrate(index, queries, true, target, allowed)
        return Calibrated(Probe(1, 0.25, 10), 0.99, 0.001, target, len(queries.vectors), queries.source, 10.0)

    fill(tmp_path / "library", unit(600, noise=1.5))
    fill(tmp_path / "library", unit(100, seed=3, noise=1.5), Modality.TEXT)
    monkeypatch.setattr(calibration, "calibrate", blind_for_words)
    _, found = doctor(built(tmp_path / "library", "ivfpq"), "--queries", "100")
    assert found["image", "recall_text"]["severity"] == "warning"
    assert found["image", "recall_text"]["values"]["recall"] < 0.8
    assert found["image", "recall_image"]["severity"] == "ok"


def test_copies_of_a_picture_are_as_right_as_each_other(doctor, tmp_path):
    rows = unit(600)
    rows[100:140] = rows[100]
    _, found = doctor(fill(tmp_path / "library", rows))
    assert found["image", "recall_image"]["values"]["recall"] == 1.0


@pytest.mark.parametrize("kind", ["flat", "pq4"])
@pytest.mark.parametrize("modality", list(Modality))
def test_one_modality_alone(doctor, tmp_path, kind, modality):
    folder = built(fill(tmp_path / "library", unit(400), modality), kind)
    code, found = doctor(folder, "--queries", "50")
    assert code == 0 and found[str(modality), "index"]["values"]["kind"] == kind
    assert {where for where, _ in found} == {None, str(modality)}
    kinds = {"text": ("recall_text", "recall_image"), "image": ("recall_image", "recall_text")}[modality]
    measured = found[str(modality), kinds[0]]["values"]["recall"]
    assert measured == 1.0 if kind == "flat" else measured >= 0.93
    if kind == "pq4":
        assert found[str(modality), kinds[1]]["severity"] == "note", "there is nothing to ask with, and that is said"
        calibrated = found[str(modality), "calibration"]
        assert calibrated["severity"] == "ok"
        assert ("--queries FILE" in calibrated["found"]) == (modality is Modality.IMAGE), "where stand-ins were asked"


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_rows(doctor, tmp_path, rows):
    code, found = doctor(fill(tmp_path / "library", unit(rows)))
    assert code == 0 and not worse_than(found, "note")
    assert (found[None, "contents"]["severity"] == "note") == (rows == 0)
    assert (("image", "latency") in found) == (rows > 0)
    assert (("image", "recall_image") in found) == (rows > 1)


def test_a_library_that_never_had_an_encoder(doctor, tmp_path):
    Library.create(tmp_path / "library").close()
    code, found = doctor(tmp_path / "library")
    assert code == 0 and "no encoder yet" in found[None, "encoder"]["found"]


def test_no_library_is_said_as_everywhere(tmp_path):
    ran = run_cli("doctor", "--library", tmp_path / "nothing")
    assert ran.code == 3 and "There is no library" in ran.err and not ran.out


def test_the_number_of_queries_is_kept(doctor, prepared):
    _, found = doctor(prepared, "--queries", "7")
    assert found["image", "recall_text"]["values"]["queries"] == 7
    for wrong in ("0", "501"):
        with pytest.raises(click.UsageError):
            doctor(prepared, "--queries", wrong)


@pytest.mark.slow
def test_words_are_asked_through_the_encoder_of_the_library(doctor, tmp_path, encoder):
    photos(tmp_path / "photos", 12, size=(32, 24))
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    code, found = doctor(tmp_path / "library", "--queries", "30")
    assert code == 0 and not worse_than(found, "ok")
    assert found[None, "encoder"]["values"]["name"] == "builtin-small"
    assert found[None, "encoder"]["values"]["text_ms"] > 0
    measured = found["image", "recall_text"]["values"]
    assert (measured["source"], measured["queries"], measured["recall"]) == ("generic queries", 30, 1.0)


def test_an_encoder_with_other_weights_is_a_warning(doctor, tmp_path, encoder):
    pin = EncoderPin("builtin-small", "0" * 40, encoder.dim)
    fill(tmp_path / "library", np.eye(40, encoder.dim, dtype=np.float32), pin=pin)
    code, found = doctor(tmp_path / "library")
    assert code == 0 and found[None, "encoder"]["severity"] == "warning"
    assert "fingerprint" in found[None, "encoder"]["found"]
    assert found["image", "recall_image"]["values"]["recall"] == 1.0


def test_imported_vectors_of_an_encoder_that_nobody_has(doctor, tmp_path):
    np.save(tmp_path / "v.npy", unit(80))
    import_embeddings(tmp_path / "library", str(tmp_path / "v.npy"), encoder="some model of ours")
    code, found = doctor(tmp_path / "library")
    assert code == 0 and found[None, "encoder"]["severity"] == "note"
    assert "only searches by vector" in found[None, "encoder"]["found"]
    assert found["image", "recall_image"]["values"]["recall"] == 1.0


# --- What is due


def test_rows_that_came_later_are_counted_and_make_a_calibration_old(doctor, library):
    fill(library, unit(1300, seed=4))
    _, found = doctor(library, "--queries", "20")
    assert found["image", "tail"]["values"] == {"tail": 1300}
    old = found["image", "calibration"]
    assert old["severity"] == "warning" and "1,200" in old["found"] and "2,500" in old["found"]
    assert (old["values"]["rows"], old["values"]["rows_now"]) == (1200, 2500)
    assert found["text", "calibration"]["severity"] == "ok"


def test_many_deleted_rows_are_due_to_be_taken_out(doctor, library):
    sql(
        library,
        "UPDATE items SET deleted = 1 WHERE id <= 400",
        "INSERT INTO tombstones SELECT modality, row FROM vectors WHERE item_id <= 400",
    )
    code, found = doctor(library, "--queries", "100")
    assert code == 0
    assert found["image", "vectors"]["values"] == {
        "vectors": 800, "tombstones": 400, "dead_share": 0.3333, "row_bytes": 64
    }  # fmt: skip
    assert found["image", "vectors"]["severity"] == "note" and "clipsearch index" in found["image", "vectors"]["todo"]
    assert found["text", "vectors"]["severity"] == "ok"
    assert found["image", "recall_image"]["values"]["recall"] >= 0.9


def test_an_index_that_is_due_and_not_there(doctor, library):
    opened = Library(library)
    with opened.writer() as writer:
        writer.deactivate(Modality.IMAGE)
    opened.close()
    _, found = doctor(library, "--queries", "20")
    assert found["image", "index"]["severity"] == "warning" and "ivfpq is preferred" in found["image", "index"]["found"]
    assert found["image", "recall_image"]["values"]["recall"] == 1.0


@pytest.mark.slow
def test_lists_of_very_different_length_are_noted(doctor, tmp_path):
    rows = unit(800)
    rows[:600] = unit(1, seed=5)
    _, found = doctor(built(fill(tmp_path / "library", rows), "ivfpq"), "--queries", "20")
    lists = found["image", "lists"]
    assert lists["severity"] == "note" and lists["values"]["largest"] >= 600 and lists["values"]["imbalance"] > 3
    assert lists["values"]["lists"] == 800 // 39


def test_leftovers_are_named_and_counted(doctor, library):
    (library / "vectors" / "image-000000009999-0.f16").write_bytes(bytes(100))
    (library / "ann" / ".new-image-1").mkdir()
    (library / "ann" / ".new-image-1" / "index.faiss").write_bytes(bytes(50))
    with open(next(library.glob("vectors/text-*.f16")), "ab") as file:
        file.write(bytes(7))
    code, found = doctor(library, "--queries", "50")
    assert code == 0 and found[None, "leftovers"]["severity"] == "note"
    assert found[None, "leftovers"]["values"] == {"files": 3, "bytes": 157}
    assert worse_than(found, "ok") == {(None, "leftovers")}


# --- Damage


def index_file(library, name="index.faiss"):
    return next(library.glob(f"ann/image-*/{name}"))


def flip(data):
    data[len(data) // 2] ^= 1


def cut(data):
    del data[len(data) // 2 :]


def put(library, row, value):
    def change(data):
        data[row * 2 * DIM : row * 2 * DIM + 2] = np.float16(value).tobytes()

    edit(segment(library), change)


DAMAGE = {
    "a bit of the index": (lambda lib: edit(index_file(lib), flip), "index_files"),
    "half an index": (lambda lib: edit(index_file(lib), cut), "index_files"),
    "no index": (lambda lib: index_file(lib).unlink(), "index_files"),
    "a calibration that is none": (lambda lib: index_file(lib, "calibration.json").write_text("{"), "index_files"),
    "half a segment": (lambda lib: edit(segment(lib), cut), "segments"),
    "no segment": (lambda lib: segment(lib).unlink(), "segments"),
    "a gap": (lambda lib: sql(lib, "UPDATE segments SET first_row = 5 WHERE modality = 'image'"), "segments"),
    "NaN": (lambda lib: put(lib, 17, np.nan), "rows"),
    "infinity": (lambda lib: put(lib, 1199, np.inf), "rows"),
    "a long row": (lambda lib: put(lib, 600, 3.0), "rows"),
    "a row of nobody": (lambda lib: sql(lib, "DELETE FROM vectors WHERE modality = 'image' AND row = 3"), "owners"),
    "a row beyond": (
        lambda lib: sql(lib, "UPDATE vectors SET row = 5000 WHERE modality = 'image' AND row = 3"),
        "owners",
    ),
    "a hidden row": (lambda lib: sql(lib, "INSERT INTO tombstones VALUES ('image', 8)"), "owners"),
    "a dead row beyond": (lambda lib: sql(lib, "INSERT INTO tombstones VALUES ('image', 9000)"), "owners"),
    "parameters that are none": (
        lambda lib: sql(lib, "UPDATE generations SET params = 'x' WHERE modality = 'image'"),
        "index_files",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_a_modality_is_a_problem_and_the_other_one_is_examined(doctor, library, damage):
    spoil, check = DAMAGE[damage]
    spoil(library)
    code, found = doctor(library, "--queries", "20")
    assert code == 5
    assert found["image", check]["severity"] == "problem" and found["image", check]["todo"]
    assert found["text", "vectors"]["values"]["vectors"] == 300
    assert not any(
        found["text", name]["severity"] == "problem" for where, name in found if where == "text" and name != "latency"
    )
    assert found[None, "catalog"]["severity"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["a bit of the index", "a calibration that is none"])
def test_a_damaged_index_is_mended_by_what_is_said_and_search_is_exact_until_then(doctor, library, damage):
    DAMAGE[damage][0](library)
    _, found = doctor(library, "--queries", "20")
    command = found["image", "index_files"]["todo"]
    assert command == "clipsearch build --index ivfpq", "a build without options would not keep the kind"
    assert found["image", "index"]["severity"] == found["image", "latency"]["severity"] == "warning"
    assert found["image", "recall_image"]["values"]["recall"] == 1.0
    assert cli.main([*command.split()[1:], "--library", str(library)], standalone_mode=False) is None
    code, found = doctor(library, "--queries", "20")
    assert code == 0 and found["image", "index_files"]["severity"] == "ok"


def test_the_first_odd_row_is_named_with_its_file(doctor, library):
    for row in (17, 900):
        put(library, row, np.nan)
    _, found = doctor(library, "--queries", "1")
    said = found["image", "rows"]
    assert said["values"] == {"looked_at": 1200, "bad": 2}
    assert "17" in said["found"] and said["found"].endswith("rows/000017.")


def test_a_quick_look_at_a_large_library_samples_it_up_to_its_ends(tmp_path):
    rows = np.tile(np.eye(1, 8, dtype=np.float16), (30_000, 1))
    rows[[0, 29_750, 29_900]] = 0
    store = VectorStore(tmp_path / "vectors", 8)
    store.recover([])
    segments = [new_segment(Modality.IMAGE, 0), new_segment(Modality.IMAGE, 11_111)]
    for i, part in enumerate((rows[:11_111], rows[11_111:])):
        store.append(segments[i], part)
        segments[i] = replace(segments[i], committed_rows=len(part))
    looked, bad = _odd_rows(store.view(segments), quick=True)
    assert looked == 10_000 and bad.tolist() == [0, 29_750]
    looked, bad = _odd_rows(store.view(segments))
    assert looked == 30_000 and bad.tolist() == [0, 29_750, 29_900]


def test_a_vector_without_its_item_is_found(doctor, library):
    sql(library, "DELETE FROM items WHERE id = 4")
    code, found = doctor(library, "--queries", "20")
    assert code == 5 and "1 vectors without items" in found[None, "references"]["found"]
    assert found["image", "owners"]["severity"] == "problem"


def test_a_catalog_that_sqlite_finds_damaged(doctor, library):
    spoil_page(library)
    code, found = doctor(library, "--queries", "20")
    assert code == 5 and found[None, "catalog"]["severity"] == "problem"
    assert found["image", "recall_image"]["severity"] == "ok", "the rest is examined all the same"


@pytest.mark.parametrize("damage", ["noise", "gone", "dim"])
def test_a_catalog_that_cannot_be_used(doctor, library, damage):
    if damage == "dim":
        sql(library, "UPDATE settings SET value = 'x' WHERE key = 'dim'")
    else:
        (library / "catalog.db").write_bytes(b"no database" * 500 if damage == "noise" else b"")
    code, found = doctor(library)
    assert code == 5
    assert any(finding["severity"] == "problem" for finding in found.values())
    if damage != "dim":
        assert "clipsearch repair" in found[None, "catalog"]["todo"]
