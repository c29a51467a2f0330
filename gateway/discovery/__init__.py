"""Instances of services: DNS, registries, an iterator of one's own.

options      where the registries are
last_known   the last known list, which is used while a source is away
answers      answers of sources, and their failures
srv_records  SRV records become instances (RFC 2782)
srv          look-ups of these records
consul       queries for Consul, and its answers
eureka       queries for Eureka, and its answers
registry     Consul and Eureka asked over HTTP: the kinds of registries
iterator     lists from Python of a team's own
watching     each source is asked for as long as its worker runs
"""
