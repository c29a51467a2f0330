"""Configurations of other gateways become an environment.

source        a file as values with their places, and with marks for those that were read; JSON
yaml_source   YAML as the same
values        durations, sizes, URLs and paths in the notation of other gateways
expressions   paths that are regular expressions, where a route can express them
draft         the environment under construction, and what cannot be expressed
krakend       KrakenD
kong          Kong
ocelot        Ocelot
spring        Spring Cloud Gateway
traefik       Traefik's labels in a compose file
nginx_syntax  nginx's directives and blocks
nginx_words   nginx's directives by their meaning here, and those that keep requests out
nginx_server  its server blocks
nginx         nginx
kinds         the gateway that a file is for, and the whole import
"""
