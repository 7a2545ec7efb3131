"""Libraries of servers searched as one, over real connections: what they find equals what one library does."""

from contextlib import ExitStack

import pytest

import clipsearch
from clipsearch import Client
from tests.support.joined import READS, SEARCHES, SETTINGS, make, seen
from tests.support.serving import TOKEN, serving


@pytest.fixture(scope="module")
def libraries(tmp_path_factory, encoder):
    """One library, and three as one: two that servers have, and one of this machine."""
    whole, parts = make(tmp_path_factory.mktemp("joint"), encoder)
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(part, token=TOKEN)).url for part in parts[:2]]
        clients = [stack.enter_context(Client(url, TOKEN)) for url in urls]
        joint = stack.enter_context(clipsearch.open([*clients, parts[2]], settings=SETTINGS))
        joint._encoder = encoder
        yield whole, joint
    for engine in (whole, *parts):
        engine.close()


@pytest.mark.parametrize("name", SEARCHES)
def test_libraries_of_servers_find_what_one_does(libraries, name):
    whole, joint = libraries
    expected, found = (SEARCHES[name](each) for each in (whole, joint))
    assert seen(found) == seen(expected)


@pytest.mark.parametrize("name", READS)
def test_libraries_of_servers_say_what_one_does(libraries, name):
    whole, joint = libraries
    assert READS[name](joint) == READS[name](whole)
