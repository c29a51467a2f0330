"""What an old service of the story speaks: XML in, XML out, one operation, as SOAP 1.1 has it."""

import re

from aiohttp import web

ENVELOPE = (
    '<?xml version="1.0"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">'
    "<soap:Body>{}</soap:Body></soap:Envelope>"
)
ON_STOCK = {501: 12, 502: 0, 503: 3, 504: 41}


async def stock(request: web.Request) -> web.Response:
    """GetStock: how many of a product there are; a Fault with status 500 for one that is not known."""
    found = re.search(r"<product>(\d+)</product>", await request.text())
    product = int(found[1]) if found else 0
    known = product in ON_STOCK
    result = f"<count>{ON_STOCK.get(product)}</count>" if known else "<faultstring>no such product</faultstring>"
    body = f"<GetStockResponse>{result}</GetStockResponse>" if known else f"<soap:Fault>{result}</soap:Fault>"
    return web.Response(text=ENVELOPE.format(body), content_type="text/xml", status=200 if known else 500)
