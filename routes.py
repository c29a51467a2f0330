"""What is served: the routes of the environment, then your own in Python."""

from gateway.routing import from_environment

urlpatterns = [
    *from_environment(),
]
