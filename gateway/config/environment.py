"""A variable's name and text: families, `_FILE` twins, Kubernetes' service links, masks, and the nearest valid name.

`read` turns every `GATEWAY_*` variable into an entry: the option it sets, its owner, and its text, perhaps out of a
file. Texts are not parsed here. A variable that cannot become an entry is refused with a reason, and reading goes on.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway import units
from gateway.config import table
from gateway.options import Option, Refused, check_name, nearest_row, refuse_unchecked
from gateway.upstreams.options import FROM

_PLAIN = {
    f"GATEWAY_{name}": option
    for (family, name), option in table.TABLE.items()
    if family == "gateway" and not option.is_open
}
_OPEN_PLAIN = tuple(
    f"GATEWAY_{name.removesuffix('*')}"
    for (family, name), option in table.TABLE.items()
    if family == "gateway" and option.is_open
)
_PREFIXES = {
    family: f"GATEWAY_{family.upper()}_" for family in ("upstream", "route", "legacy", "auth", "rate_limit", "database")
}
# Names of other programs that people try; the spelling would not lead to ours.
_ALIASES = {"HOST": "BIND", "PORT": "BIND", "LISTEN": "BIND", "DEBUG": "LOG_LEVEL"}
_SUSPICIOUS = re.compile(r"TOKEN|SECRET|PASS|KEY|AUTH|CREDENTIAL|COOKIE|HEADER|CERT")


# -- names --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Name:
    """The parts of a variable's name: `GATEWAY_UPSTREAM_USERS__HEADER_X_TENANT` is HEADER_* of upstream USERS."""

    option: Option
    family: str = "gateway"
    owner: str = ""  # upper case: `USERS`
    member: str = ""  # the text for the `*` of an open option: `X_TENANT`
    part: str = ""  # the part to which the option belongs, in lower case, or empty

    @property
    def declaration(self) -> str:
        """The variable that declares the upstream or route: `GATEWAY_UPSTREAM_USERS`."""
        return f"GATEWAY_{self.family.upper()}_{self.owner}"

    @property
    def prefix(self) -> str:
        """The text before an option's name: `GATEWAY_UPSTREAM_USERS__`, or `GATEWAY_` alone."""
        return "GATEWAY_" if self.family == "gateway" else f"{self.declaration}__"


def find(variable: str) -> Name:
    """An upper-case variable, without the `_FILE` of a variant -> its parts; raises Refused with the nearest name."""
    if variable in _PLAIN:
        return Name(_PLAIN[variable])
    head, *rest = variable.split("__")
    for family, prefix in _PREFIXES.items():
        if head.startswith(prefix):
            return _find_in(family, head.removeprefix(prefix), rest)
        if head == prefix.rstrip("_"):
            raise Refused(f"the name is missing, as in {prefix}USERS; no name is FILE or ends in _FILE")
    return _find_plain(variable.removeprefix("GATEWAY_"))


def _find_plain(word: str) -> Name:
    """A plain variable that is open (`GATEWAY_HEADER_X_TENANT`); raises Refused for an unknown one."""
    if f"GATEWAY_{word}".startswith(_OPEN_PLAIN):
        option, member = table.lookup("gateway", word)
        return Name(option, member=member)
    for family, owner in (("upstream", "an upstream"), ("route", "a route")):
        if word and table.has(family, word):
            hint = f"{_PREFIXES[family]}<NAME>__{word}"
            raise Refused(f"{word} is an option of {owner}; there is no plain one for all of them", hint)
    try:
        refuse_unchecked(word)
    except Refused as error:
        raise Refused(str(error), f"{_PREFIXES['upstream']}<NAME>__CA_FILE") from None
    if word.startswith("PART_"):
        raise Refused("a part is one route's; there is no plain one for all of them", f"GATEWAY_ROUTE_<NAME>__{word}")
    raise Refused("there is no such variable", _nearest_plain(word))


