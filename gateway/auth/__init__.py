"""Authentication: tokens, keys, passwords, another service; rules, the gate.

options      the options: ways and their sources, and the requirements of routes
records      ways as the configuration has them; the algorithms by name
rules        `a b`, `a+b`, `a?`: the grammar, and how outcomes combine
loading      values of options become ways, or problems in words
credentials  where a credential stands in a request, and what is ambiguous
tokens       a token read strictly, and checked against a way (RFC 7519, RFC 8725)
keyset       a JWKS: the public keys that may have signed a token (RFC 7517)
signatures   signatures of tokens and hashes of passwords, checked by PyJWT and bcrypt
keys         lines of API keys, and the key that is presented
basic        lines of an htpasswd, and the name and password of HTTP Basic
identity     the fields that go up with the client's identity
verdicts     recent successes, by the token or a digest of the credential
jwks         the keys of an issuer while the gateway runs
ask          authentication by another service
ways         the ways of one worker while it runs
gate         the gate of a route
"""
