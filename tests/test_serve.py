"""The explorer as clients meet it: a server in a process of its own, sockets, and a browser."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from browser_cases import Json, needs_chromium, open_page
from test_cost import CHIP, SMALL

from tilewright import zoo
from tilewright.cli import serve as verb
from tilewright.cli.main import run
from tilewright.serve.chips import check_chip, form_fields

TOKEN = "a-token-of-tests"


class Server:
    """A running explorer."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "tilewright", "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"http://[^:/]+:(\d+)", line)
        assert found, line
        self.port = int(found[1])

    def ask(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and JSON of an answer; bytes are sent as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method or ("GET" if sent is None else "POST"), path, sent, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, content.decode("utf-8", "replace")

    def finish(self, key: str, within: float = 240.0) -> Json:
        """The job when it has ended."""
        return self.until(key, lambda job: job["state"] not in ("waiting", "running"), within)

    def until(self, key: str, wanted: Callable[[Json], bool], within: float = 120.0) -> Json:
        deadline, job = time.monotonic() + within, Json()
        while time.monotonic() < deadline:
            job = self.ask(f"/api/jobs/{key}")[1]
            if wanted(job):
                return job
            time.sleep(0.05)
        raise AssertionError(job)

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    made = Server()
    yield made
    made.close()


def small(**more: object) -> Json:
    """A job that takes a moment, but for its network."""
    return {"verb": "map", "chip": CHIP, "seconds": 30, **more}


def sent(server: Server, text: str = SMALL, name: str = "layer.yaml") -> str:
    status, found = server.ask(f"/api/networks?name={name}", text.encode())
    assert status == 200, found
    return found["upload"]


def long_job(server: Server) -> str:
    """A search that goes on for a while."""
    chip = zoo.entry_text("eyeriss")
    asked = {"verb": "map", "network": "resnet50", "imperfect": True, "chip": chip, "seconds": 600}
    status, job = server.ask("/api/jobs", asked)
    assert status == 202
    server.until(job["key"], lambda found: found["state"] == "running")
    return job["key"]


def workers(server: Server) -> list[int]:
    """Processes that the server has started."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == server.process.pid:
            found.append(int(entry.parent.name))
    return found


def test_what_there_is(server: Server) -> None:
    status, found = server.ask("/api/zoo")
    assert status == 200
    assert "resnet50" in found["networks"]
    assert server.ask("/api/chip/eyeriss")[1]["text"] == zoo.entry_text("eyeriss")
    for name in ("charts.js", "report.js", "report.css", "explorer.js", "explorer.css"):
        assert server.ask(f"/assets/{name}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/assets/..%2f..%2fapp.py",
        "/assets/../app.py",
        "/api/chip/..%2f..%2f..%2fetc%2fpasswd",
        "/api/jobs/../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "/api/jobs/none/page",
    ],
)
def test_paths_stay_inside(server: Server, path: str) -> None:
    status, found = server.ask(path)
    assert status == 404
    assert "root:" not in str(found)


@pytest.mark.parametrize(
    "asked",
    [
        {"verb": "map", "network": "/etc/passwd"},
        {"verb": "map", "network": "../../x.yaml"},
        {"verb": "map", "network": ["resnet18"]},
        {"verb": "map", "upload": "../../etc/passwd"},
        {"verb": "__class__", "network": "resnet18"},
        {"verb": "map", "network": "resnet18", "chip": 7},
        {"verb": "map", "network": "resnet18", "chip": "x" * 100_001},
        {"verb": "map", "network": "resnet18", "layer": {"a": 1}},
        [1, 2],
        "text",
    ],
)
def test_a_job_is_looked_at_before_it_starts(server: Server, asked: object) -> None:
    status, found = server.ask("/api/jobs", asked)
    assert status == 400
    assert found["problems"][0]["what"]


def test_a_small_network_is_mapped(server: Server) -> None:
    job = server.ask("/api/jobs", small(upload=sent(server)))[1]
    done = server.finish(job["key"])
    assert done["state"] == "done", done
    view = server.ask(f"/api/jobs/{job['key']}/view")[1]
    document = server.ask(f"/api/jobs/{job['key']}/document")[1]
    assert document["layers"][0]["status"] == "optimal"
    facts = {fact["label"]: fact["value"] for fact in view["facts"]}
    assert facts["Energy"] == document["total"]["energy_pj"]
    status, page = server.ask(f"/api/jobs/{job['key']}/page")
    assert status == 200
    assert page.startswith("<!doctype html>")


def test_a_curve_is_found(server: Server) -> None:
    asked = {"verb": "curve", "upload": sent(server), "from": "64B", "to": "1KiB"}
    job = server.ask("/api/jobs", asked)[1]
    assert server.finish(job["key"])["state"] == "done"
    view = server.ask(f"/api/jobs/{job['key']}/view")[1]
    assert len(view["designs"]) == 5
    wrong = server.ask("/api/jobs", {**asked, "from": "much"})[1]
    assert server.finish(wrong["key"])["state"] == "failed"


def test_problems_have_their_line(server: Server) -> None:
    found = server.ask("/api/check", {"text": CHIP.replace("capacity", "capacty")})[1]
    assert found["problems"] == []
    broken = CHIP.replace("  - {memory: GLB,", "  - {memory: GLB, capacty: 8KiB,")
    found = server.ask("/api/check", {"text": broken})[1]
    assert found["problems"][0]["line"] == 5
    assert "capacity" in found["problems"][0]["fix"]
    job = server.ask("/api/jobs", small(upload=sent(server), chip=broken))[1]
    assert server.finish(job["key"])["problems"][0]["line"] == 5
    job = server.ask("/api/jobs", small(upload=sent(server, "name: x\nlayers: [")))[1]
    assert server.finish(job["key"])["problems"]


def test_a_form_changes_a_field_at_its_place() -> None:
    text = zoo.entry_text("eyeriss")
    fields = form_fields(text)
    (glb,) = [f for f in fields if (f["memory"], f["label"]) == ("GLB", "capacity")]
    changed = text[: glb["start"]] + "64KiB" + text[glb["end"] :]
    chip = check_chip(changed)["chip"]
    assert chip["levels"][1]["capacity_bits"] == 64 * 1024 * 8
    assert all(text[f["start"] : f["end"]] == f["text"] for f in fields)
    assert check_chip("&a [*a]")["problems"]
    assert check_chip("[" * 10_000)["problems"]


def test_sizes_are_limited(server: Server) -> None:
    assert server.ask("/api/check", {"text": "x" * 500_000})[0] == 413
    assert server.ask("/api/networks?name=x.exe", b"MZ")[0] == 400
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST /api/networks?name=x.onnx HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
    connection.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
    assert b" 413 " in connection.recv(200)
    connection.close()


def test_a_bad_onnx_file_ends_in_a_message(server: Server) -> None:
    found = server.ask("/api/networks?name=bad.onnx", os.urandom(5000))[1]
    job = server.ask("/api/jobs", {"verb": "list", "upload": found["upload"]})[1]
    assert server.finish(job["key"])["problems"][0]["what"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /api/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n\xff\xfe{{",
        b"POST /api/check HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_malformed_requests_are_survived(server: Server, raw: bytes) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(raw)
    answer = connection.recv(4096)
    assert not answer or re.match(rb"HTTP/1\.1 4\d\d ", answer)
    connection.close()
    assert server.ask("/api/zoo")[0] == 200
    nested = b'{"text": ' + b"[" * 100_000
    assert server.ask("/api/check", nested)[0] == 400


def test_names_and_pages_from_elsewhere_are_refused(server: Server) -> None:
    assert server.ask("/api/zoo", headers={"Host": "evil.example"})[0] == 421
    there = {"Origin": "http://evil.example"}
    assert server.ask("/api/check", {"text": ""}, headers=there)[0] == 403
    here = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("/api/check", {"text": ""}, headers=here)[0] == 200


def test_beside_a_search_answers_come_at_once_and_it_can_be_stopped(server: Server) -> None:
    key = long_job(server)
    server.until(key, lambda job: "mapping" in job["progress"]["text"])
    times: list[float] = []
    for _ in range(40):
        began = time.perf_counter()
        assert server.ask(f"/api/jobs/{key}")[0] == 200
        assert server.ask("/api/check", {"text": CHIP})[0] == 200
        times.append((time.perf_counter() - began) / 2)
    assert sorted(times)[len(times) // 2] < 0.1
    assert server.ask(f"/api/jobs/{key}", method="DELETE")[0] == 200
    assert server.finish(key, within=30)["state"] in ("done", "stopped")


def test_a_killed_worker_fails_its_job_only(server: Server) -> None:
    key = long_job(server)
    for worker in workers(server):
        os.kill(worker, signal.SIGKILL)
    job = server.finish(key, within=30)
    assert job["state"] == "failed"
    assert "signal 9" in job["problems"][0]["what"]
    again = server.ask("/api/jobs", small(upload=sent(server)))[1]
    assert server.finish(again["key"])["state"] == "done"


def test_a_hundred_clients_at_once(server: Server) -> None:
    statuses: list[int] = []

    def client() -> None:
        paths = ("/api/zoo", "/assets/report.js", "/api/chip/eyeriss")
        statuses.extend(server.ask(path)[0] for path in paths)
        statuses.append(server.ask("/api/check", {"text": CHIP})[0])

    threads = [threading.Thread(target=client) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 400


def test_jobs_wait_for_their_turn_and_too_many_are_refused(server: Server) -> None:
    upload = sent(server)
    answers = [server.ask("/api/jobs", small(upload=upload)) for _ in range(30)]
    refused = [found for status, found in answers if status == 429]
    started = [found["key"] for status, found in answers if status == 202]
    assert refused
    assert started
    for key in started[1:]:
        assert server.ask(f"/api/jobs/{key}", method="DELETE")[0] == 200
    assert server.finish(started[0])["state"] == "done"
    assert all(server.finish(key)["state"] in ("done", "stopped") for key in started)


def test_a_token_is_asked_for() -> None:
    guarded = Server("--token", TOKEN)
    try:
        assert guarded.ask("/api/zoo")[0] == 401
        assert guarded.ask("/")[0] == 401
        assert guarded.ask("/api/zoo", headers={"Authorization": "Bearer wrong-token"})[0] == 401
        assert guarded.ask("/api/zoo", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert guarded.ask("/api/zoo", headers={"Cookie": f"tilewright_token={TOKEN}"})[0] == 200
        assert guarded.ask(f"/?token={TOKEN}")[0] == 303
    finally:
        guarded.close()


def test_any_address_but_loopback_has_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def note(_: object, __: str, ___: int, token: str | None) -> None:
        seen.append(token)

    monkeypatch.setattr(verb, "_run", note)
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "192.0.2.1"):
        assert run(["serve", "--host", host]) == 0
    assert seen[:2] == [None, None]
    assert all(token is not None and len(token) >= 20 for token in seen[2:])
    assert run(["serve", "--token", "short"]) == 2


def test_a_taken_port_is_a_message(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--port", str(server.port)]) == 2
    assert "--port 0" in capsys.readouterr().err


@needs_chromium
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_page(server: Server, tmp_path: Path) -> None:
    from test_report_browser import faults

    with open_page(f"http://127.0.0.1:{server.port}/", viewport={"width": 390, "height": 800}) as (
        page,
        complaints,
    ):
        page.wait_for_selector("#layer option:nth-child(3)", state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert faults(page) == []
        (tmp_path / "layer.yaml").write_text(SMALL)
        page.set_input_files("#file", tmp_path / "layer.yaml")
        page.wait_for_selector("#network-said >> text=1 different layers")
        page.click("#go")
        page.wait_for_selector("#result #nest .block")
        assert "64 KiB" not in page.inner_text("#result #chip")
        page.fill("#fields label:has-text('GLB capacity') input", "64KiB")
        page.keyboard.press("Tab")
        page.wait_for_selector("#chip-said >> text=3 memories")
        assert "capacity: 64KiB" in page.input_value("#chip-text")
        page.click("#go")
        page.wait_for_selector("#result #chip >> text=64 KiB")
        text = page.input_value("#chip-text")
        page.fill("#chip-text", text.replace("clock_ghz", "clock_gz"))
        page.wait_for_selector("#chip-problems button")
        page.click("#chip-problems button")
        assert page.evaluate("getSelection().toString()").startswith("clock_gz")
        page.fill("#chip-text", text)
        page.select_option("#verb", "curve")
        page.click("#go")
        page.wait_for_selector("#result #choice svg")
        assert faults(page) == []
        assert complaints == []
