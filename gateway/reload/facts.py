"""Facts of a generation's configuration, for the parent: values that no reload changes, and files that were read."""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gateway import units
from gateway.config.address import shown
from gateway.config.environment import Entry
from gateway.config.fingerprint import fingerprint
from gateway.config.records import Config
from gateway.reload.files import named_files, own_modules
from gateway.reload.line import Facts
from gateway.routing.urls import Routes

_PACKAGE = Path(__file__).resolve().parents[1]


def facts_of(
    config: Config, routes: Routes, environ: Mapping[str, str], env_files: Sequence[str], warnings: str
) -> Facts:
    """`env_files` are the paths of --env-file, `warnings` those of `check`."""
    settings = config.settings
    fixed = {
        "GATEWAY_BIND": shown(settings.bind),
        "GATEWAY_WORKERS": str(settings.workers),
        "GATEWAY_DATABASE_URL": settings.database_url,
        "GATEWAY_TLS_CERT": "a certificate" if settings.tls_cert_pem else "no certificate",
    }
    modules = own_modules(list(sys.modules.values()), Path.cwd(), _PACKAGE)
    # Where the folder has none, those of Portway's own folder serve: one that is saved later must be noticed.
    routes_file = str(Path.cwd() / f"{settings.urlconf.replace('.', '/')}.py")
    return Facts(
        fixed={name: (units.mask_url(text), hashlib.sha256(text.encode()).hexdigest()) for name, text in fixed.items()},
        log=settings.log,
        log_level=settings.log_level,
        watches=settings.reload == "watch",
        files=(*env_files, *named_files(environ), *modules, routes_file),
        warnings=warnings,
        config_hash=fingerprint(config, routes),
    )


def workers_of(entries: Iterable[Entry]) -> int:
    """GATEWAY_WORKERS; 1 if it is not set, or is invalid, which the first generation reports."""
    for entry in entries:
        if (entry.name.family, entry.name.option.name) == ("gateway", "WORKERS"):
            with suppress(ValueError):
                return int(str(entry.name.option.unit.parse(entry.text.strip())))
    return 1
