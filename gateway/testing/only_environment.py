"""The routes module for a gateway in a test without one: the routes of the environment."""

from gateway.routing.urls import from_environment

urlpatterns = [*from_environment()]
