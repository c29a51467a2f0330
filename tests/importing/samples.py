"""Configurations of other gateways, in the forms that their own documentation shows."""

KRAKEND = """\
{
  "$schema": "https://www.krakend.io/schema/v2.7/krakend.json",
  "version": 3, "name": "shop", "port": 8080, "timeout": "3s", "cache_ttl": "300s",
  "extra_config": {"security/cors": {"allow_origins": ["https://app.example.com"], "allow_methods": ["GET"]}},
  "endpoints": [
    {"endpoint": "/users/{userId}", "output_encoding": "no-op", "input_headers": ["*"], "input_query_strings": ["*"],
     "backend": [{"host": ["http://users:8000"], "url_pattern": "/v1/users/{userId}", "encoding": "no-op"}]},
    {"endpoint": "/home/{id}", "timeout": "800ms",
     "backend": [
       {"host": ["users:8000"], "url_pattern": "/users/{id}", "group": "user", "allow": ["id", "name"]},
       {"host": ["http://orders-1:8000", "http://orders-2:8000"], "url_pattern": "/orders?user={resp0_id}",
        "group": "orders"}
     ],
     "extra_config": {"proxy": {"sequential": true}, "auth/validator": {
       "alg": "RS256", "jwk_url": "https://id.example.com/jwks", "propagate_claims": [["sub", "x-user"]],
       "issuer": "https://id.example.com/", "audience": ["shop"], "roles_key": "roles", "roles": ["admin", "user"]}}},
    {"endpoint": "/files/*", "output_encoding": "no-op", "input_headers": ["*"], "input_query_strings": ["*"],
     "backend": [{"host": ["http://files"], "url_pattern": "/*"}], "flux": 7},
    {"endpoint": "/both", "backend": [{"host": ["http://a"], "url_pattern": "/x"},
                                      {"host": ["http://b"], "url_pattern": "/y", "deny": ["z"]}]},
    {"endpoint": "/odd/{id}.json", "backend": [{"host": ["http://a"], "url_pattern": "/x"}]}
  ]
}
"""

KONG = r"""
_format_version: "3.0"
services:
  - name: users
    url: http://users.internal:8000/v1
    connect_timeout: 1500
    read_timeout: 10000
    retries: 2
    routes:
      - name: users
        paths: [/users, /people]
        methods: [GET, POST]
        plugins:
          - name: key-auth
      - name: raw
        paths: ["~/u/\\d+$"]
    plugins:
      - name: cors
        config: {origins: ["https://app.example.com"], credentials: true}
  - name: orders
    host: orders-pool
    port: 80
    protocol: http
    routes:
      - name: orders
        hosts: [api.example.com]
        paths: [/orders]
        strip_path: false
        preserve_host: true
upstreams:
  - name: orders-pool
    targets:
      - target: 10.0.0.1:8000
      - target: 10.0.0.2:8000
    healthchecks: {active: {http_path: /health, healthy: {interval: 5}}}
plugins:
  - name: prometheus
  - name: request-size-limiting
    config: {allowed_payload_size: 8}
mystery: 1
"""

OCELOT = """\
{
  // .NET's configuration may hold comments
  "Routes": [
    {"DownstreamPathTemplate": "/api/users/{id}", "DownstreamScheme": "http", "Key": "user",
     "DownstreamHostAndPorts": [{"Host": "users", "Port": 8080}],
     "UpstreamPathTemplate": "/users/{id}", "UpstreamHttpMethod": ["Get"], "FileCacheOptions": {"TtlSeconds": 15}},
    {"DownstreamPathTemplate": "/{everything}", "DownstreamScheme": "https",
     "DownstreamHostAndPorts": [{"Host": "a.example.com", "Port": 443}, {"Host": "b.example.com", "Port": 443}],
     "UpstreamPathTemplate": "/legacy/{everything}", "LoadBalancerOptions": {"Type": "RoundRobin"},
     "AuthenticationOptions": {"AuthenticationProviderKey": "B"}, "QoSOptions": {"TimeoutValue": 5000}},
    {"DownstreamPathTemplate": "/orders", "DownstreamHostAndPorts": [{"Host": "orders", "Port": 80}],
     "UpstreamPathTemplate": "/orders/of/{id}", "Key": "Orders"},
  ],
  "Aggregates": [{"RouteKeys": ["user", "Orders"], "UpstreamPathTemplate": "/home/{id}"}],
  "GlobalConfiguration": {"BaseUrl": "https://api.example.com"}
}
"""

