"""The place of request and response in version 0.1; they are in `gateway.routing` now."""

import warnings

from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse

__all__ = ["GatewayRequest", "GatewayResponse"]

warnings.warn(
    "gateway.messages is gone with the next version: from gateway.routing import GatewayRequest, GatewayResponse",
    DeprecationWarning,
    stacklevel=2,
)
