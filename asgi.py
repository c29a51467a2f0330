"""The door: sets Django up, and `application` is what Granian serves."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

import django
from django.conf import settings

from gateway.observe.log import configure, request_logger
from gateway.routing.loader import load_routes
from gateway.server.asgi import GatewayHandler

django.setup(set_prefix=False)

configure(settings.GATEWAY.settings.log, settings.GATEWAY.settings.log_level)
application = GatewayHandler(settings.GATEWAY, load_routes(settings.GATEWAY.declared), hooks=[request_logger()])
