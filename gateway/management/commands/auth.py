"""`gateway auth`: keys for partners, and the content of a token."""

import asyncio
import json
import re
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from django.core.management import CommandError, CommandParser

from gateway.auth import tokens
from gateway.auth.keys import is_name, line_of
from gateway.auth.rules import Outcome
from gateway.http.identity import Identity
from gateway.management import GatewayCommand, add_env_file
from gateway.management.explain_auth import examined_tokens
from gateway.text import aligned, plain

_KEY_BYTES = 32
_BEFORE_TOKEN = re.compile(rb"\s*(?:authorization:\s*)?bearer\s+", re.IGNORECASE)
_SIGNS = ": , # = [ ]"  # which have a meaning in the line of a key
_TIMES = ("exp", "nbf", "iat", "auth_time")


class Command(GatewayCommand):
    help = "Make keys for partners, and tell what is in a token and which ways would take it."
    epilog = """\
examples:
  gateway auth key acme --roles partner
  gateway auth token token.txt
  pbpaste | gateway auth token -"""

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="key|token")
        key = verbs.add_parser(
            "key",
            help="make a key and its line",
            description="Make a key, print it once, and the line for the file of GATEWAY_AUTH_<NAME>__KEYS_FILE.",
        )
        key.add_argument("name", metavar="NAME", help="whose it is; stands in logs")
        key.add_argument("--roles", default="", metavar="A,B", help="the roles of its holder")
        token = verbs.add_parser(
            "token",
            help="what is in a token, and which ways take it",
            description="Tell what a token says, and of each way of kind jwt whether it takes it and why not. It may "
            "fetch keys, as the gateway would. The token itself is not shown.",
        )
        token.add_argument("file", metavar="FILE|-", help="a file that holds the token, or - for standard input")
        add_env_file(token)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "key":
            self._make_key(options["name"], [role for role in options["roles"].split(",") if role])
        else:
            self._show_token(options)

    def _make_key(self, name: str, roles: list[str]) -> None:
        if not is_name(name):
            raise CommandError(f"expected a name without white space and {_SIGNS}, such as acme")
        if not all(map(is_name, roles)):
            raise CommandError(f"expected roles between commas, without white space and {_SIGNS}, such as admin,ops")
        key = f"pw_{secrets.token_urlsafe(_KEY_BYTES)}"
        self.stdout.write(aligned([["key", key], ["line", line_of(name, key, roles)]]))
        self.stderr.write("gateway: the key is shown this once; the line holds its hash alone")

    def _show_token(self, options: dict[str, Any]) -> None:
        config, _ = self.checked(options["env_file"])
        text = _read(options["file"])
        try:
            token = tokens.parse(text)
        except tokens.TokenError as error:
            raise CommandError(f"this is no token: {error}") from None
        now_s = time()
        self._section("Header", _members(token.header, now_s))
        self._section("Claims", _members(token.claims, now_s))
        found = asyncio.run(examined_tokens(config, text, now_s))
        rows = [[name, *_verdict(one)] for name, one in found.items()]
        self._section("Ways", rows or [["there is no way of kind jwt; set GATEWAY_AUTH_<NAME>='jwt ISSUER'"]])

    def _section(self, title: str, rows: list[list[str]]) -> None:
        self.stdout.write(self.style.MIGRATE_LABEL(title))
        self.stdout.write(aligned(rows))


def _read(path: str) -> bytes:
    """The token, without the word `Bearer` that may stand before it."""
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(tokens.LONGEST_TOKEN * 2)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(tokens.LONGEST_TOKEN * 2)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    match = _BEFORE_TOKEN.match(raw)
    return raw[match.end() if match else 0 :].strip()


def _members(values: Any, now_s: float) -> list[list[str]]:
    return [[plain(str(name)), _shown(name, value, now_s)] for name, value in values.items()]


def _shown(name: str, value: Any, now_s: float) -> str:
    text = plain(json.dumps(value, ensure_ascii=False))
    if name in _TIMES and isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e11:
        ago = now_s - value
        moment = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        text += f"  {moment}, {abs(ago):.0f} s {'ago' if ago >= 0 else 'ahead'}"
    return text if len(text) <= 400 else f"{text[:400]}..."


def _verdict(found: Identity | Outcome) -> Iterator[str]:
    if isinstance(found, Identity):
        yield "takes it"
        roles = f", roles {' '.join(found.roles)}" if found.roles else ""
        scopes = f", scopes {' '.join(found.scopes)}" if found.scopes else ""
        yield plain(f"for {found.name or 'nobody by name'}{roles}{scopes}")
    else:
        yield f"refuses it: {found.verdict.word}"
        yield plain(" ".join(filter(None, (found.detail, found.cause))))
