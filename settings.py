"""Django's few settings; everything else is `gateway.config.records`'s, read once from the environment."""

import os
from pathlib import Path

from gateway.config.databases import databases
from gateway.config.django_settings import MADE_SECRET, import_settings
from gateway.config.loader import load
from gateway.config.records import Config

GATEWAY: Config = load(os.environ, lambda path: Path(path).read_text(encoding="utf-8"), import_settings)

# Without GATEWAY_SECRET what a view signs is good for as long as the gateway runs, through its reloads.
SECRET_KEY = GATEWAY.settings.secret or MADE_SECRET
DEBUG = False
ALLOWED_HOSTS = ["*"]  # the door checks Host, and routes name the hosts that they serve
ROOT_URLCONF = GATEWAY.settings.urlconf
INSTALLED_APPS = ["gateway", *GATEWAY.settings.apps]
MIDDLEWARE: list[str] = []  # the gateway puts it into the stacks of routes
DATABASES = databases(GATEWAY.settings.database_url, GATEWAY.databases)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = None  # `__MAX_BODY` bounds a body before Django sees it
# Of middleware that a gateway need not have: services set such fields themselves, or RESPONSE_HEADER_X does.
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002", "security.W003"]
USE_I18N = False
USE_TZ = True
LOGGING_CONFIG = None  # gateway.observe.log sets logging up

globals().update(GATEWAY.django)  # the team's, from GATEWAY_SETTINGS: none that stands above as owned by the gateway
# Django's own handler, which the clients of django.test have, hands each request to the gateway's.
MIDDLEWARE = ["gateway.server.in_process.ThroughGateway", *GATEWAY.plain.get("middleware", ())]
