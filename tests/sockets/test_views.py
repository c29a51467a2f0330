"""What is given for all routes holds for the sockets of a team's own views too."""

from gateway.options import NO_LEVEL, Level
from gateway.sockets.upgrade import DEFAULT_OPTIONS, GatewayWebSocket, SocketOptions, SocketView


async def view(socket: GatewayWebSocket) -> None:
    await socket.accept()


def test_without_a_word_the_defaults_hold() -> None:
    made = SocketView(view)
    made.inherit(NO_LEVEL)
    assert (made.options, made.is_off) == (DEFAULT_OPTIONS, False)


def test_plain_options_hold() -> None:
    made = SocketView(view)
    values = {"websocket": False, "websocket_max_message_bytes": 5, "websocket_idle_s": 1.0}
    made.inherit(Level({**values, "websocket_origins": ("https://a.example",), "total_timeout_s": 9.0}))
    assert (made.options, made.is_off) == (SocketOptions(5, 1.0, ("https://a.example",), 9.0), True)
