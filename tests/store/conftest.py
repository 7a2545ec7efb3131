"""The contract of a catalog: the tests of the store run on SQLite, and again on a real PostgreSQL server.

What is about SQLite's own files, its plans or its errors is marked `sqlite`, a test or a whole module, and runs there
alone; what is about PostgreSQL alone is marked `postgres`. `make test-postgres` runs the second round and these.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clipsearch.store.postgres import address
from tests.support import postgres

DATABASES = ["sqlite", "postgres"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    names = DATABASES[:1] if "sqlite" in marks else DATABASES[1:] if "postgres" in marks else DATABASES
    chosen = [pytest.param(name, marks=[pytest.mark.on_postgres] if name == "postgres" else []) for name in names]
    metafunc.parametrize("database", chosen, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def database(request: pytest.FixtureRequest, isolated_user: None) -> Iterator[str]:
    """Where new libraries have their catalogs."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "postgres":
            if postgres.find_binaries() is None:
                pytest.skip("there is no PostgreSQL server here")
            url = postgres.running().new_database()
            patch.setenv("CLIPSEARCH_CATALOG", url)
            address.trust(address.parse(url).url)
        yield request.param
    if request.param == "postgres":
        postgres.running().drop_databases()
