"""The test kit: a gateway in a test, services that are objects.

`__all__` is what a test imports; what is not in it may change. `gateway.pytest_plugin` has the fixtures and the mark.

reply             answers of a service: keys and values
wire              requests are read, answers written, as bytes
headers           header fields by name
service           a service: its answers, and the calls that it received
service_socket    a WebSocket that a service has accepted
connection        a connection to a service: its requests are answered, or fail
transport         a connection in memory
network           the network of a gateway in a test
clock             a clock that is set forward by hand
setup             the environment, Django and the compiled routes
only_environment  the routes module for tests without one
answer            a response as a client received it
client            the client in the same process
worker            the worker in the same process
gateway           the gateway of a test
live              the same as a process of its own, over sockets
"""

from gateway.errors import Reason
from gateway.sockets.client import SocketClosed
from gateway.testing.answer import Answer, BrokenOff, SocketRefused, Stream
from gateway.testing.gateway import Socket, TestGateway
from gateway.testing.reply import Reply, SocketReply
from gateway.testing.service import Call, Service, UnexpectedCall
from gateway.testing.service_socket import ServiceSocket
from gateway.testing.setup import SetupError

__all__ = ["Answer", "BrokenOff", "Call", "Reason", "Reply", "Service", "ServiceSocket", "SetupError", "Socket"]
__all__ += ["SocketClosed", "SocketRefused", "SocketReply", "Stream", "TestGateway", "UnexpectedCall"]
