"""What a reload would change: the configuration that is here against the one that runs, as rows of `/-/status`."""

from collections.abc import Iterable, Mapping, Sequence

# What no reload changes; TLS only where it is switched on or off.
_FIXED = frozenset({"GATEWAY_BIND", "GATEWAY_WORKERS", "GATEWAY_DATABASE_URL"})
_ON_OR_OFF = frozenset({"GATEWAY_TLS_CERT", "GATEWAY_TLS_KEY"})

Row = Mapping[str, str]
Line = tuple[str, str, str]  # a sign (+ - ~), what it is, its value or what is to be said of it


def of_variables(running: Iterable[Row], here: Iterable[Row]) -> list[Line]:
    """Variables that come, go or change. Values are masked; a `mark` tells whether a masked one is another one."""
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
    """Routes of Python that come or go; those of the environment are its variables."""
    before, after = ([_shown(row) for row in rows if _is_python(row)] for rows in (running, here))
    gone = [("-", *row) for row in before if row not in after]
    return [*gone, *(("+", *row) for row in after if row not in before)]


def of_hashes(lines: Sequence[Line], running: str, here: str) -> list[Line]:
    """What only the hash of the whole tells: options that are written in Python."""
    if lines or running == here:
        return []
    return [("~", "options of routes in Python", "")]


def _is_python(row: Row) -> bool:
    return not row["origin"].startswith("GATEWAY_")


def _shown(row: Row) -> tuple[str, str]:
    return row["pattern"], f"-> {row['target']}  ({row['origin'].partition(':')[0]})"
