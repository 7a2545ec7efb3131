"""Sessions: a cookie that stands for the token; one attack for each of its defences."""

import logging
import time

import pytest

from clipsearch.server import credentials
from tests.support.serving import BEARER, TOKEN, inside

NAME = "clipsearch-session-8756"
HERE = {"Origin": "http://127.0.0.1:8756"}


async def begin(client, token=TOKEN):
    """Begin a session; return the answer and the value of the cookie."""
    answer = await client.post("/v1/session", json={"token": token})
    return answer, client.cookies.get(NAME)


def brought(cookie, **headers):
    return {"Cookie": f"{NAME}={cookie}", **headers}


async def test_a_session_stands_for_the_token_until_it_is_ended(engine):
    async with inside(engine, token=TOKEN) as client:
        assert (await client.get("/v1/stats")).status_code == 401
        answer, cookie = await begin(client)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await client.get("/v1/stats")).status_code == 200
        assert (await client.post("/v1/search", json={"text": "cat"}, headers=HERE)).status_code == 200
        assert (await client.delete("/v1/session")).status_code == 204
        assert (await client.get("/v1/stats")).status_code == 401
    async with inside(engine, token=TOKEN) as client:  # after a restart
        assert (await client.get("/v1/stats", headers=brought(cookie))).status_code == 200


async def test_what_a_page_may_know_without_the_token(engine):
    for settings, needs_token in (({}, False), ({"token": TOKEN}, True)):
        async with inside(engine, **settings) as client:
            assert (await client.get("/v1/session")).json() == {"needs_token": needs_token, "writable": False}
    async with inside(engine) as client:
        answer, cookie = await begin(client, "x")
        assert answer.status_code == 204 and cookie is None


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_cookie_is_for_no_script_and_no_other_site(engine, scheme):
    async with inside(engine, token=TOKEN) as client:
        answer = await client.post(f"{scheme}://127.0.0.1:8756/v1/session", json={"token": TOKEN})
        kept, *attributes = answer.headers["set-cookie"].split("; ")
        assert kept.startswith(f"{NAME}=") and TOKEN not in kept
        expected = {"HttpOnly", "SameSite=strict", "Path=/v1", "Max-Age=2592000"}
        assert set(attributes) == expected | ({"Secure"} if scheme == "https" else set())
        assert answer.headers["cache-control"] == "no-store"


async def test_cookies_that_are_forged_old_or_of_another_token_are_worth_nothing(engine, monkeypatch):
    async with inside(engine, token="y" * 32) as client:
        _, other = await begin(client, "y" * 32)
    async with inside(engine, token=TOKEN) as client:
        _, cookie = await begin(client)
        client.cookies.clear()
        end, _, signature = cookie.partition(".")
        longer = f"{int(end) + 1}.{signature}"
        for forged in (
            other,
            longer,
            f"{end}.",
            end,
            f"{end}.{'0' * 64}",
            f"{end}.{signature[:-1]}",
            TOKEN,
            "",
            "\xff",
        ):
            for header in (brought(forged), {"Cookie": f"clipsearch-session={cookie}"}):
                header = {name: value.encode("latin-1") for name, value in header.items()}
                assert (await client.get("/v1/stats", headers=header)).status_code == 401, forged
            client.cookies.clear()
        for end in ("9" * 13, "1e9", "²", "-1", "1"):
            assert (await client.get("/v1/stats", headers={b"Cookie": f"{NAME}={end}.{signature}".encode()})).is_error
        now = time.time()
        monkeypatch.setattr(credentials.time, "time", lambda: now + credentials.SESSION_SECONDS + 2)
        assert (await client.get("/v1/stats", headers=brought(cookie))).status_code in (401, 429)


async def test_wrong_tokens_of_sessions_are_counted(engine):
    async with inside(engine, token=TOKEN) as client:
        tried = [await client.post("/v1/session", json={"token": f"{number:032}"}) for number in range(12)]
        assert [each.status_code for each in tried] == [401] * 10 + [429] * 2
        assert (await client.post("/v1/session", json={"token": TOKEN})).status_code == 429


async def test_forged_cookies_lock_nobody_out(engine):
    """A page of another port of this host can set cookies, as many as it likes."""
    end = int(time.time()) + 1000
    async with inside(engine, token=TOKEN) as client:
        for n in range(30):
            assert (await client.get("/v1/stats", headers=brought(f"{end}.{n:064}"))).status_code == 401
        assert (await client.get("/v1/stats", headers=BEARER)).status_code == 200
        assert (await begin(client))[0].status_code == 204
        for n in range(10):
            assert (await client.post("/v1/session", json={"token": f"wrong {n}"})).status_code == 401
        assert (await client.get("/v1/stats", headers=BEARER)).status_code == 429
        assert (await client.get("/v1/stats")).status_code == 200, "who has a session guesses nothing"


