"""Configurations of other gateways become an environment.

source        a file as values that know their place, and which of them were read; JSON
yaml_source   YAML as the same
values        durations, sizes, URLs and paths as others write them
expressions   paths that are regular expressions, where a route can say the same
draft         the environment on its way, and what cannot be expressed
krakend       KrakenD
kong          Kong
ocelot        Ocelot
spring        Spring Cloud Gateway
traefik       Traefik's labels in a compose file
nginx_syntax  nginx's directives and blocks
nginx_words   nginx's directives by what they mean here, and which of them keep requests out
nginx_server  its server blocks
nginx         nginx
kinds         which gateway a file is of, and the whole import
"""
