"""Many clients at once: whoever is let in is answered, the others are told to come back."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.serving import serving

CLIENTS, QUEUE = 64, 16


@pytest.fixture
def held(engine, monkeypatch):
    """Hold up all searches of an engine until the event is set."""
    free, answer = threading.Event(), engine._search_batch

    def wait(*given, **options):
        assert free.wait(60)
        return answer(*given, **options)

    monkeypatch.setattr(engine, "_search_batch", wait)
    yield free
    free.set()


def search(url):
    return httpx.get(f"{url}/v1/search?q=a+red+bicycle&k=3", timeout=60)


def test_who_is_let_in_is_answered_and_the_others_are_told_to_come_back(engine, held):
    with serving(engine, max_queue=QUEUE) as served, ThreadPoolExecutor(CLIENTS) as pool:
        refused, done = threading.Semaphore(0), Counter()

        def ask(_):
            answer = search(served.url)
            if answer.status_code == 429:
                refused.release()
            return answer

        asked = [pool.submit(ask, number) for number in range(CLIENTS)]
        for _ in range(CLIENTS - QUEUE):
            assert refused.acquire(timeout=60)
        held.set()
        answers = [each.result() for each in asked]
        done.update(answer.status_code for answer in answers)
        expected = search(served.url).json()
    assert done == {200: QUEUE, 429: CLIENTS - QUEUE}
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 429} == {"1"}
    assert all(answer.json() == expected for answer in answers if answer.status_code == 200)


@pytest.mark.slow
def test_a_stop_under_load_loses_no_request_that_was_let_in(engine, held):
    with ThreadPoolExecutor(CLIENTS) as pool:
        with serving(engine) as served:
            service = served.server.config.app.state.service
            asked = [pool.submit(search, served.url) for _ in range(CLIENTS)]
            for _ in range(6000):
                if service.pending == CLIENTS:
                    break
                threading.Event().wait(0.01)
            assert service.pending == CLIENTS
            threading.Timer(0.5, held.set).start()
        assert service.stopping.is_set()
        answers = [each.result() for each in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert all(len(answer.json()["hits"]) == 3 for answer in answers)
