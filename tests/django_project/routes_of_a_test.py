"""Routes that a test serves instead."""

from django.http import HttpRequest
from gateway.routing import from_environment, route


async def here(request: HttpRequest) -> dict[str, bool]:
    return {"here": True}


urlpatterns = [*from_environment(), route("GET /only-here", here)]
