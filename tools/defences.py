"""Take out each defence of the HTTP server in turn, in a copy, and see that a test fails.

    python tools/defences.py [NAME ...]     # those whose names contain one of these; without any, all

A defence that no test misses could be lost unseen. Prints a table, and fails where one was not missed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("clipsearch", "indexer", "tests", "pyproject.toml")
ATTACKS = "tests/server/test_server_attacks.py"
SESSIONS = "tests/server/test_sessions.py"
PAGE = "tests/server/test_page_files.py"
NO_TESTS = 5
"""The exit code of pytest where no test has such a name."""


class Defence(NamedTuple):
    """A defence: what to put in place of a piece of a file, and the tests that must miss it, as for `pytest -k`."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    where: str = ATTACKS


def _server(name: str, file: str, old: str, new: str, tests: str, where: str = ATTACKS) -> Defence:
    return Defence(name, f"clipsearch/server/{file}", old, new, tests, where)


DEFENCES = (
    Defence(
        "loopback unless there is a token",
        "clipsearch/access.py",
        "if self.token is None and not self.is_local:",
        "if False:",
        "nobody_is_let_in",
    ),
    Defence(
        "loopback by default",
        "clipsearch/access.py",
        'host: str = "127.0.0.1"',
        'host: str = "127.0.0.2"',
        "nothing_is_open",
    ),
    Defence(
        "a token for writing",
        "clipsearch/access.py",
        "if self.token is None and self.allow_write:",
        "if False:",
        "nobody_is_let_in",
    ),
    _server(
        "a token for a proxy's name",
        "settings.py",
        "if self.allowed_hosts and self.token is None:",
        "if False:",
        "nobody_is_let_in",
    ),
    Defence(
        "token in constant time",
        "clipsearch/access.py",
        'hmac.compare_digest(given, f"Bearer {self.token}".encode())',
        'given == f"Bearer {self.token}".encode()',
        "constant_time",
    ),
    _server(
        "session in constant time",
        "credentials.py",
        'hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(end).encode())',
        "signature == self._sign(end)",
        "constant_time",
        SESSIONS,
    ),
    _server("token needed", "access.py", "if path not in OPEN and not is_page(path):", "if False:", "token_is_needed"),
    _server("leave to write", "access.py", "if not service.settings.allow_write:", "if False:", "writing_needs_leave"),
    _server(
        "Host", "access.py", "if self._names and _without_port(host) not in self._names:", "if False:", "another_name"
    ),
    _server(
        "Origin",
        "access.py",
        "(origin is not None and _host_of(origin) != host)",
        "False",
        "pages_of_other_sites or forms_of",
    ),
    _server("Sec-Fetch-Site", "access.py", "if is_foreign or", "if", "pages_of_other_sites or forms_of"),
    _server(
        "only / for links of other sites",
        "access.py",
        "and not (is_page(path) and _is_navigation(scope, headers))",
        "and not _is_navigation(scope, headers)",
        "a_link_of_another",
    ),
    _server(
        "a change by cookie from its own page",
        "credentials.py",
        'if headers.get("sec-fetch-site") != "same-origin":',
        "if False:",
        "other_sites_change",
        SESSIONS,
    ),
    _server(
        "CORS off",
        "app.py",
        "    app.add_middleware(CountRequests",
        "    from starlette.middleware.cors import CORSMiddleware\n\n"
        '    app.add_middleware(CORSMiddleware, allow_origins=["*"])\n    app.add_middleware(CountRequests',
        "pages_of_other_sites",
    ),
    _server(
        "no path in a query",
        "routes/search.py",
        "if isinstance(term, terms.Picture) and not (allow_urls and _is_web(term.source)):",
        "if False:",
        "names_no_file",
    ),
    _server(
        "no path in a group of a query",
        "routes/search.py",
        "    for term in query.leaves():\n        if has_upload",
        "    for term in (part.term for part in query):\n        if has_upload",
        "names_no_file",
    ),
    _server(
        "no path for a picture",
        "routes/search.py",
        "if url is None or not _is_web(url):",
        "if url is None:",
        "names_no_file",
    ),
    _server(
        "no path of the page's files",
        "routes/page.py",
        "if (found := held.get(name)) is None:",
        "from pathlib import Path\n\n    from clipsearch.server.page_files import _make\n\n"
        '    file = Path(__file__).parents[1] / "page" / name.replace("%2f", "/")\n'
        '    found = held.get(name.lower().rstrip("/"))\n'
        '    if found is None and file.is_file():\n        found = _make("text/plain", file.read_bytes())\n'
        "    if found is None:",
        "only_these_names",
        PAGE,
    ),
    Defence(
        "no link is followed", "clipsearch/store/folder.py", 'getattr(os, "O_NOFOLLOW", 0) | ', "", "became_a_link"
    ),
    Defence(
        "regular files alone",
        "clipsearch/store/folder.py",
        "if not stat.S_ISREG(status.st_mode) or",
        "if",
        "a_regular_file",
    ),
    _server("pictures alone", "pictures.py", "if kind not in MEDIA_TYPES:", "if False:", "is_no_picture"),
    _server(
        "bytes of a body",
        "bodies.py",
        "        if self._size > self._most:\n",
        "        if False:\n",
        "bounded_in_bytes",
    ),
    _server(
        "bytes that a head declares",
        "bodies.py",
        "if len(length) > _DIGITS or int(length) > self._most:",
        "if False:",
        "bounded_in_bytes",
    ),
    _server("bytes of all bodies", "bodies.py", "if self._taken + size > self._most:", "if False:", "under_way"),
    _server(
        "bytes without a token",
        "access.py",
        "        if path in OPEN or is_page(path):\n            return SMALL\n",
        "",
        "takes_no_room",
    ),
    _server("values of JSON", "bodies.py", "if self._values > self._most_values:", "if False:", "bounded_in_values"),
    _server(
        "pixels of an upload",
        "pictures.py",
        "pixels = min(limits.max_pixels, engine.settings.max_pixels)",
        "pixels = engine.settings.max_pixels",
        "bounded_in_pixels",
    ),
    _server(
        "pixels of a record",
        "changes.py",
        "if isinstance(record.image, bytes):",
        "if False:",
        "",
        "tests/server/test_records.py",
    ),
    _server(
        "time of a body",
        "bodies.py",
        "asyncio.timeout_at(min(self._end + self._size / MIN_RATE, now + self._seconds))",
        "asyncio.timeout_at(None)",
        "slow_body or came_fast",
    ),
    _server(
        "pauses of a body",
        "bodies.py",
        "min(self._end + self._size / MIN_RATE, now + self._seconds)",
        "self._end + self._size / MIN_RATE",
        "came_fast or slow_body",
    ),
    _server(
        "rate of a body",
        "bodies.py",
        "min(self._end + self._size / MIN_RATE, now + self._seconds)",
        "now + self._seconds",
        "body_that_drips",
    ),
    _server(
        "time of a head",
        "connections.py",
        "self._deadline = self.loop.call_later(self.head_seconds, self.transport.abort)",
        "pass",
        "slow_head or idle",
    ),
    _server(
        "time of reading an answer",
        "connections.py",
        "self._reading = self.loop.call_later(self.send_seconds, self.transport.abort)",
        "pass",
        "does_not_read",
    ),
    _server(
        "number of connections",
        "connections.py",
        "if len(self.connections) > self.max_connections and not self._make_room():",
        "if False:",
        "connection_too_many or make_room",
    ),
    _server("room for who asks", "connections.py", "        oldest.transport.abort()\n", "", "make_room"),
    _server(
        "number of requests",
        "service.py",
        "if self._pending >= self.settings.max_queue:",
        "if False:",
        "beyond_the_queue",
    ),
    _server(
        "time of work",
        "service.py",
        "asyncio.wait_for(asyncio.shield(work), self.settings.work_seconds)",
        "asyncio.shield(work)",
        "long_work",
    ),
    _server(
        "bytes that are being sent",
        "sending.py",
        "if self._held and self._held + size > MOST:",
        "if False:",
        "being_sent",
    ),
    _server(
        "pictures by URL off in a search",
        "routes/search.py",
        "if not service.settings.allow_urls:",
        "if False:",
        "names_no_file",
    ),
    _server(
        "pictures by URL off in a query",
        "routes/search.py",
        "not (allow_urls and _is_web",
        "not (_is_web",
        "names_no_file",
    ),
    _server(
        "pictures by URL off in a record",
        "changes.py",
        "if is_data_url(form.image) or not allow_urls:",
        "if is_data_url(form.image):",
        "",
        "tests/server/test_records.py",
    ),
    _server(
        "pictures by URL off by default",
        "settings.py",
        "allow_urls: bool = False",
        "allow_urls: bool = True",
        "nothing_is_open",
    ),
    Defence(
        "no address of this network is fetched",
        "clipsearch/media/fetch.py",
        "if self._allow_private or is_public(address):",
        "if True:",
        "no_address_of",
    ),
    _server(
        "CSP",
        "access.py",
        "default-src 'none'; frame-ancestors 'none'; sandbox",
        "frame-ancestors 'none'",
        "every_response",
    ),
    _server(
        "CSP of the page: no inline script",
        "page_files.py",
        "script-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "",
        PAGE,
    ),
    _server("CSP of the page: no other site", "page_files.py", "connect-src 'self'", "connect-src *", "", PAGE),
    _server("no inline script in the page", "page/index.html", "</head>", "<script>1</script></head>", "", PAGE),
    _server("no inline handler in the page", "page/index.html", "<body", '<body onclick="f()"', "", PAGE),
    _server("nosniff", "access.py", '    "X-Content-Type-Options": "nosniff",\n', "", "every_response"),
    _server(
        "nothing for other sites to embed",
        "access.py",
        '    "Cross-Origin-Resource-Policy": "same-origin",\n',
        "",
        "every_response",
    ),
    _server("no referrer", "access.py", '    "Referrer-Policy": "no-referrer",\n', "", "every_response"),
    _server("nothing is stored", "access.py", '    "Cache-Control": "no-store",\n', "", "every_response"),
    Defence(
        "no token in what is shown of settings",
        "clipsearch/access.py",
        "field(default=None, repr=False)",
        "field(default=None)",
        "no_token_is_logged",
    ),
    _server(
        "no token in logs",
        "access.py",
        '_log.exception("A request failed: %s %s", scope["method"], scope["path"])',
        '_log.exception("A request failed: %s %s", scope["method"], scope["headers"])',
        "no_token_is_logged",
    ),
    _server(
        "no token in URLs",
        "credentials.py",
        'given = request.headers.get("authorization")',
        'given = request.headers.get("authorization")\n'
        '        given = given or "Bearer " + request.query_params.get("token", "")',
        "token_is_needed",
    ),
    _server(
        "rate of wrong tokens", "attempts.py", "MOST, WINDOW = 10, 60.0", "MOST, WINDOW = 10**9, 60.0", "wrong_tokens"
    ),
    _server(
        "rate of wrong tokens at a session",
        "credentials.py",
        "        self._require_few_failures(request)\n        given =",
        "        given =",
        "",
        SESSIONS,
    ),
    _server(
        "wrong tokens of a network of IPv6",
        "attempts.py",
        "if found.version == 6 else address",
        "if False else address",
        "address_of_a_network",
    ),
    _server(
        "cookie is not for scripts", "routes/session.py", "httponly=True", "httponly=False", "cookie_is_for", SESSIONS
    ),
    _server(
        "cookie is not for other sites",
        "routes/session.py",
        'samesite="strict"',
        'samesite="none"',
        "cookie_is_for",
        SESSIONS,
    ),
    _server("a session ends", "credentials.py", " or int(end) <= time.time()", "", "forged_old", SESSIONS),
)


