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

# The default of `MAX_IN_FLIGHT` with HTTP/2.
MAX_IN_FLIGHT_OF_HTTP2 = 2000

# fmt: off
SETTINGS = Option("gateway", "SETTINGS", MODULE, "", "team.settings",
                  "A module with Django settings of your own: its upper-case names are taken.", "settings_module")
PLAIN: tuple[Option, ...] = (
    # families, name, unit, default, example, sentence
    Option("gateway", "BIND", Unit("host:port", units.bind), "127.0.0.1:8000", "0.0.0.0:8000",
           "The address or host name, and the port to listen on; the image sets 0.0.0.0:8000."),
    Option("gateway", "WORKERS", Unit("number", partial(units.whole, least=1, most=256)), "1", "4",
           "How many worker processes serve requests; MAX_IN_FLIGHT counts per worker."),
    Option("gateway", "WORKER_TIMEOUT", Unit("duration", units.seconds_or_more, "_s"), "30s", "2m",
           "A worker that does not report for this long (blocked event loop, stopped process) is killed and replaced."),
    Option("gateway", "DATABASE_URL", DATABASE_URL, "sqlite:///portway.sqlite3",
           "postgresql://portway:secret@db:5432/portway",
           "Django's database; `sqlite:///x` is relative to the working directory, `sqlite:////x` absolute."),
    Option("gateway", "URLCONF", MODULE, "routes", "team.routes",
           "The Python module whose `urlpatterns` are the routes."),
    Option("gateway", "APPS", APPS, "", "shop,team.audit",
           "Django apps of your own: their models, migrations, commands, checks and signals."),
    SETTINGS,
    Option("gateway", "SECRET", TOKEN, "", "",
           "Django's SECRET_KEY, for signatures; if unset, each start makes a new one."),
    Option("gateway", "LOG", one_of("json|console"), "json", "console",
           "How the log is written: JSON lines for machines, aligned columns for people."),
    Option("gateway", "LOG_LEVEL", one_of("debug|info|warning|error"), "info", "debug",
           "The lowest level that is logged."),
    Option("gateway", "LOG_FIELDS", list_of("list of fields", log_field), "", "header:user-agent header:x-tenant",
           "Request fields to add to each request's log line, as `header_user_agent`; credentials are shown as `***`."),
    Option("gateway", "TRUSTED_PROXIES", list_of("list of IP networks", units.network), "", "10.0.0.0/8,fd00::/8",
           "Peers whose X-Forwarded-* fields are trusted; by default none are."),
    Option("gateway", "MAX_HEADERS", SOME_SIZE, "64KiB", "32KiB",
           "The largest header block of a request; a larger one gets 431."),
    Option("gateway", "DISCLOSE", one_of("full|minimal"), "full", "minimal",
           "Whether the gateway's responses name upstreams, parts and timings."),
    Option("gateway", "DRAIN", DURATION, "8s", "25s",
           "How long requests in flight may take to finish after SIGTERM."),
    Option("gateway", "DRAIN_DELAY", DURATION, "0s", "5s",
           "How long new requests are still accepted after SIGTERM, while load balancers notice."),
    Option("gateway", "RELOAD", one_of("off|watch"), "off", "watch",
           "`watch` reloads when the env file, the routes module, a secret or a certificate changes; SIGHUP "
           "always reloads."),
    Option("gateway", "RELOAD_DRAIN", DURATION, "", "10m",
           "How long requests and WebSockets from before a reload may go on; if unset, as long as DRAIN."),
    Option("gateway", "REUSE_PORT", ON, "off", "on",
           "Start although the port is in use, for rolling restarts."),
    Option("gateway", "ADMIN_TOKEN", TOKEN, "", "",
           "The token for the status page, metrics and purges over HTTP; if unset, only this machine gets them."),
    *auth_options.ADMIN,
    Option("gateway", "CLIENT_IDLE", TIMEOUT, "30s", "1m",
           "How long a client may send nothing in the middle of a body, or read nothing of a response."),
    Option("gateway", "CLIENT_KEEPALIVE", TIMEOUT, "75s", "11m",
           "How long a connection may be idle between requests, or within a head; set it above your balancer's "
           "idle time."),
    Option("gateway", "MIN_UPLOAD_RATE", RATE, "100B/s", "1KiB/s",
           "The lowest rate of a request body; a body that stays below it for CLIENT_IDLE gets 408; `0B` is no limit."),
    Option("gateway", "MAX_IN_FLIGHT", POSITIVE, "", "2000",
           "Requests at a time per worker, over all routes; more get 503 at once. If unset: no limit, with "
           "HTTP/2 2000."),
    Option("gateway", "MAX_WEBSOCKETS", POSITIVE, "1000", "5000",
           "WebSockets open at a time per worker; one more gets 503. Each takes about 170 kB."),
    *cache_options.SIZES,
    Option("gateway", "TLS_CERT", CERTIFICATE, "", "",
           "The certificate, followed by its chain, with which BIND speaks TLS; a reload reads it again."),
    Option("gateway", "TLS_KEY", KEY, "", "", "The private key of that certificate, without a passphrase."),
    Option("gateway", "TLS_MIN", one_of("1.2|1.3"), "1.2", "1.3", "The oldest version of TLS."),
    Option("gateway", "TLS_CLIENT_CA", CERTIFICATE, "", "",
           "CAs of client certificates: every client must show one. Probes then use the port of TLS_REDIRECT."),
    Option("gateway", "TLS_REDIRECT", Unit("host:port", units.bind), "", "0.0.0.0:8080",
           "A plain-HTTP port beside BIND: it redirects to https with 308, and serves /-/live and /-/ready."),
    Option("gateway", "HTTPS", one_of("off|redirect"), "off", "redirect",
           "Redirects requests that reached a trusted peer by http to https, with 308; except for /-/ endpoints."),
    Option("gateway", "HSTS", DURATION, "", "365d",
           "Sets Strict-Transport-Security on responses over https, here or at a trusted peer; `0s` revokes it."),
    Option("gateway", "HTTP2", ON, "on", "off", "Offer HTTP/2 to clients; only with TLS."),
    *limits.PLAIN,
    *discovery.PLAIN,
    Option("gateway", "STALL", TIMEOUT, "100ms", "50ms", "How long the event loop may be blocked before it is logged."),
)
DATABASE = Option("database", "", DATABASE_URL, "", "postgresql://reports:secret@db:5432/reports",
                  "A further Django database, by its name in lower case.", "url")
# fmt: on
