"""The files of a project of one's own, as `gateway init` writes them: by name, their text."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_ROUTES: Final = '''\
"""What this gateway serves: the routes of gateway.env, then those in Python."""

from typing import Annotated

from msgspec import Struct

from gateway.routing import fanout, from_environment, part, route


class User(Struct):
    id: int
    name: str


class Order(Struct):
    id: int
    total: float


class Home(Struct):
    user: User
    orders: list[Order]
    spent: float


@fanout
async def home(
    user: Annotated[User, part("users:/users/{id}")],
    orders: Annotated[list[Order], part("orders:/orders?user={id}", timeout="300ms", default=[])],
) -> Home:
    """Two services, one answer. Without orders there is one too, which says that it is not complete."""
    return Home(user, orders, spent=sum(order.total for order in orders))


urlpatterns = [
    *from_environment(),
    route("GET /home/{id}", home),
]
'''
_ENV: Final = """\
# What the environment does not set. No quotes: they would be part of the value.
GATEWAY_UPSTREAM_USERS=http://127.0.0.1:9001
GATEWAY_UPSTREAM_ORDERS=http://127.0.0.1:9002
GATEWAY_ROUTE_USERS=/users/** -> users
"""
_TEST: Final = '''\
"""The routes, without a network: a service answers what a test says."""

from gateway.testing import Reply


async def test_home_is_one_answer_of_two_services(gateway):
    gateway.users["/users/3"] = {"id": 3, "name": "Ada"}
    gateway.orders["/orders?user=3"] = Reply(json=[{"id": 1, "total": 2.5}, {"id": 2, "total": 4}])
    answer = await gateway.get("/home/3")
    assert answer.status == 200
    assert answer.json()["spent"] == 6.5


async def test_home_does_without_orders(gateway):
    gateway.users["/users/3"] = {"id": 3, "name": "Ada"}
    gateway.orders["*"] = Reply(503)
    answer = await gateway.get("/home/3")
    assert answer.json() == {"user": {"id": 3, "name": "Ada"}, "orders": [], "spent": 0}
    assert answer.headers["gateway-complete"] == "?0"
'''
_CONTAINERFILE: Final = """\
# The gateway with your routes and packages: `podman build --format docker -t gateway .`, or docker build.
FROM portway:{version}
USER root
COPY requirements.txt /srv/
# The gateway's Python has no pip of its own; that of the base image installs for it.
RUN "$(readlink -f /opt/venv/bin/python3)" -m pip --python /opt/venv/bin/python3 install --quiet --no-cache-dir \\
      --root-user-action ignore --requirement /srv/requirements.txt
USER 10001:10001
COPY *.py gateway.env /srv/
CMD ["serve", "--env-file", "gateway.env"]
"""
_COMPOSE: Final = """\
# `docker compose up --build`; put your services in the place of the two addresses.
services:
  gateway:
    build: {context: ., dockerfile: Containerfile}
    ports: ["127.0.0.1:8000:8000"]
    environment:
      GATEWAY_LOG: console
      GATEWAY_RELOAD: watch              # a saved gateway.env or routes.py holds a second later
      GATEWAY_UPSTREAM_USERS: http://users:8000
      GATEWAY_UPSTREAM_ORDERS: http://orders:8000
    volumes: [".:/srv:ro"]               # the folder, not its files: editors replace those
    read_only: true
    cap_drop: [ALL]
"""
_README: Final = """\
# Our gateway

    gateway dev                            # serve while you write: starts again at each save
    gateway check --env-file gateway.env   # what is wrong
    pytest                                 # try the routes, without a network
    gateway serve --env-file gateway.env   # then: curl http://127.0.0.1:8000/home/3
    docker compose up --build              # the same in a container

`gateway.env` has the services and plain routes, `routes.py` what Python says better, `requirements.txt` what that
imports.
"""
_REQUIREMENTS: Final = "# Packages that routes.py imports, each with its version: httpx==0.28.1\n"


def files_of(version: str) -> Mapping[str, str]:
    """The files for this version of the gateway."""
    return MappingProxyType(
        {
            "routes.py": _ROUTES,
            "gateway.env": _ENV,
            "test_routes.py": _TEST,
            "requirements.txt": _REQUIREMENTS,
            "Containerfile": _CONTAINERFILE.replace("{version}", version),
            "compose.yaml": _COMPOSE,
            "README.md": _README,
        }
    )