def _find_in(family: str, owner: str, rest: list[str]) -> Name:
    check_name(owner, "way" if family == "auth" else family.replace("rate_", ""))
    part, prefix = "", f"{_PREFIXES[family]}{owner}__"
    if len(rest) == 2 and family == "route" and rest[0].startswith("PART_"):
        check_name(rest[0].removeprefix("PART_"), "part")
        part = rest[0].removeprefix("PART_").lower()
        family, prefix = "part", f"{prefix}{rest[0]}__"
    elif len(rest) > 1:
        raise Refused("there is no such variable: one double underscore stands between a name and its option")
    word = rest[-1] if rest else ""
    if rest and not word:
        raise Refused("the option is missing after the double underscore")
    if (family, word) == ("legacy", ""):
        raise Refused(f"this is no variable by itself; it takes options, such as {prefix}THREADS")
    try:
        option, member = table.lookup(family, word)
    except Refused as error:
        raise Refused(str(error), error.hint and prefix + error.hint) from None
    return Name(option, "route" if family == "part" else family, owner, member, part)


def _nearest_plain(word: str) -> str:
    """`GATEWAY_UPSTREM_USERS` leads into a family, all others to the plain settings and options."""
    first, _, rest = word.partition("_")
    family_near = difflib.get_close_matches(first, [family.upper() for family in _PREFIXES], n=1, cutoff=0.7)
    if family_near and rest:
        return f"GATEWAY_{family_near[0]}_{rest}"
    near = nearest_row(table.names_of("gateway"), _ALIASES.get(word, word))
    return near and f"GATEWAY_{near}"


def single_underscore(name: Name) -> str:
    """Where a name probably swallowed its option (`USERS_TIMEOUT`), the variable with the double underscore, or ''."""
    for word in sorted(table.names_of(name.family), key=len, reverse=True):
        owner, found, member = name.owner.partition("_" + word.removesuffix("*"))
        if found and owner and word.endswith("*") == bool(member):
            return f"{_PREFIXES[name.family]}{owner}__{word.removesuffix('*')}{member}"
    return ""


# -- masks --------------------------------------------------------------------------------------------------------


def shown(variable: str, text: str) -> str:
    """A variable's text as it may be shown: masked by its unit, or the path of a file.

    People put secrets in place of a path, under an unknown name, or with one underscore too few
    (`GATEWAY_UPSTREAM_USERS_HEADER_AUTHORIZATION` is an upstream): then all of it is hidden.
    """
    if variable.endswith("_FILE"):
        return text if text.startswith(("/", "./", "../")) else shown(variable.removesuffix("_FILE"), text)
    try:
        name = find(variable)
    except Refused as error:
        harmless = error.hint and not _SUSPICIOUS.search(variable + error.hint)
        return units.mask_url(text) if harmless else "***"
    if (
        not name.option.name
        and name.family != "auth"
        and _SUSPICIOUS.search(name.owner)
        and "://" not in text
        and "->" not in text
    ):
        return "***"
    return name.option.unit.mask(text)


# -- Kubernetes ---------------------------------------------------------------------------------------------------

# The service links that a kubelet sets for a Service called gateway or gateway-x (kubernetes, pkg/kubelet/envvars).
_LINK = re.compile(
    r"GATEWAY(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_PORT = re.compile(r"GATEWAY(_[A-Z0-9_]+)?_PORT")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+:[0-9]+")


def is_service_link(variable: str, text: str) -> bool:
    """Whether Kubernetes and not a person set this variable.

    The name alone is not enough, since an upstream may be called USERS_PORT or MAIL_SERVICE_HOST. The value of a link
    is an address, a number, the name of a protocol or `tcp://ip:port`; base URLs and routes hold another slash. A field
    may be called X_SERVICE_PORT (`GATEWAY_HEADER_X_SERVICE_PORT`) and have any value but `tcp://ip:port`.
    """
    if variable in _PLAIN:
        return False
    if variable.startswith(_OPEN_PLAIN):
        return _LINK_VALUE.fullmatch(text) is not None
    if _LINK_VALUE.fullmatch(text):
        return (_LINK.fullmatch(variable) or _LINK_PORT.fullmatch(variable)) is not None
    return "/" not in text and _LINK.fullmatch(variable) is not None