def main() -> None:
    """Try the defences; exit with 1 where one was not missed."""
    wanted = [each for each in DEFENCES if not sys.argv[1:] or any(word in each.name for word in sys.argv[1:])]
    unseen = []
    with tempfile.TemporaryDirectory(prefix="defences-") as work:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, Path(work) / part)
        for each in wanted:
            failed = missed_by(each, Path(work))
            unseen += [] if failed else [each.name]
            print(f"| {each.name} | {each.file} | {failed or 'NONE'} |", flush=True)
    sys.exit(f"Not missed: {', '.join(unseen)}" if unseen else 0)


def missed_by(defence: Defence, work: Path) -> str | None:
    """Return the first test that fails without a defence; None where all pass."""
    path = work / defence.file
    whole = path.read_text()
    if whole.count(defence.old) != 1:
        raise SystemExit(f"{defence.file} has {whole.count(defence.old)} times: {defence.old}")
    path.write_text(whole.replace(defence.old, defence.new))
    try:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            defence.where,
            "-k",
            defence.tests,
        ]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    finally:
        path.write_text(whole)
    found = re.search(r"^(?:FAILED|ERROR) (\S+?)(?: - .*)?$", done.stdout, re.M)
    if done.returncode not in (0, NO_TESTS) and not found:
        raise SystemExit(f"{defence.name}: the tests did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found[1] if found else None


if __name__ == "__main__":
    main()
