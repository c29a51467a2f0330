"""Code as it lies about in many a company: it blocks, and nobody will rewrite it. The demo gateway calls it in threads.

A report by Django's ORM on a database of its own, and a SOAP call by urllib. Neither knows of the gateway; each is a
route by two variables (see `ROUTES` in demo/stage.py).
"""

import os
import re
import threading
import urllib.error
import urllib.request
from typing import Any

from django.db import connections, models
from django.http import Http404

from demo.soap import ENVELOPE

SALES = [("2025-11", 4900), ("2025-12", 38900), ("2026-01", 650), ("2026-01", 12900), ("2026-03", 38900)]
filling = threading.Lock()


class Sale(models.Model):
    month: "models.TextField[str, str]" = models.TextField()
    cents: "models.IntegerField[int, int]" = models.IntegerField()

    class Meta:
        app_label = "demo"
        managed = False


def report(year: int) -> dict[str, Any]:
    """The sales of a year, from GATEWAY_DATABASE_REPORTS, which is filled when it is met empty."""
    with filling:
        if not connections["reports"].introspection.table_names():
            with connections["reports"].schema_editor() as editor:
                editor.create_model(Sale)
            Sale.objects.using("reports").bulk_create([Sale(month=month, cents=cents) for month, cents in SALES])
    sales = Sale.objects.using("reports").filter(month__startswith=f"{year}-")
    months = sales.values("month").annotate(sales=models.Count("id"), cents=models.Sum("cents")).order_by("month")
    return {"year": year, "months": months}


def stock(product: int) -> dict[str, int]:
    """How many of a product there are, says a SOAP service."""
    asked = ENVELOPE.format(f"<GetStock><product>{product}</product></GetStock>").encode()
    url = os.environ["GATEWAY_UPSTREAM_ORDERS"] + "/soap/stock"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, asked, {"Content-Type": "text/xml"})) as answer:
            said = answer.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        raise Http404 from error
    found = re.search(r"<count>(\d+)</count>", said)
    if found is None:
        raise ValueError(f"no count in {said}")
    return {"product": product, "on_stock": int(found[1])}
