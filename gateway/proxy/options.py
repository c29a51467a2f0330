"""The options of mirroring."""

from gateway import units
from gateway.options import LEVELS, ON, Option, Unit

UPSTREAM_NAME = Unit("upstream", units.name)
SHARE = Unit("percentage", units.percentage)

# fmt: off
# families, name, unit, default, example, sentence
MIRROR = Option("upstream route", "MIRROR", UPSTREAM_NAME, "", "orders_v2",
                "An upstream that gets a copy of each request once the client's response begins; its response is "
                "dropped.")
OF_ROUTE: tuple[Option, ...] = (
    MIRROR,
    Option(LEVELS, "MIRROR_SHARE", SHARE, "100%", "5%", "The share of requests that are copied to it."),
    Option("upstream route", "MIRROR_UNSAFE", ON, "off", "on",
           "Copy POST, PUT and other unsafe methods too, with bodies of up to 64 KiB: the copy acts as well."),
)
# fmt: on
