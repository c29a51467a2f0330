"""The environment becomes records; checks; what holds, and why.

options       the plain options of the gateway itself
table         the options of all rooms, added up
env_file      a file of variables, read as docker reads it
environment   names and texts of variables: families, files, the nearest valid name
records       the configuration as frozen records
loader        variables become records, or every problem at once
databases     database URLs as Django's DATABASES
address       the address to listen on
effective     what is in force, and where each value comes from
describe      the routing table as rows of words
checks        what must hold before a worker starts
"""
