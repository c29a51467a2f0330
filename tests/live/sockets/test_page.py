"""A page in Chromium: it comes over HTTP/2, and opens a socket beside it, which only pages of its own host may."""

from pathlib import Path

from tests.live.browser import Browser, needs_browser
from tests.live.harness import Gateway, eventually
from tests.live.proxy.test_tls import authority
from tests.live.server.test_tls import serving, trusting

ROUTES = '''
from django.http import HttpResponse

from gateway.routing import GatewayWebSocket, route

PAGE = """<!doctype html><title>waiting</title><script>
const socket = new WebSocket("wss://" + location.host + "/echo", ["chat"]);
socket.onopen = () => socket.send("hello");
socket.onmessage = (event) => { document.title = socket.protocol + " " + event.data; socket.close(4000, "enough"); };
socket.onclose = (event) => { document.body.dataset.code = event.code; };
socket.onerror = () => { document.title = "error"; };
</script><body>"""


async def page(request):
    return HttpResponse(PAGE)


async def echo(socket: GatewayWebSocket) -> None:
    await socket.accept("chat")
    async for message in socket:
        await socket.send(message)


urlpatterns = [route("GET /page", page), route("/echo", echo, websocket=True)]
'''


@needs_browser
def test_a_page_over_http2_opens_a_socket(tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = serving(tmp_path, authority(tmp_path, "ours"))
    with (
        Gateway(environment, cwd=tmp_path, tls=trusting(tmp_path)) as gateway,
        Browser(tmp_path, "--ignore-certificate-errors") as browser,
    ):
        browser.open(f"https://localhost:{gateway.port}/page")
        assert browser.run("return performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        assert eventually(lambda: browser.run("return document.title") not in {"waiting", ""})
        assert browser.run("return document.title") == "chat hello"
        assert eventually(lambda: browser.run("return document.body.dataset.code")) == "4000"
        line = gateway.wait_for_log(lambda line: line.get("close_code") == 4000)
        assert (line["closed_by"], line["messages_in"], line["messages_out"]) == ("client", 1, 1)
