"""The environment becomes records; checks; the options in force, and their sources.

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
certificate      problems of the gateway's own certificate: dates, names
tls              the files of that certificate: chain and key as they will be served
limits           problems of limits and Valkey
effective        the values in force, and where each comes from
describe         the routing table as rows of text, for `gateway routes`
hints            valid values that are probably mistakes; problems that follow from another one
fingerprint      the identity of a gateway: eight digits derived from what it serves
checks           what must be true before a worker starts, as Django checks
"""