@pytest.mark.parametrize("order", [1, -1])
async def test_a_cookie_beside_that_of_the_session_does_not_hide_it(engine, order):
    """One for another path comes along with it, before or after it."""
    async with inside(engine, token=TOKEN) as client:
        _, cookie = await begin(client)
        client.cookies.clear()
        pairs = [f"{NAME}={cookie}", f"{NAME}=forged", "other=1"][::order]
        assert (await client.get("/v1/stats", headers={"Cookie": "; ".join(pairs)})).status_code == 200


async def test_no_cookie_is_a_guess_of_the_token(engine, monkeypatch, tmp_path):
    """Cookies are not counted, so nobody may be able to make one of a token that is tried."""
    async with inside(engine, token=TOKEN) as client:
        _, cookie = await begin(client)
    monkeypatch.setattr(credentials, "state_dir", lambda: tmp_path)  # of the attacker, who guessed right
    async with inside(engine, token=TOKEN) as client:
        assert (await client.get("/v1/stats", headers=brought(cookie))).status_code == 401
    secret = tmp_path / "sessions.key"
    assert secret.stat().st_mode & 0o777 == 0o600 and len(secret.read_bytes()) == 32


async def test_sessions_last_as_long_as_the_server_where_nothing_can_be_kept(engine, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(credentials, "state_dir", lambda: tmp_path / "file")
    async with inside(engine, token=TOKEN) as client:
        _, cookie = await begin(client)
        assert (await client.get("/v1/stats")).status_code == 200
    async with inside(engine, token=TOKEN) as client:
        assert (await client.get("/v1/stats", headers=brought(cookie))).status_code == 401


async def test_an_old_session_locks_nobody_out(engine):
    """The page asks often, with the cookie of a token that is no longer that of the server, or has ended."""
    for cookie in (f"{int(time.time()) + 1000}.{'0' * 64}", f"{int(time.time()) - 1}.{'0' * 64}"):
        async with inside(engine, token=TOKEN) as client:
            for _ in range(30):
                assert (await client.get("/v1/stats", headers=brought(cookie))).status_code == 401
            answer = await client.post("/v1/session", json={"token": TOKEN}, headers=brought(cookie))
            assert answer.status_code == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        (HERE, 200),
    ],
)
async def test_other_sites_change_nothing_with_a_cookie(engine, headers, status):
    async with inside(engine, token=TOKEN) as client:
        _, cookie = await begin(client)
        for method in ("POST", "PATCH", "DELETE"):
            content = {"content": b'{"text": "cat"}', "headers": {"Content-Type": "application/json", **headers}}
            answer = await client.request(method, "/v1/search", **content)
            assert answer.status_code == (status if status == 403 or method == "POST" else 405)
        foreign = await client.post("/v1/session", json={"token": TOKEN}, headers={"Origin": "http://127.0.0.1:3000"})
        assert foreign.status_code == 403 and "set-cookie" not in foreign.headers
        del cookie


async def test_a_session_cannot_be_chosen_for_somebody(engine):
    planted = f"{int(time.time()) + 1000}.{'a' * 64}"
    async with inside(engine, token=TOKEN) as client:
        answer = await client.post("/v1/session", json={"token": TOKEN}, headers=brought(planted))
        assert answer.status_code == 204 and planted not in answer.headers["set-cookie"]
        client.cookies.clear()
        assert (await client.get("/v1/stats", headers=brought(planted))).status_code == 401


async def test_two_servers_of_one_host_have_sessions_of_their_own(engine):
    """Browsers send cookies to all ports of a host."""
    async with inside(engine, token=TOKEN) as client:
        await begin(client)
        answer = await client.post(
            "/v1/session", json={"token": TOKEN}, headers={"Host": "127.0.0.1:9000", "Origin": "http://127.0.0.1:9000"}
        )
        assert answer.headers["set-cookie"].startswith("clipsearch-session-9000=")
        assert (await client.get("/v1/stats")).status_code == 200


async def test_no_token_is_logged_or_shown(engine, caplog):
    with caplog.at_level(logging.DEBUG):
        async with inside(engine, token=TOKEN) as client:
            said = [await begin(client), await begin(client, "z" * 5000), await begin(client, "wrong" * 9)]
            extra = await client.post("/v1/session", json={"token": TOKEN, "more": 1})
    shown = "".join(answer.text + str(answer.headers) for answer, _ in said) + extra.text
    assert [answer.status_code for answer, _ in said] == [204, 422, 401] and extra.status_code == 422
    assert not any(word in shown + caplog.text for word in (TOKEN, "zzz", "wrongwrong"))


async def test_signatures_are_compared_in_constant_time(engine, monkeypatch):
    compared = []
    compare = credentials.hmac.compare_digest
    monkeypatch.setattr(credentials.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    async with inside(engine, token=TOKEN) as client:
        _, cookie = await begin(client)
        await client.get("/v1/stats")
    signature = cookie.partition(".")[2].encode()
    assert (signature, signature) in compared