SPRING = r"""
server: {port: 8085}
spring:
  application: {name: gateway}
  cloud:
    gateway:
      httpclient: {connect-timeout: 1000, response-timeout: 5s}
      globalcors:
        cors-configurations:
          '[/**]': {allowedOrigins: "https://docs.spring.io", allowedMethods: [GET]}
      default-filters:
        - AddResponseHeader=X-Response-Default-Red, Default-Blue
      routes:
        - id: strip
          uri: http://nameservice:8000
          predicates: [Path=/name/**]
          filters: [StripPrefix=1]
        - id: rewrite
          uri: lb://red
          predicates:
            - Path=/red/**
            - Method=GET,POST
          filters:
            - RewritePath=/red/?(?<segment>.*), /$\{segment}
            - AddRequestHeader=X-Request-red, blue
        - id: expanded
          uri: https://example.org
          predicates:
            - name: Path
              args: {patterns: "/foo/{segment}"}
          filters:
            - name: Retry
              args: {retries: 3}
            - "SetPath=/{segment}"
          metadata: {response-timeout: 200}
        - id: after
          uri: https://example.org
          predicates:
            - After=2017-01-20T17:42:47.789-07:00[America/Denver]
"""

TRAEFIK = """
services:
  traefik:
    image: traefik:v3
  whoami:
    image: traefik/whoami
    labels:
      - "traefik.enable=true"
      - "traefik.http.routers.whoami.rule=Host(`who.test`) && (PathPrefix(`/a`) || PathPrefix(`/b`)) && Method(`GET`)"
      - "traefik.http.routers.whoami.entrypoints=web"
      - "traefik.http.routers.whoami.middlewares=strip,auth"
      - "traefik.http.middlewares.strip.stripprefix.prefixes=/a,/b"
      - "traefik.http.middlewares.auth.basicauth.users=test:$$apr1$$secret"
      - "traefik.http.services.whoami.loadbalancer.server.port=80"
      - "traefik.http.services.whoami.loadbalancer.healthcheck.path=/health"
  api:
    image: api
    expose: ["8080"]
    labels:
      traefik.http.routers.api.rule: "Host(`api.localhost`)"
      traefik.http.routers.re.rule: "HostRegexp(`.+`)"
      traefik.http.middlewares.h.headers.customrequestheaders.X-Tenant: acme
      traefik.http.routers.api.middlewares: h@docker
      traefik.http.services.api.loadbalancer.sticky.cookie: "true"
"""

NGINX = r"""
user nginx;
events { worker_connections 1024; }
http {
  upstream users { least_conn; server users-1:8000; server users-2:8000; keepalive 16; }
  upstream api { ip_hash; server 10.0.0.1:80; server 10.0.0.2:80 backup; }
  server { listen 80; server_name example.com; return 301 https://$host$request_uri; }
  server {
    listen 443 ssl;
    server_name example.com;
    ssl_certificate /etc/ssl/a.pem;
    ssl_certificate_key /etc/ssl/a.key;
    client_max_body_size 20m;
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    location / { root /var/www; try_files $uri /index.html; }
    location /users/ { proxy_pass http://users; proxy_read_timeout 5s; proxy_next_upstream_tries 3; }
    location /api/ {
      proxy_pass http://api/v1/;
      proxy_set_header Authorization "Basic c2VjcmV0";
      proxy_hide_header X-Powered-By;
      add_header X-Frame-Options DENY always;
      flux_capacitor on;
    }
    location = /exact { proxy_pass http://api/one; }
    location ~ ^/img/(.*)$ { proxy_pass http://api; }
    location /admin { allow 10.0.0.0/8; deny all; proxy_pass http://admin:9000; }
  }
}
"""

FILES = {
    "krakend": ("krakend.json", KRAKEND),
    "kong": ("kong.yml", KONG),
    "ocelot": ("ocelot.json", OCELOT),
    "spring": ("application.yml", SPRING),
    "traefik": ("docker-compose.yml", TRAEFIK),
    "nginx": ("nginx.conf", NGINX),
}
