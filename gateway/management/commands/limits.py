"""`gateway limits`: the limits in use, how many keys are over, and how to free one."""

from typing import Any
from urllib.parse import urlencode

from django.core.management import CommandParser

from gateway.management import GatewayCommand, add_env_file
from gateway.management.running import ask
from gateway.text import aligned


class Command(GatewayCommand):
    help = "List the rate limits of the gateway that runs, and make a key free again."
    epilog = """\
A key is written as the limit counts it: an address, WAY:NAME of an identity, the value of a field. Where a limit
counts by several, they are joined by +.

examples:
  gateway limits
  gateway limits forget 203.0.113.7
  gateway limits forget 203.0.113.7 --limit api"""

    def add_arguments(self, parser: CommandParser) -> None:
        self._add_url(parser)
        verbs = parser.add_subparsers(dest="verb", metavar="forget")
        forget = verbs.add_parser(
            "forget",
            help="let a key send again at once",
            description="Let a key send again at once: in every limit that it may stand in, or in one.",
        )
        forget.add_argument("key", metavar="KEY", help="whose requests are counted, such as 203.0.113.7")
        forget.add_argument("--limit", default="", metavar="NAME", help="of this limit only")
        self._add_url(forget)
        add_env_file(forget)

    @staticmethod
    def _add_url(parser: Any) -> None:
        parser.add_argument("--url", default="", help="of another gateway than the one on GATEWAY_BIND")

    def handle(self, *args: Any, **options: Any) -> None:
        config, _ = self.checked(options["env_file"])
        if options["verb"] == "forget":
            asked = {"key": options["key"]} | ({"limit": options["limit"]} if options["limit"] else {})
            found = ask(config.settings, "DELETE", f"/-/limits?{urlencode(asked)}", options["url"], member="forgotten")
            count = found["forgotten"]
            self.stdout.write(f"Forgotten: {count} count{'' if count == 1 else 's'}.")
            return
        found = ask(config.settings, "GET", "/-/limits", options["url"], member="limits")
        if not found["limits"]:
            self.stdout.write("No limits hold.")
            return
        away = ", which is away: each gateway goes by ON_FAILURE" if found["is_away"] else ""
        self.stdout.write(f"Counted in: {_STORES[found['store']]}{away}")
        table = [["LIMIT", "RATE", "BY", "KEYS", "OVER"]]
        table += [
            [one["name"], one["rate"], one["by"], _shown(one["keys"]), _shown(one["over"])] for one in found["limits"]
        ]
        self.stdout.write(aligned(table, indent=""))


_STORES = {
    "worker": "this gateway's memory",
    "host": "memory that the workers of this gateway share",
    "valkey": "Valkey, together with all gateways that name it",
}


def _shown(count: int | None) -> str:
    return "?" if count is None else str(count)
