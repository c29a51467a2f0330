"""The replacement of an answer: ON_404, ON_5XX, ON_CONNECTION_REFUSED at each level, decided.

The nearest level goes first; within one a reason goes before a status, and a status before its class.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.answers.options import BODY_SUFFIX, Replacement
from gateway.answers.targets import Page
from gateway.http import fields
from gateway.options import Level
from gateway.upstreams.targets import Target

_LEVELS = ("GATEWAY_ROUTE_", "GATEWAY_UPSTREAM_", "GATEWAY_")


@dataclass(frozen=True, slots=True)
class Rule:
    """The replacement for `word`: a reason, a status or a class; None if the answer stays, with a body of its own."""

    word: str
    variable: str
    replacement: Replacement | None
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Replacements:
    """The rules of a route, the nearest first."""

    levels: tuple[dict[str, Rule], ...] = ()

    def find(self, status: int, reason: str | None) -> Rule | None:
        """The rule for an answer of this status; `reason` is the word of its failure, if it is one."""
        words = (reason or "", str(status), f"{status // 100}xx")
        for rules in self.levels:
            for word in words:
                if word in rules:
                    return rules[word]
        return None

    @property
    def asks_services(self) -> bool:
        return any(isinstance(rule.replacement, Target) for rule in self.rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rules in self.levels for rule in rules.values())


def replacements_of(level: Level) -> Replacements | None:
    """The rules from all levels of a route; None without any."""
    members = level.members.get("on", {})
    levels: list[dict[str, Rule]] = [{} for _ in _LEVELS]
    for word, value in members.items():
        if word.endswith(BODY_SUFFIX) and word.removesuffix(BODY_SUFFIX) in members:
            continue
        variable = level.variable("on", word)
        body = members.get(word + BODY_SUFFIX)
        number = next(number for number, prefix in enumerate(_LEVELS) if variable.startswith(prefix))
        levels[number][word] = Rule(word, variable, value, body if isinstance(body, str) else None)
    return Replacements(tuple(rules for rules in levels if rules)) if members else None


def suits(rule: Rule, accept: Iterable[bytes]) -> bool:
    """Whether the client accepts the replacement: a page in HTML is for clients that ask for HTML by name."""
    if not isinstance(rule.replacement, Page) or not rule.replacement.path.endswith((".html", ".htm")):
        return True
    for member in fields.members(accept):
        media, _, parameters = member.partition(";")
        if media.strip().lower() in {"text/html", "application/xhtml+xml"}:
            weight = parameters.replace(" ", "").lower()
            return weight not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
