"""What the libraries of the adapters cost: nothing, until an adapter is imported."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

THEIRS = {"haystack", "langchain_core", "llama_index", "mcp", "posthog"}
OWN = [("haystack", {"haystack", "posthog"}), ("langchain", {"langchain_core"}), ("llama_index", {"llama_index"})]


def imported(names):
    """Return which of the libraries are there after an import, in a process of its own."""
    script = f"import sys, {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return THEIRS & set(done.stdout.split())


def test_the_public_api_imports_none_of_them():
    assert not imported("clipsearch, clipsearch.query.engine, clipsearch.integrations")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "own"), OWN)
def test_an_adapter_imports_its_library_alone(name, own):
    assert imported(f"clipsearch.integrations.{name}") <= own
