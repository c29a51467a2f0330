"""The options of `proxy()` by name and type, so that editors complete them; the table of options explains them."""

from typing import Literal, TypedDict


class ProxyKeywords(TypedDict, total=False):
    """The options of a call as in `GATEWAY_ROUTE_<NAME>__...`, in lower case. A lone `-` as a header's value deletes
    it.

    `header_<name>` and `response_header_<name>` are open names, which no TypedDict has: `proxy()` takes them too.
    """

    timeout: str  # until the head of the answer: "5s"
    connect_timeout: str  # "500ms"
    idle_timeout: str  # between two reads or writes of a body: "1m"
    total_timeout: str  # for the whole exchange: "10m"
    max_body: str  # of the request: "1MiB"; "0B" is no limit
    host: Literal["upstream", "preserve"]  # which Host goes up
    redirects: Literal["rewrite", "raw"]  # of Location fields that point at the upstream
    forward_headers: str  # which of the client's fields go up: "authorization content-* accept*"; "-" is none
    forward_query: str  # which parameters of its query go up: "page limit"
    query: str  # parameters that are set: "apiKey={user} page-size=10"
    websocket: Literal["on", "off"]  # whether handshakes pass
    websocket_origins: str  # origins of pages that may open one: "https://app.example.com"
    websocket_max_message: str  # in either direction: "16MiB"
    websocket_idle: str  # without a message: "1h"; "0s" is no limit
