"""A middleware as Django's own are: it works both ways."""

from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin


passed = 0


class Tenant(MiddlewareMixin):
    """Says who the request is for, and that it was here."""

    def process_request(self, request: HttpRequest) -> None:
        global passed  # noqa: PLW0603 - a test counts
        passed += 1
        request.tenant = request.headers.get("X-Tenant", "nobody")  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response["X-Was-Here"] = request.tenant  # type: ignore[attr-defined]
        return response
