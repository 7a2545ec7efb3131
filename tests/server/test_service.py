"""What bounds the work of all requests."""

import asyncio
import threading

import pytest

from clipsearch.server.service import OverdueError, Service
from clipsearch.server.settings import ServerSettings


@pytest.fixture
def service(engine):
    made = Service(engine, ServerSettings())
    yield made
    made.close()


@pytest.mark.parametrize("stops", [True, False])
async def test_a_request_that_the_end_of_the_server_cuts_off_is_answered(service, stops):
    gate = threading.Event()
    request = asyncio.create_task(service.run(gate.wait, 20))
    await asyncio.sleep(0)
    assert service.pending == 1
    if stops:
        service.stopping.set()
    request.cancel()
    with pytest.raises(OverdueError if stops else asyncio.CancelledError):
        await request
    gate.set()
