"""The shared browser: contexts side by side, failures, the allow-list, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from foldgym.containers import browser, find
from foldgym.containers.browser import Seat, Setting, open_seat
from foldgym.containers.gateway import Gateway, Request, Response, folder_site, host_port
from foldgym.errors import SandboxError, UserError

pytestmark = pytest.mark.browser


def hello(request: Request) -> Response:
    said = f"<title>{request.method}</title><p>{request.target} {request.body.decode()}</p>"
    return Response(200, said, headers=(("Set-Cookie", "a=1"),))


def seat_on(**more: object) -> Seat:
    return open_seat(Setting(sites={"a.test": hello}, **more))  # type: ignore[arg-type]


async def read(seat: Seat) -> str:
    await seat.page.goto("http://a.test/x?y=1")
    return await seat.page.inner_text("p")


def test_a_site_answers_without_a_port() -> None:
    seat = seat_on()
    try:
        assert seat.run(read).strip() == "/x?y=1"
    finally:
        seat.close()
    seat.close()  # again is fine
    with pytest.raises(SandboxError, match="closed"):
        seat.run(read)


@pytest.mark.slow
def test_sixteen_contexts_in_parallel_share_no_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDGYM_BROWSER_CONTEXTS", "64")  # other tests may still hold some
    together = threading.Barrier(16)

    def episode(number: int) -> tuple[str, str]:
        seat = seat_on()
        try:
            together.wait(60)  # all sixteen exist at this moment
            seat.run(read)

            async def cookie(seat: Seat) -> str:
                await seat.page.evaluate(f"document.cookie = 'n={number}'")
                return await seat.page.evaluate("document.cookie")

            return seat.run(cookie), seat.browser.label.id
        finally:
            seat.close()

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(episode, range(16)))
    assert [cookie for cookie, _ in found] == [f"a=1; n={number}" for number in range(16)]
    assert len({label for _, label in found}) == 1


def _pool() -> Any:
    """With the contexts that other tests hold."""
    return browser._driver().pool  # pyright: ignore[reportPrivateUsage]


def test_more_contexts_than_the_cap_wait_for_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first = seat_on()
    busy = _pool().busy
    monkeypatch.setenv("FOLDGYM_BROWSER_CONTEXTS", str(busy))
    try:
        with pytest.raises(SandboxError, match=f"all {busy} browser contexts were in use"):
            open_seat(Setting(), wait=0.01)
    finally:
        first.close()
    open_seat(Setting(), wait=60).close()


def test_a_context_is_used_again_only_by_its_own_setting() -> None:
    one = Setting(reuse="one", sites={"a.test": hello})
    seat = open_seat(one)
    context = seat.context
    seat.close()
    other = open_seat(Setting(reuse="other"))
    again = open_seat(one)
    assert again.context is context is not other.context
    other.close()
    again.close()


def test_a_crashed_page_fails_its_own_episode_only() -> None:
    crashing, other = seat_on(), seat_on()
    try:

        async def crash(seat: Seat) -> None:
            session = await seat.context.new_cdp_session(seat.page)
            await session.send("Page.crash")

        with pytest.raises(SandboxError, match="crashed"):
            crashing.run(crash)
        with pytest.raises(SandboxError, match="crashed"):
            crashing.run(read)
        assert other.run(read).strip() == "/x?y=1"
    finally:
        crashing.close()
        other.close()


def test_a_page_that_hangs_is_given_up() -> None:
    seat = seat_on()

    async def hang(seat: Seat) -> None:
        await seat.page.evaluate("new Promise(() => {})")

    with pytest.raises(SandboxError, match=r"did not answer in 0\.2 s"):
        seat.run(hang, 0.2)
    seat.close()


def test_a_killed_browser_is_replaced() -> None:
    one, two = seat_on(), seat_on()
    old = one.browser
    keeper = next(each.label.keeper for each in find() if each.label.id == old.label.id)
    assert one.run(read)

    async def hang(seat: Seat) -> None:
        os.kill(keeper, signal.SIGKILL)
        await seat.page.evaluate("new Promise(() => {})")

    for seat in (one, two):
        with pytest.raises(SandboxError, match="Chromium is gone"):
            seat.run(hang if seat is one else read)
        seat.close()
    fresh = seat_on()
    assert fresh.browser is not old
    assert fresh.run(read).strip() == "/x?y=1"
    fresh.close()
    assert old.label.id not in {each.label.id for each in find()}
    assert not old.folder.exists()


_IDLE = """
import time
from foldgym.containers import browser
browser.REST = 0.0
old = browser.open_seat(browser.Setting())
chromium = old.browser
old.close()
deadline = time.monotonic() + 60
while chromium.folder.exists() and time.monotonic() < deadline:
    time.sleep(0.02)
