"""nginx's `server` blocks: their hosts, what they listen on, and their certificates."""

from dataclasses import dataclass

from gateway.importing.draft import Draft, Weight
from gateway.importing.nginx_syntax import Directive


@dataclass(slots=True)
class Server:
    block: Directive
    hosts: tuple[str, ...]  # "" for any
    ports: list[tuple[str, bool]]  # with whether it is TLS


def server_of(block: Directive, *, is_only: bool) -> Server:
    names, ports, is_default = [], [], is_only
    for one in block.all("server_name"):
        names += one.words
    for one in block.all("listen"):
        port = one.value.rpartition(":")[2].rpartition("]")[2] or "80"
        is_default = is_default or "default_server" in one.words
        if port.isdigit() and (port, "ssl" in one.words) not in ports:
            ports.append((port, "ssl" in one.words))
    hosts = tuple(name for name in names if name not in {"_", ""})
    return Server(block, ("",) if is_default or not hosts else hosts, ports or [("80", False)])


def listening(servers: list[Server], draft: Draft) -> None:
    for server in servers:
        certificate, key = server.block.first("ssl_certificate"), server.block.first("ssl_certificate_key")
        if certificate is not None and key is not None:
            draft.leave(Weight.ROUTING, certificate.node, "TLS: fill in the paths of certificate and key below")
            draft.comment(f"GATEWAY_TLS_CERT_FILE={certificate.value}")
            draft.comment(f"GATEWAY_TLS_KEY_FILE={key.value}")
        for one in server.block.all("ssl_protocols"):
            if "TLSv1.2" not in one.words:
                draft.option("GATEWAY", "TLS_MIN", "1.3", one.node)
    ports = [port for server in servers for port in server.ports]
    if not ports:
        return
    main = next((port for port in ports if port[1]), ports[0])
    draft.option("GATEWAY", "BIND", f"0.0.0.0:{main[0]}", servers[0].block.node)
    for port, _ in dict.fromkeys(ports):
        if port != main[0]:
            draft.comment(f"one address is listened on; port {port}: GATEWAY_TLS_REDIRECT, or a second gateway")
