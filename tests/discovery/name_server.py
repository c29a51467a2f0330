"""A name server of the tests' own, over UDP and TCP: what it says is set by hand; what does not fit is truncated."""

import socket
import socketserver
import struct
import threading
from collections.abc import Mapping
from typing import Any, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

MOST_BYTES = 512  # of a datagram without EDNS (RFC 1035, section 4.2.1)


class NameServer:
    """`records` are by name and kind: `{("school.test", "SRV"): (60, ["1 10 80 a.test."])}`, TTL and values."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.asked: list[tuple[str, str, str]] = []  # name, kind, and by which transport
        self.rcode = dns.rcode.NOERROR
        self.is_silent = False
        self._tcp = _Tcp((host, port), self)
        self.host, self.port = host, int(self._tcp.server_address[1])
        self._udp = _Udp((host, self.port), self)
        self._threads = [threading.Thread(target=one.serve_forever, daemon=True) for one in (self._tcp, self._udp)]

    def say(self, records: Mapping[tuple[str, str], tuple[int, list[str]]]) -> None:
        """From now on it knows these, beside what it knows already; an empty list is a name without such a record."""
        self.records |= records

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name
        self.asked.append((name, kind, transport))
        if self.is_silent:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        response.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR:
            if (name, kind) in self.records:
                ttl, values = self.records[name, kind]
                if values:
                    response.answer.append(dns.rrset.from_text_list(question.name, ttl, "IN", kind, values))
            elif not any(known == name for known, _ in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
        found = response.to_wire(max_size=65_535)
        if transport == "udp" and len(found) > MOST_BYTES:
            cut = dns.message.make_response(query)
            cut.flags |= dns.flags.TC
            return cut.to_wire()
        return found

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


class _OverUdp(socketserver.BaseRequestHandler):
    server: "_Udp"

    def handle(self) -> None:
        data, connection = self.request
        answer = self.server.owner.answer(data, "udp")
        if answer is not None:
            connection.sendto(answer, self.client_address)


class _OverTcp(socketserver.StreamRequestHandler):
    server: "_Tcp"

    def handle(self) -> None:
        head = self.rfile.read(2)
        if len(head) == 2 and (answer := self.server.owner.answer(self.rfile.read(*struct.unpack("!H", head)), "tcp")):
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, address: tuple[str, int], owner: NameServer) -> None:
        self.owner = owner
        super().__init__(address, _OverUdp)


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], owner: NameServer) -> None:
        self.owner = owner
        super().__init__(address, _OverTcp)


def resolver_for(server: NameServer) -> Any:
    """What asks that name server alone."""
    from dns.asyncresolver import Resolver

    resolver = Resolver(configure=False)
    resolver.nameservers, resolver.port = [server.host], server.port
    resolver.timeout = 0.5
    return resolver


def can_be_bound(host: str, port: int) -> bool:
    """Whether a server may listen there."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((host, port))
            tcp.bind((host, port))
    except OSError:
        return False
    return True
