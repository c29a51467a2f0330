"""A blocked event loop, decided: whose line it was, how that is shown."""

import pytest

from gateway.observe.stalls import Stack, is_own, longest, shown

LIBRARIES = ("/usr/lib/python3.11", "/srv/portway/gateway")
OWN = ("/srv/team/routes.py", 12, "report")
OUTER = ("/srv/team/app.py", 3, "outer")
SOCKET = ("/usr/lib/python3.11/socket.py", 706, "readinto")
REQUESTS = ("/srv/.venv/lib/python3.11/site-packages/requests/api.py", 59, "get")
HANDLER = ("/srv/portway/gateway/handler.py", 95, "_answer")


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/srv/team/routes.py", True),
        ("routes.py", True),
        ("/srv/portway/routes.py", True),
        ("/srv/portway/gateway/handler.py", False),
        ("/usr/lib/python3.11/socket.py", False),
        ("/opt/venv/lib/python3.12/site-packages/requests/api.py", False),
        ("/usr/lib/python3/dist-packages/requests/api.py", False),
        ("<frozen importlib._bootstrap>", False),
        ("<string>", True),
    ],
)
def test_a_teams_own_code_is_what_is_neither_pythons_nor_installed_nor_ours(path: str, own: bool) -> None:
    assert is_own(path, LIBRARIES) is own


def test_own_frames_come_first_the_innermost_of_them_at_the_front() -> None:
    assert shown((SOCKET, REQUESTS, OWN, OUTER, HANDLER), LIBRARIES) == [
        "/srv/team/routes.py:12 report",
        "/srv/team/app.py:3 outer",
        "/usr/lib/python3.11/socket.py:706 readinto",
        "/srv/.venv/lib/python3.11/site-packages/requests/api.py:59 get",
        "/srv/portway/gateway/handler.py:95 _answer",
    ]


def test_a_deep_stack_is_cut_at_its_outer_ends() -> None:
    deep: Stack = tuple(("/srv/team/x.py", line, "f") for line in range(50)) + (HANDLER,) * 9
    told = shown(deep, LIBRARIES)
    assert len(told) == 12
    assert told[0] == "/srv/team/x.py:0 f"


def test_the_stack_that_was_seen_longest_is_the_one() -> None:
    assert longest([((OWN,), 0.005), ((SOCKET, OUTER), 0.25), ((OWN,), 0.2)]) == (SOCKET, OUTER)
    assert longest([((OWN,), 0.15), ((SOCKET, OUTER), 0.25), ((OWN,), 0.15)]) == (OWN,)
    assert longest([]) == ()
