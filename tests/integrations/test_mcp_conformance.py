"""The npm package `@modelcontextprotocol/conformance` asks the MCP server, over streamable HTTP.

Its scenarios are written for a server with prescribed tools, resources and prompts. Those that apply to ours are run:
the protocol itself, and results of tools, for which tools of the prescribed names give what ours give. NOT_OURS says
why the others do not apply.
"""

import re
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager

import anyio
import pytest
import uvicorn

import clipsearch
from clipsearch import InvalidInputError
from clipsearch.access import Access
from clipsearch.integrations.mcp import build_server, guarded
from clipsearch.integrations.mcp.http import PATH, build_app
from tests.support.libraries import index, photo

VERSION = "0.1.16"
NODE = "22"
"""Of Node, which the package needs; npx fetches it where the system has an older one."""

OURS = {
    "server-initialize", "ping", "tools-list", "tools-call-simple-text", "tools-call-image", "tools-call-error",
    "server-sse-multiple-streams", "resources-list", "prompts-list", "dns-rebinding-protection",
}  # fmt: skip
NOT_OURS = {
    "the server has no prompts": {
        "prompts-get-simple", "prompts-get-with-args", "prompts-get-embedded-resource", "prompts-get-with-image",
    },
    "the server has no resources: pictures are given out by the tool get_image": {
        "resources-read-text", "resources-read-binary", "resources-templates-read", "resources-subscribe",
        "resources-unsubscribe", "tools-call-embedded-resource", "tools-call-mixed-content",
    },
    "the server completes no arguments and sends no log, and says so in its capabilities": {
        "completion-complete", "logging-set-level", "tools-call-with-logging",
    },
    "no tool makes a sound, and none takes so long that it reports progress": {
        "tools-call-audio", "tools-call-with-progress",
    },
    "no tool asks the client for anything": {
        "tools-call-sampling", "tools-call-elicitation", "elicitation-sep1034-defaults", "elicitation-sep1330-enums",
    },
    "it looks for one prescribed tool with a schema of its own": {"json-schema-2020-12"},
    "the server keeps no events, so a stream that broke off is not taken up again": {"server-sse-polling"},
}  # fmt: skip

pytestmark = pytest.mark.slow


def npx(*arguments):
    """Run the package with a Node that it can run in."""
    packages = ["-p", f"node@{NODE}", "-p", f"@modelcontextprotocol/conformance@{VERSION}"]
    command = ["npx", "--yes", *packages, "conformance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def scenarios():
    """The scenarios of the package; skips where it cannot run."""
    if shutil.which("npx") is None:
        pytest.skip("npx is not installed, which fetches and runs the npm package")
    done = npx("list", "--server")
    if done.returncode:
        pytest.skip(f"npx cannot fetch or run the package: {done.stderr.strip()[-300:]}")
    return set(re.findall(r"^ +- ([\w-]+)", done.stdout, re.MULTILINE))


@contextmanager
def served(engine):
    """Serve an engine, with prescribed names for what two tools give; yield the address."""
    server = build_server(engine)
    (item,) = engine.find()

    def simple_text():
        """Return what a search returns."""
        return search(text="a picture")

    def image():
        """Return what get_image returns."""
        return get_image(key=item.key)

    def error_handling():
        """Fail as a tool fails."""
        raise InvalidInputError("This tool fails on purpose. Call another.")

    tools = {tool.name: tool.fn for tool in server._tool_manager.list_tools()}
    search, get_image = tools["search"], tools["get_image"]
    for name, tool in (("simple_text", simple_text), ("image_content", image), ("error_handling", error_handling)):
        server.add_tool(guarded(tool), name=f"test_{name}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(build_app(server, Access()), log_level="error", ws="none"))
        thread = threading.Thread(target=anyio.run, args=(lambda: running.serve(sockets=[listener]),))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
        finally:
            running.should_exit = True
            thread.join(timeout=20)


def test_every_scenario_is_run_or_does_not_apply(scenarios):
    assert scenarios == OURS.union(*NOT_OURS.values())


def test_the_scenarios_that_apply_pass(scenarios, tmp_path, encoder):
    index(tmp_path / "lib", photo(tmp_path / "a.jpg", 1), encoder=encoder)
    with clipsearch.open(tmp_path / "lib") as engine, served(engine) as url:
        for name in sorted(OURS):
            done = npx("server", "--url", url, "--scenario", name)
            assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            assert re.search(r"\b0 failed", done.stdout), done.stdout
