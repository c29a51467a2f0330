"""The routes module of a gateway in a test that has none: what the environment says."""

from gateway.routing.urls import from_environment

urlpatterns = [*from_environment()]
