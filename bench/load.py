"""The load: wrk for many small requests, plain sockets for one big one; `echo` has that of WebSockets."""

import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from bench.machine import HOST
from bench.tokens import token

MB = 1_000_000
BLOCK_BYTES = 1024 * 1024
TRANSFER_TIMEOUT_S = 60.0  # between two bytes
PROBE_TIMEOUT_S = 2.0
# wrk's own text is rounded; its `done` hook runs once, after the load, and gives every figure exactly.
WRK_SCRIPT = """
wrk.method = os.getenv('BENCH_METHOD')
for name, value in (os.getenv('BENCH_FIELDS') or ''):gmatch('([^:\\n]+): ([^\\n]*)') do wrk.headers[name] = value end
local length = tonumber(os.getenv('BENCH_BODY_BYTES') or '0')
if length > 0 then wrk.body = string.rep('x', length) end
local tokens = os.getenv('BENCH_TOKENS') or ''
if tokens ~= '' then
  local lines, at = {}, 0
  for line in io.lines(tokens) do lines[#lines + 1] = 'Bearer ' .. line end
  request = function()
    at = at % #lines + 1
    wrk.headers['Authorization'] = lines[at]
    return wrk.format()
  end
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, ' ..
    '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.timeout, e.status))
end
"""


class LoadError(Exception):
    """The load could not be put on, or the answer was not the one expected."""


@dataclass(frozen=True)
class WrkResult:
    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    errors: str  # empty, or what went wrong: then it is no result


def wrk_binary() -> str | None:
    return shutil.which("wrk")


@dataclass(frozen=True)
class Request:
    """What is sent, beside the target: `fields` are lines, and Host comes by itself."""

    method: str = "GET"
    fields: str = ""
    body_bytes: int = 0
    new_tokens: int = 0  # so many that were never seen before, one a request

    @property
    def environment(self) -> dict[str, str]:
        return {
            "BENCH_METHOD": self.method,
            "BENCH_FIELDS": self.fields,
            "BENCH_BODY_BYTES": str(self.body_bytes),
        }


GET = Request()


def run_wrk(url: str, seconds: int, connections: int, folder: Path, request: Request = GET) -> WrkResult:
    script = folder / "wrk.lua"
    script.write_text(WRK_SCRIPT)
    tokens = folder / "tokens"
    tokens.write_text("".join(f"{token(time.time_ns() + number)}\n" for number in range(request.new_tokens)))
    known = {"BENCH_TOKENS": str(tokens)} if request.new_tokens else {}
    argv = [str(wrk_binary()), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    try:
        finished = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=seconds + 30,
            check=False,
            env={**os.environ, **request.environment, **known},
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"wrk did not end within {seconds + 30} s") from error
    return parse_wrk(finished.stdout + finished.stderr)


def parse_wrk(output: str) -> WrkResult:
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise LoadError(f"wrk gave no result: {output.strip()[:300]}")
    figures: dict[str, int] = json.loads(lines[0].removeprefix("RESULT "))
    errors = [f"{figures[kind]} {kind}" for kind in ("connect", "read", "write", "timeout") if figures[kind]]
    if figures["status"]:
        errors.append(f"{figures['status']} answers with status 400 or more")
    if not figures["requests"]:
        errors.append("not one answer")
    return WrkResult(
        requests=figures["requests"],
        duration_s=figures["duration_us"] / 1e6,
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        errors=", ".join(errors),
    )


def probe(port: int, path: str, expected_body: bytes | None) -> str:
    """One GET: empty if the answer is a 200 with the expected body, else what was wrong with it."""
    connection = HTTPConnection(HOST, port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        return f"no answer on {path}: {error!r}"
    finally:
        connection.close()
    if response.status != 200:
        return f"{path} answered {response.status}: {body[:200]!r}"
    if expected_body is not None and body != expected_body:
        return f"{path} answered {len(body)} bytes that are not the {len(expected_body)} expected"
    return ""


def download(port: int, body_bytes: int) -> float:
    """Seconds from the request to the last byte of the answer, which is counted and dropped."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    began = time.perf_counter()
    with socket.create_connection((HOST, port), timeout=TRANSFER_TIMEOUT_S) as connection:
        connection.sendall(_head("GET", f"/download/{body_bytes}", ""))
        head, body = _read_head(connection)
        if f"content-length: {body_bytes}" not in head:
            raise LoadError(f"the answer has lost its length: {head.splitlines()[0]}")
        received_bytes = len(body)
        while received_bytes < body_bytes:
            count = connection.recv_into(buffer)
            if not count:
                raise LoadError(f"the download ended after {received_bytes} of {body_bytes} bytes")
            received_bytes += count
    return time.perf_counter() - began


def unread(port: int, body_bytes: int) -> socket.socket:
    """A client that has asked for an answer, seen its first bytes, and reads no more. The caller closes it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(TRANSFER_TIMEOUT_S)
    client.connect((HOST, port))
    client.sendall(_head("GET", f"/download/{body_bytes}", ""))
    client.recv(100)
    return client


def upload(port: int, body_bytes: int) -> float:
    """Seconds from the request to the answer, in which the upstream says that it has all bytes."""
    block = memoryview(bytes(BLOCK_BYTES))
    began = time.perf_counter()
    with socket.create_connection((HOST, port), timeout=TRANSFER_TIMEOUT_S) as connection:
        connection.sendall(_head("POST", "/upload", f"Content-Length: {body_bytes}\r\n"))
        left_bytes = body_bytes
        while left_bytes:
            left_bytes -= connection.send(block[:left_bytes])
        head, body = _read_head(connection)
        while b"}" not in body:
            more = connection.recv(BLOCK_BYTES)
            if not more:
                raise LoadError(f"the upload's answer broke off: {head.splitlines()[0]}")
            body += more
    if f'"received": {body_bytes}'.encode() not in body:
        raise LoadError(f"the upstream did not get {body_bytes} bytes: {head.splitlines()[0]} {body[:200]!r}")
    return time.perf_counter() - began


def _head(method: str, path: str, more: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n{more}\r\n".encode()


def _read_head(connection: socket.socket) -> tuple[str, bytes]:
    """The head of the answer in lower case, and the bytes of the body that came along."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(BLOCK_BYTES)
        if not more:
            raise LoadError("the gateway closed the connection before an answer")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("latin-1").lower(), body
