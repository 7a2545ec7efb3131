"""The path that Spark takes: frames of tasks in, frames of reports out, and finished shards in a shared folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipsearch.errors import InvalidInputError
from indexer.executors.frames import SCHEMA, embed_frames, write_tasks
from indexer.import_shards import import_shards
from indexer.pipeline import index
from indexer.sources.registry import SourceOptions
from tests.support.shards import SETTINGS, same_library, tables

pandas = pytest.importorskip("pandas", reason="needs the extra `ray`")


def write(address, out):
    return write_tasks(address, str(out), model="builtin-small", settings=SETTINGS)


@pytest.mark.slow
def test_tasks_become_finished_shards_that_are_imported(tmp_path, encoder):
    address, out = tables(tmp_path / "data", 4, 7), tmp_path / "out"
    tasks = write(address, out)
    (tmp_path / "data" / "t03.jsonl").rename(tmp_path / "away.jsonl")
    frames = [pandas.DataFrame({"task": part}) for part in (tasks[:3], tasks[3:], [])]
    found = list(embed_frames(iter(frames), str(out)))
    assert [list(each.columns) for each in found] == [[part.split()[0] for part in SCHEMA.split(", ")]] * 3
    assert [len(each) for each in found] == [3, 1, 0]
    assert [Path(name).name for name in found[0]["shard"]] == ["t00.jsonl", "t01.jsonl", "t02.jsonl"]
    assert [*found[0]["records"], *found[0]["failed"], *found[0]["reason"]] == [5, 5, 5, 2, 2, 2, "", "", ""]
    assert "t03.jsonl" in found[1]["reason"][0]
    (tmp_path / "away.jsonl").rename(tmp_path / "data" / "t03.jsonl")
    again = pandas.concat(embed_frames(iter(frames), str(out)))  # of which three are finished
    assert list(again["records"]) == [5] * 4
    assert import_shards(tmp_path / "lib", out, SETTINGS).imported == 4
    index(tmp_path / "local", [address], SETTINGS, encoder=encoder)
    same_library(tmp_path / "lib", tmp_path / "local")


def test_a_folder_has_the_shards_of_one_source(tmp_path):
    address = tables(tmp_path / "data", 1, 3)
    assert write(address, tmp_path / "out") == write(address, tmp_path / "out")
    with pytest.raises(InvalidInputError, match="another source, encoder or option"):
        write_tasks(
            address, str(tmp_path / "out"), model="builtin-small", settings=SETTINGS,
            options=SourceOptions(fetch_urls=True),
        )  # fmt: skip


SPARK = """
import sys
from functools import partial
from pyspark.sql import SparkSession
from clipsearch.config import Settings
from indexer.executors.frames import SCHEMA, embed_frames, write_tasks
source, out = sys.argv[1:]
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
tasks = write_tasks(source, out, model="builtin-small", settings=Settings(threads=1, offline=True))
frame = spark.createDataFrame([(task,) for task in tasks], "task string").repartition(len(tasks))
done = frame.mapInPandas(partial(embed_frames, out=out), SCHEMA).collect()
print(sum(row.records for row in done), sum(row.failed for row in done))
spark.stop()
"""


@pytest.mark.slow
def test_spark_runs_it(tmp_path, encoder):
    pytest.importorskip("pyspark", reason="needs pyspark and a Java runtime")
    address = tables(tmp_path / "data", 4, 7)
    command = [sys.executable, "-c", SPARK, address, str(tmp_path / "out")]
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.stdout.split() == ["20", "8"], done.stderr
    assert import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS).imported == 4
    index(tmp_path / "local", [address], SETTINGS, encoder=encoder)
    same_library(tmp_path / "lib", tmp_path / "local")
