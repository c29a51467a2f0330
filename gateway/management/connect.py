"""`gateway check --connect`: each endpoint is looked up, connected to and, where it has a health path, asked."""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.upstreams.options import Overrides, effective
from gateway.upstreams.places import Base
from gateway.upstreams.records import Upstream
from gateway.upstreams.tls import tls_context

_MOST_ADDRESSES = 16
_CLOSE_S = 1.0
_TLS_ALERT = b"\x15\x03"
_ASKS_OF_TLS = "; is TLS spoken there?"


@dataclass(slots=True)
class Tried:
    """The result for one address of a base URL, step by step; `fault` is why it cannot be used, or empty."""

    upstream: str
    url: str
    address: str = ""
    steps: list[str] = field(default_factory=list)
    fault: str = ""

    @property
    def row(self) -> list[str]:
        """Its words, for a table."""
        return [self.upstream, self.url, self.address, ", ".join([*self.steps, *([self.fault] if self.fault else [])])]


async def connect(upstreams: Mapping[str, Upstream]) -> list[Tried]:
    """Try every address of every base URL, all at once. Sources (SRV, Consul, Eureka) are not asked."""
    bases = [(upstream, base) for upstream in upstreams.values() for base in upstream.bases]
    found = await asyncio.gather(*(_base(upstream, base) for upstream, base in bases))
    others = [
        Tried(upstream.name, str(source), steps=["its instances are known once the gateway runs: not tried"])
        for upstream in upstreams.values()
        for source in upstream.sources
    ]
    return [*(one for tried in found for one in tried), *others]


async def _base(upstream: Upstream, base: Base) -> list[Tried]:
    options = effective(upstream.overrides, Overrides())
    url = base.origin + base.prefix
    began_s = time.perf_counter()
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(base.host, base.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return [Tried(upstream.name, url, fault=f"dns: no answer within {options.connect_timeout_s:g} s")]
    except OSError as error:
        return [Tried(upstream.name, url, fault=f"dns: {_text(error)}")]
    looked_up = _took("dns", began_s)
    addresses = list(dict.fromkeys(str(where[0]) for *_, where in found))
    is_name = addresses != [base.host]
    tried = [Tried(upstream.name, url, one, [looked_up] if is_name else []) for one in addresses[:_MOST_ADDRESSES]]
    await asyncio.gather(*(_address(upstream, base, one, options.connect_timeout_s) for one in tried))
    if len(addresses) > _MOST_ADDRESSES:
        tried.append(Tried(upstream.name, url, f"{len(addresses) - _MOST_ADDRESSES} more", ["not tried"]))
    return tried


async def _address(upstream: Upstream, base: Base, tried: Tried, timeout_s: float) -> None:
    """Connect, shake hands, ask; the results are noted in `tried`."""
    step = "tcp"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            began_s = time.perf_counter()
            reader, writer = await asyncio.open_connection(tried.address, base.port)
            tried.steps.append(_took(step, began_s))
            if base.scheme == "https":
                step, began_s = "tls", time.perf_counter()
                context = tls_context(upstream.ca_pem, upstream.client_cert_pem, upstream.client_key_pem)
                await writer.start_tls(context, server_hostname=base.host.rstrip("."))
                tried.steps.append(_took(step, began_s))
        if upstream.health is not None:
            step = f"GET {upstream.health}"
            async with asyncio.timeout(upstream.health_timeout_s):
                await _ask(upstream.health, base, tried, reader, writer)
    except TimeoutError:
        tried.fault = f"{step}: no answer in time"
    except ssl.SSLError as error:
        tried.fault = f"{step}: {_fault_of_tls(error)}"
    except OSError as error:
        was_cut = isinstance(error, ConnectionResetError) and base.scheme == "http"
        tried.fault = f"{step}: {_text(error)}{_ASKS_OF_TLS if was_cut else ''}"
    finally:
        if writer is not None:
            if tried.fault:
                writer.transport.abort()  # `close` would wait for a peer that never answers the handshake of TLS
            else:
                writer.close()
            with contextlib.suppress(TimeoutError, OSError, ssl.SSLError):
                async with asyncio.timeout(_CLOSE_S):
                    await writer.wait_closed()


async def _ask(path: str, base: Base, tried: Tried, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for the health path, as a probe does."""
    began_s = time.perf_counter()
    lines = [f"GET {base.prefix}{path} HTTP/1.1", f"host: {base.authority}", "user-agent: portway-probe"]
    writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode("ascii"))
    line = await reader.readline()
    version, _, rest = line.decode("latin-1").partition(" ")
    if line.startswith(_TLS_ALERT):
        tried.fault = f"GET {path}: TLS is spoken there: write https://"
    elif not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        fault = "the answer is no HTTP" if line else "it was closed without an answer" + _ASKS_OF_TLS
        tried.fault = f"GET {path}: {fault}"
    elif not 200 <= int(rest[:3]) <= 399:
        tried.fault = f"GET {path}: {rest[:3]}"
    else:
        tried.steps.append(_took(f"GET {path} {rest[:3]}", began_s))


def _took(step: str, began_s: float) -> str:
    return f"{step} {(time.perf_counter() - began_s) * 1000:.1f} ms"


def _text(error: OSError) -> str:
    """The system's words; asyncio's own text for a connection would repeat the address."""
    known = os.strerror(error.errno) if error.errno and not isinstance(error, socket.gaierror) else error.strerror
    return (known or str(error) or type(error).__name__).lower()


def _fault_of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}; __CA_FILE names its authority"
    if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return "no TLS is spoken there: write http://"
    return (error.reason or str(error)).lower().replace("_", " ")


def are_good(tried: Iterable[Tried]) -> bool:
    """Whether every address can be used."""
    return not any(one.fault for one in tried)
