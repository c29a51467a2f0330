"""TLS towards upstreams: the trusted authorities, and the certificate that the gateway presents."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def tls_context(ca_pem: str | None, cert_pem: str | None, key_pem: str | None) -> ssl.SSLContext:
    """A context that trusts `ca_pem` (the system's authorities where it is None) and presents a certificate if given.

    Raises ssl.SSLError or OSError for texts that are no PEM.
    """
    context = ssl.create_default_context(cadata=ca_pem)
    if cert_pem is not None:
        with private_file(f"{cert_pem}\n{key_pem or ''}\n") as path:
            context.load_cert_chain(path)
    return context


@contextmanager
def private_file(text: str) -> Iterator[str]:
    """A temporary file with the text: ssl reads a certificate's chain and key only from a file.

    In memory where the system can, since a container's file system may be read-only.
    """
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("portway-pem"), "w") as file:
            file.write(text)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "chain.pem")
        path.touch(mode=0o600)
        path.write_text(text)
        yield str(path)
