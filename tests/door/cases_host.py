"""Host: there, once, and a host with an optional port (RFC 9112, section 3.2; RFC 9110, section 7.2)."""

from .corpus import EITHER, INVALID, REPAIRED, VALID, Case, Expect, case

_VALUES: tuple[tuple[str, Expect, bytes], ...] = (
    ("a name", VALID, b"a.example"),
    ("upper case", VALID, b"A.EXAMPLE"),
    ("a port", VALID, b"a.example:8080"),
    ("a colon and no port", VALID, b"a.example:"),
    ("an IPv4 address", VALID, b"192.0.2.1"),
    ("an IPv6 address", VALID, b"[2001:db8::1]"),
    ("an IPv6 address with a port", VALID, b"[2001:db8::1]:80"),
    ("white space around it", VALID, b" \t a.example \t "),
    ("a dot at the end", VALID, b"a.example."),
    ("an underscore", VALID, b"a_b.example"),
    ("an encoded character", EITHER, b"a%2Db.example"),
    ("sub-delimiters", EITHER, b"a!$&'()*+;=b"),
    ("a comma", EITHER, b"a.example,b.example"),
    ("empty", EITHER, b""),
    ("only white space", EITHER, b"  \t "),
    ("only a port", EITHER, b":80"),
    ("port 0", EITHER, b"a.example:0"),
    ("port 65536", EITHER, b"a.example:65536"),
    ("a port of twenty digits", EITHER, b"a.example:00000000000000000080"),
    ("an address of the future", EITHER, b"[v7.a:b]"),
    ("very long", EITHER, b"a" * 5000),
    ("two dots", EITHER, b"a..example"),
    ("a comma and a space", INVALID, b"a.example, b.example"),
    ("a space", INVALID, b"a.example b.example"),
    ("a tab", INVALID, b"a.example\tb.example"),
    ("a space before the port", INVALID, b"a.example :80"),
    ("userinfo", INVALID, b"u@a.example"),
    ("userinfo with a password", INVALID, b"u:p@a.example"),
    ("a scheme", INVALID, b"http://a.example"),
    ("a slash", INVALID, b"a.example/"),
    ("a path", INVALID, b"a.example/b"),
    ("a query", INVALID, b"a.example?b"),
    ("a fragment", INVALID, b"a.example#b"),
    ("a backslash", INVALID, b"a.example\\b"),
    ("a double quote", INVALID, b'"a.example"'),
    ("angle brackets", INVALID, b"<a.example>"),
    ("braces", INVALID, b"{a.example}"),
    ("a bar", INVALID, b"a|b"),
    ("a circumflex", INVALID, b"a^b"),
    ("two ports", INVALID, b"a.example:80:81"),
    ("a port with a letter", INVALID, b"a.example:8o"),
    ("a port with a sign", INVALID, b"a.example:+80"),
    ("a negative port", INVALID, b"a.example:-1"),
    ("a broken per cent", INVALID, b"a%zz.example"),
    ("a per cent alone", INVALID, b"a%"),
    ("IPv6 without brackets", INVALID, b"2001:db8::1"),
    ("half an IPv6 address", INVALID, b"[2001:db8::1"),
    ("a bracket too many", INVALID, b"2001:db8::1]"),
    ("IPv6 with a zone", INVALID, b"[fe80::1%25eth0]"),
    ("text behind the bracket", INVALID, b"[::1]a"),
    ("brackets around a name", INVALID, b"[a.example]"),
    ("brackets around nothing", INVALID, b"[]"),
    ("an IPv6 address of nine groups", INVALID, b"[1:2:3:4:5:6:7:8:9]"),
    ("raw UTF-8", INVALID, b"caf\xc3\xa9.example"),
    ("raw latin-1", INVALID, b"caf\xe9.example"),
    ("NUL", INVALID, b"a.example\0b"),
    ("a control character", INVALID, b"a\x01b"),
    ("DEL", INVALID, b"a\x7fb"),
    ("a CR", INVALID, b"a.example\rb"),
)

_LINES: tuple[tuple[str, Expect, bytes], ...] = (
    ("missing", INVALID, b"X-A: b\r\n"),
    ("twice, different", INVALID, b"Host: a.example\r\nHost: b.example\r\n"),
    ("twice, the same", INVALID, b"Host: a.example\r\nHost: a.example\r\n"),
    ("twice, in two spellings", INVALID, b"Host: a.example\r\nhOST: b.example\r\n"),
    ("twice, the first one empty", INVALID, b"Host:\r\nHost: a.example\r\n"),
    ("twice, the second one empty", INVALID, b"Host: a.example\r\nHost:\r\n"),
    (
        "three times, others between",
        INVALID,
        b"Host: a.example\r\nA: b\r\nHost: a.example\r\nC: d\r\nHost: a.example\r\n",
    ),
    ("twice, one with a space before its colon", INVALID, b"Host: a.example\r\nHost : b.example\r\n"),
    ("only one, with a space before its colon", INVALID, b"Host : a.example\r\n"),
    ("folded", EITHER, b"Host:\r\n a.example\r\n"),
    ("folded into two", INVALID, b"Host: a.example\r\n b.example\r\n"),
    ("the second one a folded line", INVALID, b"Host: a.example\r\n Host: b.example\r\n"),
    ("a space before it", INVALID, b" Host: a.example\r\n"),
    ("last of the fields", VALID, b"A: b\r\nC: d\r\nHost: a.example\r\n"),
    ("in odd case", VALID, b"hOsT: a.example\r\n"),
    ("without a space", VALID, b"Host:a.example\r\n"),
    ("an underscore beside it", EITHER, b"Host: a.example\r\nHost_: b.example\r\n"),
    ("X-Forwarded-Host beside it", VALID, b"Host: a.example\r\nX-Forwarded-Host: b.example\r\n"),
    ("NUL behind its name", INVALID, b"Host\0: a.example\r\n"),
    ("a tab behind its name", INVALID, b"Host\t: a.example\r\n"),
    ("named by Connection", EITHER, b"Host: a.example\r\nConnection: Host\r\n"),
)

_IN_1_0: tuple[tuple[str, Expect, bytes], ...] = (
    ("none", VALID, b""),
    ("one", VALID, b"Host: a.example\r\n"),
    ("empty", EITHER, b"Host:\r\n"),
    ("two", INVALID, b"Host: a.example\r\nHost: b.example\r\n"),
    ("malformed", INVALID, b"Host: a/b\r\n"),
)


def cases() -> list[Case]:
    made = [
        case(f"Host: {name}", expect, b"GET /h HTTP/1.1\r\nHost: %b\r\n\r\n" % value, "3.2")
        for name, expect, value in _VALUES
    ]
    made += [
        case(f"Host: {name}", expect, b"GET /h HTTP/1.1\r\n%b\r\n" % lines, "3.2") for name, expect, lines in _LINES
    ]
    made += [
        case(f"Host in HTTP/1.0: {name}", expect, b"GET /h HTTP/1.0\r\n%b\r\n" % lines, "3.2")
        for name, expect, lines in _IN_1_0
    ]
    made.append(case("absolute target without Host", REPAIRED, b"GET http://a.example/ HTTP/1.1\r\n\r\n", "3.2"))
    made.append(case("absolute target without Host, 1.0", VALID, b"GET http://a.example/ HTTP/1.0\r\n\r\n", "3.2.2"))
    return made
