"""Where instances are: DNS, registries, an iterator of one's own.

options      where the registries are
last_known   what is believed of what a source says: the last list outlives one that is away
answers      what sources answer, and that they cannot be asked
srv_records  SRV records become instances (RFC 2782)
srv          the records, asked for
consul       what Consul is asked, and its answers
eureka       the same of Eureka
registry     Consul and Eureka asked over HTTP: the kinds of registries
iterator     lists that Python of a team's own gives
watching     each source is asked for as long as its worker runs
"""
