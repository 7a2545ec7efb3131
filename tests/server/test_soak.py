"""The memory of a server under a mixed load; benchmarks/soak.py goes on for an hour."""

import sys

import pytest

from tests.support.libraries import index
from tests.support.serve_command import running
from tests.support.serving import TOKEN
from tests.support.soaking import soak

SECONDS, GROWTH_MIB = 45, 40


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_stays_where_it_is_under_a_mixed_load(pictures, encoder, tmp_path):
    index(tmp_path / "library", pictures, encoder=encoder)
    with running(tmp_path / "library", "--allow-write", "--allow-index", pictures, CLIPSEARCH_TOKEN=TOKEN) as (
        process,
        url,
    ):
        seen = soak(url, process.pid, SECONDS, 0.2)
        assert process.poll() is None
    assert {status for _, status in seen.answers if status >= 500} == set()
    assert sum(count for (_, status), count in seen.answers.items() if not status) <= 3, seen.answers
    assert len({name for name, _ in seen.answers}) >= 19 and seen.answers["new", 200] > 20
    assert seen.growth < GROWTH_MIB, seen.resident