assert chromium.dead and not chromium.folder.exists()
browser.REST = 60.0
fresh = browser.open_seat(browser.Setting())
assert fresh.browser is not chromium and not fresh.browser.dead
"""


def test_a_browser_that_nobody_uses_is_closed() -> None:
    """In a process of its own: other tests may hold contexts in this one."""
    done = subprocess.run(
        [sys.executable, "-c", _IDLE], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_an_event_loop_never_waits_for_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    first = seat_on()
    busy = _pool().busy
    monkeypatch.setenv("FOLDGYM_BROWSER_CONTEXTS", str(busy))

    async def inline() -> Seat:
        return open_seat(Setting())

    try:
        with pytest.raises(UserError, match=f"all {busy} .* isolation = .thread.*concurrency"):
            asyncio.run(inline())
    finally:
        first.close()
    asyncio.run(inline()).close()  # one that is free is taken


_RUN = """
import sys
from foldgym.containers.browser import Setting, open_seat
seat = open_seat(Setting())
print(seat.browser.label.id, flush=True)
sys.stdin.read()
"""


def test_a_killed_run_leaves_nothing_after_reap() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", _RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout
    assert run.stdin
    name = run.stdout.readline().strip()
    there = next(each for each in find() if each.label.id == name)
    assert there.processes
    assert there.label.backend == "chromium"
    run.kill()
    run.wait()
    run.stdin.close()
    run.stdout.close()
    subprocess.run(
        [sys.executable, "-m", "foldgym", "sandbox", "reap"], check=True, capture_output=True
    )
    left = [
        each for each in there.processes if Path(f"/proc/{each}").exists() and name in _line(each)
    ]
    assert not left
    assert not there.folder.exists()
    assert name not in {each.label.id for each in find()}


def _line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


# ---------------------------------------------------------------- what may be reached


class Listener:
    """A server that notes every connection, and answers none of them."""

    def __init__(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def asked(self) -> bool:
        try:
            if self.socket.type == socket.SOCK_STREAM:
                self.socket.accept()[0].close()
            else:
                self.socket.recv(1)
        except BlockingIOError:
            return False
        return True


_WAYS = """async (port) => {
  const base = `127.0.0.1:${port}`;
  const tried = [];
  const attempt = (work) => tried.push(new Promise((done) => {
    try { work(() => done()); } catch { done(); }
  }));
  const add = (tag, given) => attempt((done) => {
    const node = document.createElement(tag);
    node.onload = node.onerror = done;
    Object.assign(node, given);
    document.body.append(node);
  });
  attempt((done) => fetch(`http://${base}/fetch`, { mode: "no-cors" }).then(done, done));
  attempt((done) => fetch("/redirect").then(done, done));
  attempt((done) => fetch(`http://localhost:${port}/n`, { mode: "no-cors" }).then(done, done));
  attempt((done) => {
    const socket = new WebSocket(`ws://${base}/socket`);
    socket.onerror = socket.onopen = done;
  });
  add("img", { src: `http://${base}/i.png` });
  add("iframe", { src: `http://${base}/frame` });
  attempt((done) => {
    const worker = new Worker("/worker.js");
    worker.onmessage = worker.onerror = done;
    worker.postMessage(base);
  });
  attempt((done) => { navigator.sendBeacon(`http://${base}/beacon`, "x"); done(); });
  attempt((done) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "preconnect", href: `http://${base}` });
    document.head.append(link);
    done();
  });
  attempt((done) => {
    const peer = new RTCPeerConnection({ iceServers: [{ urls: `stun:${base}` }] });
    peer.createDataChannel("x");
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done();
    peer.createOffer().then((offer) => peer.setLocalDescription(offer));
  });
  await Promise.all(tried);
  return tried.length;
}"""


def test_pages_reach_nothing_outside_the_allow_list(tmp_path: Path) -> None:
    forbidden = Listener()
    packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    packets.bind(("127.0.0.1", forbidden.port))
    packets.setblocking(False)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")

    def site(request: Request) -> Response:
        if request.path == "/redirect":
            where = f"http://127.0.0.1:{forbidden.port}/redirected"
            return Response(302, headers=(("Location", where),))
        if request.path == "/worker.js":
            code = (
                "onmessage = (e) => fetch(`http://${e.data}/worker`).finally(() => postMessage(1))"
            )
            return Response(200, code, "text/javascript")
        return Response(200, f'<p>ok</p><a id="file" href="{secret.as_uri()}">file</a>')

    seat = open_seat(Setting(sites={"a.test": site}))
    try:

        async def work(seat: Seat) -> tuple[int, str, str]:
            page = seat.page
            await page.goto("http://a.test/")
            tried = await page.evaluate(_WAYS, forbidden.port)
            await page.goto("http://a.test/redirect")  # the gateway's refusal is shown
            refusal = await page.inner_text("body")
            await page.goto("http://a.test/")
            await page.click("#file")
            await page.evaluate("1")
            return tried, refusal, page.url

        tried, refusal, url = seat.run(work, 60)
        assert tried == 10
        assert "outside of what may be reached" in refusal
        assert url == "http://a.test/"
        assert not forbidden.asked()
        with pytest.raises(BlockingIOError):
            packets.recv(1)
        asked = {each.partition(f"127.0.0.1:{forbidden.port}")[2] for each in seat.gateway.refused}
        assert {"/fetch", "/redirected", "/i.png", "/frame", "/worker", "/beacon"} <= asked
    finally:
        seat.close()
        forbidden.socket.close()
        packets.close()


def test_an_allowed_host_is_reached_and_another_port_is_not() -> None:
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"<p>{self.path}</p>".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    seat = open_seat(Setting(allow=(f"127.0.0.1:{port}",)))
    try:

        async def work(seat: Seat) -> tuple[str, int]:
            await seat.page.goto(f"http://127.0.0.1:{port}/there?x=1")
            said = await seat.page.inner_text("p")
            answer = await seat.page.goto(f"http://127.0.0.1:{port - 1}/")
            assert answer
            return said, answer.status

        assert seat.run(work) == ("/there?x=1", 403)
    finally:
        seat.close()
        server.shutdown()
        server.server_close()


def test_the_gateway_knows_what_it_reaches() -> None:
    gateway = Gateway({"a.test": hello}, ("b.test", "c.test:8000", "d.test:443"))
    reached = ["http://a.test/x", "http://b.test", "http://c.test:8000/", "https://d.test/"]
    refused = ["https://a.test/", "http://a.test:81/", "http://c.test/", "http://a.test.evil/"]
    refused += [
        "file:///etc/passwd",
        "chrome://version",
        "ws://a.test/",
        "http://a.test@evil/",
        "x",
    ]
    assert all(map(gateway.reaches, reached))
    assert not any(map(gateway.reaches, refused))
    assert host_port("[::1]:80") == ("::1", 80)


def test_a_folder_gives_only_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.html").write_text("hi")
    (tmp_path / "out.txt").write_text("secret")
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "out.txt")
    site = folder_site(tmp_path / "in")
    assert site(Request("GET", "/a%20b.html?x")).body == b"hi"
    for target in ("/../out.txt", "/%2e%2e/out.txt", "/link.txt", "/", "/none"):
        assert site(Request("GET", target)).status == 404
    # so that contexts with it can be used again, whoever made it
    assert site == folder_site(tmp_path / "out" / ".." / "in")
    assert site != folder_site(tmp_path)
