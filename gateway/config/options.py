"""The plain options of the gateway itself, and further databases."""

from functools import partial

from gateway import units
from gateway.auth import options as auth_options
from gateway.cache import options as cache_options
from gateway.discovery import options as discovery
from gateway.limits import options as limits
from gateway.observe.added_fields import log_field
from gateway.options import DURATION, ON, POSITIVE, SOME_SIZE, TIMEOUT, Option, Unit, list_of, one_of

RATE = Unit("rate", units.rate, "_bytes_per_s")
CERTIFICATE = Unit("PEM", units.pem_certificate, "_pem", units.mask_all)
KEY = Unit("PEM", units.pem_key, "_pem", units.mask_all)
TOKEN = Unit("secret", units.printable, mask=units.mask_all)
MODULE = Unit("module", units.dotted)
APPS = Unit("list of apps", units.apps)
DATABASE_URL = Unit("database URL", units.database_url, mask=units.mask_url)

# What `MAX_IN_FLIGHT` is with HTTP/2, unless it is set.
MAX_IN_FLIGHT_OF_HTTP2 = 2000

# fmt: off
SETTINGS = Option("gateway", "SETTINGS", MODULE, "", "team.settings",
                  "A module with Django settings of your own: its upper-case names are taken.", "settings_module")
PLAIN: tuple[Option, ...] = (
    # families, name, unit, default, example, sentence
    Option("gateway", "BIND", Unit("host:port", units.bind), "127.0.0.1:8000", "0.0.0.0:8000",
           "The address, or a name that has one, and the port to listen on; the image sets 0.0.0.0:8000."),
    Option("gateway", "WORKERS", Unit("number", partial(units.whole, least=1, most=256)), "1", "4",
           "How many worker processes serve; limits count per worker."),
    Option("gateway", "WORKER_TIMEOUT", Unit("duration", units.seconds_or_more, "_s"), "30s", "2m",
           "A worker that gives no sign of life for so long (its event loop is blocked, it is stopped) is replaced."),
    Option("gateway", "DATABASE_URL", DATABASE_URL, "sqlite:///portway.sqlite3",
           "postgresql://portway:secret@db:5432/portway",
           "Django's database; `sqlite:///x` is relative to the working directory, `sqlite:////x` absolute."),
    Option("gateway", "URLCONF", MODULE, "routes", "team.routes",
           "The Python module whose `urlpatterns` are the routes."),
    Option("gateway", "APPS", APPS, "", "shop,team.audit",
           "Django apps of your own: their models, migrations, commands, checks and signals."),
    SETTINGS,
    Option("gateway", "SECRET", TOKEN, "", "",
           "Django's SECRET_KEY, which signs; without it each start makes one of its own."),
    Option("gateway", "LOG", one_of("json|console"), "json", "console",
           "How the log is written: JSON lines for machines, aligned columns for people."),
    Option("gateway", "LOG_LEVEL", one_of("debug|info|warning|error"), "info", "debug",
           "The least level that is logged."),
    Option("gateway", "LOG_FIELDS", list_of("list of fields", log_field), "", "header:user-agent header:x-tenant",
           "Fields of requests that their log lines carry besides, as `header_user_agent`; credentials as `***`."),
    Option("gateway", "TRUSTED_PROXIES", list_of("list of IP networks", units.network), "", "10.0.0.0/8,fd00::/8",
           "Peers whose X-Forwarded-* are believed; by default nobody's are."),
    Option("gateway", "MAX_HEADERS", SOME_SIZE, "64KiB", "32KiB",
           "The largest header block of a request; above it the answer is 431."),
    Option("gateway", "DISCLOSE", one_of("full|minimal"), "full", "minimal",
           "Whether answers name upstreams, parts and timings."),
    Option("gateway", "DRAIN", DURATION, "8s", "25s",
           "How long requests in flight may take to end after SIGTERM."),
    Option("gateway", "DRAIN_DELAY", DURATION, "0s", "5s",
           "How long new requests are still accepted after SIGTERM, while load balancers notice."),
    Option("gateway", "RELOAD", one_of("off|watch"), "off", "watch",
           "Reload when the env file, the routes module, a secret or a certificate changes; SIGHUP always does."),
    Option("gateway", "RELOAD_DRAIN", DURATION, "", "10m",
           "How long requests and WebSockets of before a reload may go on; unset, as long as DRAIN."),
    Option("gateway", "REUSE_PORT", ON, "off", "on",
           "Start although the port is in use, for rolling restarts."),
    Option("gateway", "ADMIN_TOKEN", TOKEN, "", "",
           "What the status page, metrics and purges over HTTP ask for; unset, they answer this machine only."),
    *auth_options.ADMIN,
    Option("gateway", "CLIENT_IDLE", TIMEOUT, "30s", "1m",
           "How long a client may send nothing in the middle of a body, or read nothing of an answer."),
    Option("gateway", "CLIENT_KEEPALIVE", TIMEOUT, "75s", "11m",
           "How long a client's connection may idle between requests, or amid a head: above a balancer's idle time."),
    Option("gateway", "MIN_UPLOAD_RATE", RATE, "100B/s", "1KiB/s",
           "The least pace of a request's body: one that stays below it over CLIENT_IDLE is 408; `0B` is none."),
    Option("gateway", "MAX_IN_FLIGHT", POSITIVE, "", "2000",
           "Requests at a time, over all routes; more get 503 at once. Counts per worker. Unset, 2000 with HTTP/2."),
    Option("gateway", "MAX_WEBSOCKETS", POSITIVE, "1000", "5000",
           "WebSockets open at a time in a worker; one more gets 503. Each takes about 160 kB."),
    *cache_options.SIZES,
    Option("gateway", "TLS_CERT", CERTIFICATE, "", "",
           "BIND speaks TLS with this certificate, its chain behind it; read anew by a reload."),
    Option("gateway", "TLS_KEY", KEY, "", "", "The key of that certificate, without a passphrase."),
    Option("gateway", "TLS_MIN", one_of("1.2|1.3"), "1.2", "1.3", "The oldest version of TLS."),
    Option("gateway", "TLS_CLIENT_CA", CERTIFICATE, "", "",
           "Every client must show a certificate of one of these; probes then ask TLS_REDIRECT's port."),
    Option("gateway", "TLS_REDIRECT", Unit("host:port", units.bind), "", "0.0.0.0:8080",
           "A plain port beside BIND: it sends all requests to https with 308, and answers /-/live and /-/ready."),
    Option("gateway", "HTTPS", one_of("off|redirect"), "off", "redirect",
           "Send what came to a trusted peer as http to https, with 308; the gateway's own endpoints excepted."),
    Option("gateway", "HSTS", DURATION, "", "365d",
           "Strict-Transport-Security on every answer over https, ours or a trusted peer's; `0s` takes it back."),
    Option("gateway", "HTTP2", ON, "on", "off", "Offer HTTP/2 to clients; only with TLS."),
    *limits.PLAIN,
    *discovery.PLAIN,
    Option("gateway", "STALL", TIMEOUT, "100ms", "50ms", "A blocked event loop is logged from here on."),
)
DATABASE = Option("database", "", DATABASE_URL, "", "postgresql://reports:secret@db:5432/reports",
                  "A further Django database, by its name in lower case.", "url")
# fmt: on
