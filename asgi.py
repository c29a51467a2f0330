"""The door: sets Django up, and `application` is what Granian serves."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

import django
from django.conf import settings

from gateway.handler import GatewayHandler
from gateway.routing import load_routes
from gateway.telemetry import configure, request_logger

django.setup(set_prefix=False)

configure(settings.GATEWAY.settings.log, settings.GATEWAY.settings.log_level)
application = GatewayHandler(settings.GATEWAY, load_routes(settings.GATEWAY), hooks=[request_logger()])