# -- reading ------------------------------------------------------------------------------------------------------

# Editors on Windows and PowerShell begin a UTF-8 file with it. It marks the encoding, and is not part of the text.
_BYTE_ORDER_MARK = "\ufeff"

ReadFile = Callable[[str], str]  # a path -> its text; raises OSError or UnicodeError


@dataclass(frozen=True, slots=True)
class Entry:
    """A variable as it was written (perhaps with `_FILE`), the parts of its name, and its text."""

    variable: str
    name: Name
    text: str = field(repr=False)
    shown: str  # the text masked, or the path of the file
    from_file: bool


@dataclass(slots=True)
class Reading:
    """All entries; all refusals, each with its variable and the value as it may be shown; and all declared names, even
    where the declaration itself is wrong."""

    entries: list[Entry] = field(default_factory=list)
    refusals: list[tuple[str, str, Refused]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    declared: dict[str, set[str]] = field(
        default_factory=lambda: {"upstream": set(), "route": set(), "rate_limit": set(), "auth": set()}
    )


def read(environ: Mapping[str, str], read_file: ReadFile) -> Reading:
    """Every `GATEWAY_*` variable, in whatever case, that Kubernetes did not set; in the order of their names."""
    reading = Reading()
    for variable in sorted(environ):
        if variable[:8].upper() == "GATEWAY_" and not is_service_link(variable, environ[variable]):
            try:
                _read_one(variable, environ, read_file, reading)
            except Refused as error:
                reading.refusals.append((variable, shown(variable.upper(), environ[variable]), error))
    return reading


def _read_one(variable: str, environ: Mapping[str, str], read_file: ReadFile, reading: Reading) -> None:
    name, text, visible = _find_written(variable), environ[variable], shown(variable, environ[variable])
    text = text.removeprefix(_BYTE_ORDER_MARK)  # from `$(cat token)`
    if not text.strip():
        reading.warnings.append(f"{variable} is empty, which counts as not set")
        return
    if (not name.option.name or name.option is FROM) and name.family in reading.declared:
        reading.declared[name.family].add(name.owner)
    bare = variable.removesuffix("_FILE")
    from_file = bare != variable
    if from_file:
        if environ.get(bare, "").strip():
            raise Refused(f"{bare} is set too; keep one of the two")
        text = _content(text, visible, read_file)
        if not text.strip():
            reading.warnings.append(f"{variable} names an empty file, which counts as not set")
            return
    elif environ.get(f"{variable}_FILE", "").strip():
        return  # the variant with `_FILE` is refused: both are set
    reading.entries.append(Entry(variable, name, text, visible, from_file))


def _find_written(variable: str) -> Name:
    """As `find`, for a variable as it was written: perhaps with `_FILE`, perhaps in lower case."""
    if variable != variable.upper():
        try:
            _find_written(variable.upper())
        except Refused as error:
            raise Refused("variables are upper case", error.hint) from None
        raise Refused("variables are upper case", variable.upper())
    twin = "_FILE" if variable.endswith("_FILE") else ""
    try:
        return find(variable.removesuffix(twin))
    except Refused as error:
        raise Refused(str(error), error.hint and error.hint + twin) from None


def _content(path: str, visible: str, read_file: ReadFile) -> str:
    try:
        text = read_file(path)
    except OSError as error:
        raise Refused(f"cannot read the file {visible}: {error.strerror or type(error).__name__}") from None
    except UnicodeError:
        raise Refused(f"cannot read the file {visible}: it is not UTF-8 text") from None
    except ValueError:  # open() refuses a NUL
        raise Refused(f"cannot read the file {visible}: this is no path") from None
    if "\0" in text:
        raise Refused(f"cannot read the file {visible}: it holds NULs, as UTF-16 does; write it as UTF-8")
    text = text.removeprefix(_BYTE_ORDER_MARK)
    # One newline, because editors and `echo` end a file in one; more would be part of the value.
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
