"""The environment becomes records; checks; what holds, and why.

table            the one table of options; docs/configuration.md comes from it
options          the plain options of the gateway itself
env_file         a file of variables, read as docker reads it
environment      names and texts of variables: families, files, the nearest valid name
records          the configuration as frozen records
loader           variables become records, or every problem at once
assembly         values become records
own_answers      answers of the gateway's own, checked
braces           values in braces, checked against the routes where they hold
sources          sources of instances, and the registries that they need
ways             ways to authenticate, and the rules that name them
databases        database URLs as Django's DATABASES
django_settings  settings and apps of a team's own: GATEWAY_SETTINGS, GATEWAY_APPS
address          the address to listen on
certificate      what is wrong with the gateway's own certificate: dates, names
tls              the files of that certificate: chain and key as they will be served
limits           what is wrong with limits and Valkey
effective        what is in force, and where each value comes from
describe         the routing table as rows of text, for `gateway routes`
hints            what is valid and probably not meant; problems that follow from another one
fingerprint      what a gateway is known by: eight digits of what it serves
checks           what must hold before a worker starts, as checks of Django's
"""
