"""The changes that a reload would make: this configuration against the running one, as rows of `/-/status`."""

from collections.abc import Iterable, Mapping, Sequence

# Variables that no reload changes; TLS only if it is switched on or off.
_FIXED = frozenset({"GATEWAY_BIND", "GATEWAY_WORKERS", "GATEWAY_DATABASE_URL"})
_ON_OR_OFF = frozenset({"GATEWAY_TLS_CERT", "GATEWAY_TLS_KEY"})

Row = Mapping[str, str]
Line = tuple[str, str, str]  # a sign (+ - ~), what it is, its value or a remark


def of_variables(running: Iterable[Row], here: Iterable[Row]) -> list[Line]:
    """Variables that are added, removed or changed. Values are masked; a `mark` shows whether a masked one differs."""
    before, after = ({row["variable"]: row for row in rows} for rows in (running, here))
    lines: list[Line] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None:
            if (old["value"], old.get("mark")) == (new["value"], new.get("mark")):
                continue
            restarts = "  (takes a restart)" if name in _FIXED else ""
            if old["value"] == new["value"]:
                lines.append(("~", name, f"{new['value']}  (another value){restarts}"))
                continue
        else:
            restarts = "  (takes a restart)" if name in _FIXED | _ON_OR_OFF else ""
        lines += [("-", name, old["value"])] if old is not None else []
        lines += [("+", name, new["value"] + restarts)] if new is not None else []
        if new is None and restarts:
            lines[-1] = ("-", name, lines[-1][2] + restarts)
    return lines


def of_routes(running: Iterable[Row], here: Iterable[Row]) -> list[Line]:
    """Routes in Python that are added or removed; those of the environment are covered by its variables."""
    before, after = ([_shown(row) for row in rows if _is_python(row)] for rows in (running, here))
    gone = [("-", *row) for row in before if row not in after]
    return [*gone, *(("+", *row) for row in after if row not in before)]


def of_hashes(lines: Sequence[Line], running: str, here: str) -> list[Line]:
    """Differences that only the hash of the whole shows: options that are written in Python."""
    if lines or running == here:
        return []
    return [("~", "options of routes in Python", "")]


def _is_python(row: Row) -> bool:
    return not row["origin"].startswith("GATEWAY_")


def _shown(row: Row) -> tuple[str, str]:
    return row["pattern"], f"-> {row['target']}  ({row['origin'].partition(':')[0]})"
