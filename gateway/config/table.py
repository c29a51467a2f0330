"""The one table of every variable: each room declares its own rows, here they are added up.

Parsing, error messages, masks and the page docs/configuration.md (`python -m docs.reference` writes it) all come from
`OPTIONS`. A value arrives in the records under `Option.attribute`.
"""

from gateway.answers import options as answers
from gateway.auth import options as auth
from gateway.cache import options as cache
from gateway.config import options as config
from gateway.fanout import options as fanout
from gateway.legacy import options as legacy
from gateway.limits import options as limits
from gateway.options import Option, Refused, find, nearest_row, own_name, refuse_unchecked
from gateway.proxy import options as proxy
from gateway.routing import options as routing
from gateway.upstreams import options as upstreams

# In the order of the page.
OPTIONS: tuple[Option, ...] = (
    *config.PLAIN,
    limits.LIMIT,
    *limits.OF_LIMIT,
    upstreams.UPSTREAM,
    upstreams.FROM,
    routing.ROUTE,
    *upstreams.OF_CALL,
    *upstreams.OF_UPSTREAM,
    *routing.OF_ROUTE,
    *limits.OF_ROUTE,
    *auth.OF_LEVELS,
    *cache.OF_ROUTE,
    *answers.OF_ROUTE,
    *proxy.OF_ROUTE,
    *fanout.OF_ROUTE,
    *legacy.OF_ROUTE,
    *fanout.OF_PART,
    fanout.FUNCTION_OF_PART,
    *legacy.OF_POOL,
    auth.WAY,
    *auth.OF_WAY,
    config.DATABASE,
)
TABLE = {(family, option.name): option for option in OPTIONS for family in option.families.split()}

_A = {"gateway": "all upstreams and routes", "upstream": "an upstream", "route": "a route", "part": "a part"}
_A |= {"legacy": "a legacy pool", "database": "a database", "rate_limit": "a limit", "auth": "a way to authenticate"}
_ROWS = {family: {name: option for (owner, name), option in TABLE.items() if owner == family} for family in _A}


def lookup(family: str, word: str) -> tuple[Option, str]:
    """An option's word within a family -> the option, and the member for the `*` of an open one; raises Refused."""
    found = find(_ROWS[family], word)
    if found is not None:
        return found
    if family in {"upstream", "route"}:
        refuse_unchecked(word)
    meant = own_name(word)
    owners = [_A[other] for other in ("upstream", "route", "part") if (other, meant) in TABLE]
    if not owners and ("gateway", meant) in TABLE:
        owners = ["the gateway itself"]
    if owners and (family, meant) not in TABLE:
        raise Refused(f"{meant} is an option of {' or '.join(owners)}, not of {_A[family]}")
    near = nearest_row(_ROWS[family], word)
    raise Refused(f"{_A[family]} has no such option", near)


def has(family: str, word: str) -> bool:
    """Whether the word is an option of the family, perhaps a member of an open one."""
    try:
        return find(_ROWS[family], word) is not None
    except Refused:
        return False


def names_of(family: str) -> list[str]:
    """The options of a family, open ones with their `*`; not the family's own variable."""
    return [name for name in _ROWS[family] if name]
