"""Methods, targets, versions, and what stands between and before them (RFC 9112, sections 2 and 3)."""

from .corpus import EITHER, INVALID, REPAIRED, VALID, Case, Expect, case

HOST = b"Host: a.example\r\n"
END = HOST + b"\r\n"

# Rows of name, expectation, method.
_METHODS: tuple[tuple[str, Expect, bytes], ...] = (
    ("GET", VALID, b"GET"),
    ("HEAD", VALID, b"HEAD"),
    ("DELETE without a body", VALID, b"DELETE"),
    ("OPTIONS of a path", VALID, b"OPTIONS"),
    ("PROPFIND", VALID, b"PROPFIND"),
    ("M-SEARCH has a dash", EITHER, b"M-SEARCH"),
    ("TRACE", EITHER, b"TRACE"),
    ("unknown", EITHER, b"FROBNICATE"),
    ("lower case is another method", EITHER, b"get"),
    ("every character of a token", EITHER, b"!#$%&'*+-.^_`|~09AZaz"),
    ("very long", EITHER, b"M" * 5000),
    ("empty", INVALID, b""),
    ("parentheses", INVALID, b"GE(T)"),
    ("colon", INVALID, b"GET:"),
    ("slash", INVALID, b"G/T"),
    ("quoted", INVALID, b'"GET"'),
    ("comma", INVALID, b"GET,POST"),
    ("brackets", INVALID, b"[GET]"),
    ("NUL", INVALID, b"GE\0T"),
    ("control character", INVALID, b"GE\x01T"),
    ("DEL", INVALID, b"GET\x7f"),
    ("8-bit", INVALID, b"G\xc9T"),
    ("BOM before it", INVALID, b"\xef\xbb\xbfGET"),
)

# Rows of name, expectation, target, what it is repaired to if our documents say so.
_TARGETS: tuple[tuple[str, Expect, bytes, bytes | None], ...] = (
    ("root", VALID, b"/", None),
    ("every character of a path", VALID, b"/Az09-._~!$&'()*+,;=:@%41", None),
    ("every character of a query", VALID, b"/a?b=/c?d&e:@!$'()*+,;", None),
    ("two slashes first", VALID, b"//a.example/b", None),
    ("empty segments", VALID, b"/a//b/", None),
    ("an encoded slash", VALID, b"/a%2Fb%2fc", None),
    ("an encoded line break", EITHER, b"/a%0d%0aX:%20b", None),
    ("an encoded NUL", EITHER, b"/a%00b", None),
    ("dot segments", EITHER, b"/a/../b/./c", None),
    ("encoded dot segments", EITHER, b"/a/%2e%2E/b", None),
    ("an encoded per cent", VALID, b"/a%252e%252e/b", None),
    ("encoded UTF-8", VALID, b"/caf%C3%A9", None),
    ("encoded latin-1", EITHER, b"/caf%E9", None),
    ("a per cent alone", EITHER, b"/100%", None),
    ("a per cent with no hexadecimal", EITHER, b"/%zz", None),
    ("a cut per cent", EITHER, b"/a%4", None),
    ("an empty query", EITHER, b"/a?", b"/a"),
    ("a semicolon", VALID, b"/a;b=c/d;e", None),
    ("a backslash", EITHER, b"/a\\..\\b", None),
    ("braces", EITHER, b"/{a}|b", None),
    ("brackets in a query", EITHER, b"/a?b[]=c", None),
    ("a circumflex", EITHER, b"/a^b", None),
    ("a double quote", EITHER, b'/a"b', None),
    ("angle brackets", EITHER, b"/<a>", None),
    ("a grave accent", EITHER, b"/a`b", None),
    ("a colon in the first segment", VALID, b"/a:b", None),
    ("an URL within a path", VALID, b"/http://b.example/c", None),
    ("very long", EITHER, b"/" + b"a" * 8000, None),
    ("longer than any limit", EITHER, b"/" + b"a" * 80_000, None),
    ("asterisk with GET", INVALID, b"*", None),
    ("empty", INVALID, b"", None),
    ("no slash", INVALID, b"a", None),
    ("no slash, several segments", INVALID, b"a/b", None),
    ("only a query", INVALID, b"?a=b", None),
    ("dots and no slash", INVALID, b"../a", None),
    ("a backslash first", INVALID, b"\\a", None),
    ("authority with GET", INVALID, b"a.example:80", None),
    ("a host alone", INVALID, b"a.example", None),
    ("a fragment", REPAIRED, b"/a#b", b"/a"),
    ("a fragment behind a query", REPAIRED, b"/a?b#c", b"/a?b"),
    ("only a fragment", INVALID, b"#a", None),
    ("raw UTF-8", INVALID, b"/caf\xc3\xa9", None),
    ("raw latin-1", INVALID, b"/caf\xe9", None),
    ("raw UTF-8 in the query", INVALID, b"/a?b=\xc3\xa9", None),
    ("overlong UTF-8 for a slash", INVALID, b"/a\xc0\xafb", None),
    ("NUL", INVALID, b"/a\0b", None),
    ("a control character", INVALID, b"/a\x01b", None),
    ("DEL", INVALID, b"/a\x7fb", None),
    ("a tab", INVALID, b"/a\tb", None),
    ("a form feed", INVALID, b"/a\x0cb", None),
    ("a vertical tab", INVALID, b"/a\x0bb", None),
    ("a CR", INVALID, b"/a\rb", None),
    ("a space", INVALID, b"/a b", None),
    ("a space and a version", INVALID, b"/a HTTP/1.1", None),
)

# The authority of such a target is hidden by Granian: Host alone says whom the request is for.
_ABSOLUTE: tuple[tuple[str, Expect, bytes, bytes], ...] = (
    ("http", VALID, b"http://a.example/b?c", b"a.example"),
    ("with a port", VALID, b"http://a.example:8080/b", b"a.example:8080"),
    ("without a path", VALID, b"http://a.example", b"a.example"),
    ("with a query and no path", VALID, b"http://a.example?b", b"a.example"),
    ("upper case", EITHER, b"HTTP://A.EXAMPLE/b", b"a.example"),
    ("https over a plain connection", EITHER, b"https://a.example/b", b"a.example"),
    ("an unknown scheme", EITHER, b"ftp://a.example/b", b"a.example"),
    ("an IPv6 address", VALID, b"http://[::1]:80/b", b"[::1]:80"),
    ("another host than Host", REPAIRED, b"http://b.example/c", b"a.example"),
    ("another port than Host", REPAIRED, b"http://a.example:81/c", b"a.example:82"),
    ("userinfo", EITHER, b"http://u:p@a.example/b", b"a.example"),
    ("userinfo that looks like a host", REPAIRED, b"http://a.example@b.example/", b"a.example"),
    ("no authority", INVALID, b"http:///b", b"a.example"),
    ("no slashes", INVALID, b"http:a.example/b", b"a.example"),
    ("one slash", INVALID, b"http:/a.example/b", b"a.example"),
    ("a backslash in the authority", INVALID, b"http://a.example\\@b.example/", b"a.example"),
    ("a space in the authority", INVALID, b"http://a .example/", b"a.example"),
    ("a port that is none", REPAIRED, b"http://a.example:8x/", b"a.example"),
    ("only a port", REPAIRED, b"http://:80/", b"a.example"),
    ("half an IPv6 address", INVALID, b"http://[::1/", b"a.example"),
)

_VERSIONS: tuple[tuple[str, Expect, bytes], ...] = (
    ("1.2", EITHER, b"HTTP/1.2"),
    ("1.9", EITHER, b"HTTP/1.9"),
    ("1.10", INVALID, b"HTTP/1.10"),
    ("01.1", INVALID, b"HTTP/01.1"),
    ("1.01", INVALID, b"HTTP/1.01"),
    ("1", INVALID, b"HTTP/1"),
    ("1.", INVALID, b"HTTP/1."),
    (".1", INVALID, b"HTTP/.1"),
    ("1.1.1", INVALID, b"HTTP/1.1.1"),
    ("1,1", INVALID, b"HTTP/1,1"),
    ("1 .1", INVALID, b"HTTP/1 .1"),
    ("0.9", INVALID, b"HTTP/0.9"),
    ("0.0", INVALID, b"HTTP/0.0"),
    ("2.0", INVALID, b"HTTP/2.0"),
    ("2", INVALID, b"HTTP/2"),
    ("3.0", INVALID, b"HTTP/3.0"),
    ("9.9", INVALID, b"HTTP/9.9"),
    ("lower case", INVALID, b"http/1.1"),
    ("mixed case", INVALID, b"Http/1.1"),
    ("signs", INVALID, b"HTTP/+1.1"),
    ("a letter", INVALID, b"HTTP/1.x"),
    ("hexadecimal", INVALID, b"HTTP/0x1.1"),
    ("another protocol", INVALID, b"ICAP/1.0"),
    ("no slash", INVALID, b"HTTP1.1"),
    ("a backslash", INVALID, b"HTTP\\1.1"),
    ("a letter too many", INVALID, b"XHTTP/1.1"),
    ("NUL behind it", INVALID, b"HTTP/1.1\0"),
    ("8-bit digits", INVALID, b"HTTP/\xb9.\xb9"),
    ("a word behind it", INVALID, b"HTTP/1.1 x"),
)

# Rows of name, expectation, the whole of the raw request.
_SPACE: tuple[tuple[str, Expect, bytes, str], ...] = (
    ("two spaces after the method", EITHER, b"GET  / HTTP/1.1\r\n" + END, "3"),
    ("two spaces before the version", EITHER, b"GET /  HTTP/1.1\r\n" + END, "3"),
    ("a space at the end", EITHER, b"GET / HTTP/1.1 \r\n" + END, "3"),
    ("a tab at the end", EITHER, b"GET / HTTP/1.1\t\r\n" + END, "3"),
    ("a space first", EITHER, b" GET / HTTP/1.1\r\n" + END, "3"),
    ("a tab first", EITHER, b"\tGET / HTTP/1.1\r\n" + END, "3"),
    ("tabs between", EITHER, b"GET\t/\tHTTP/1.1\r\n" + END, "3"),
    ("a vertical tab between", EITHER, b"GET\x0b/ HTTP/1.1\r\n" + END, "3"),
    ("a form feed between", EITHER, b"GET\x0c/ HTTP/1.1\r\n" + END, "3"),
    ("a CR between", INVALID, b"GET\r/ HTTP/1.1\r\n" + END, "2.2"),
    ("a CR at the end", INVALID, b"GET / HTTP/1.1\r\r\n" + END, "2.2"),
    ("a CR instead of its end", INVALID, b"GET / HTTP/1.1\r" + END, "2.2"),
    ("8-bit space between", INVALID, b"GET\xa0/ HTTP/1.1\r\n" + END, "3"),
    ("one empty line first", VALID, b"\r\nGET /a HTTP/1.1\r\n" + END, "2.2"),
    ("three empty lines first", EITHER, b"\r\n\r\n\r\nGET /a HTTP/1.1\r\n" + END, "2.2"),
    ("an LF first", EITHER, b"\nGET /a HTTP/1.1\r\n" + END, "2.2"),
    ("a CR first", INVALID, b"\rGET /a HTTP/1.1\r\n" + END, "2.2"),
    ("a line of spaces first", INVALID, b"  \r\nGET /a HTTP/1.1\r\n" + END, "2.2"),
    ("LF LF as the only line ends", EITHER, b"GET /a HTTP/1.1\nHost: a.example\n\n", "2.2"),
    ("LF at its end only", EITHER, b"GET /a HTTP/1.1\n" + END, "2.2"),
    ("LF CR at its end", INVALID, b"GET /a HTTP/1.1\n\r" + END, "2.2"),
)

_OTHER: tuple[tuple[str, Expect, bytes, str], ...] = (
    ("HTTP/0.9", EITHER, b"GET /\r\n", "RFC 1945, 4.1"),
    ("HTTP/0.9 with fields", EITHER, b"GET /\r\n" + END, "RFC 1945, 4.1"),
    ("HTTP/0.9, POST", INVALID, b"POST /\r\n" + END, "RFC 1945, 4.1"),
    ("only a method", INVALID, b"GET\r\n" + END, "3"),
    ("method and version", INVALID, b"GET HTTP/1.1\r\n" + END, "3"),
    ("only fields", INVALID, END, "3"),
    ("an answer", INVALID, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "3"),
    ("nothing but line ends", INVALID, b"\r\n\r\n\r\n\r\n", "2.2"),
    ("nothing at all", INVALID, b"", "2"),
    ("a cut request line", INVALID, b"GET / HT", "8"),
    ("a cut head", INVALID, b"GET / HTTP/1.1\r\nHost: a.exa", "8"),
    ("a head without its last line", INVALID, b"GET / HTTP/1.1\r\n" + HOST, "8"),
    ("OPTIONS of the server", EITHER, b"OPTIONS * HTTP/1.1\r\n" + END, "3.2.4"),
    ("OPTIONS of the server without Host", INVALID, b"OPTIONS * HTTP/1.1\r\n\r\n", "3.2"),
    ("OPTIONS of the server with two Hosts", INVALID, b"OPTIONS * HTTP/1.1\r\nHost: b.example\r\n" + END, "3.2"),
    ("OPTIONS of the server with a bad Host", INVALID, b"OPTIONS * HTTP/1.1\r\nHost: a/b\r\n\r\n", "3.2"),
    (
        "OPTIONS of the server, chunked twice",
        INVALID,
        b"OPTIONS * HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + END + b"0\r\n\r\n",
        "6.1",
    ),
    (
        "OPTIONS of the server with a body",
        EITHER,
        b"OPTIONS * HTTP/1.1\r\nContent-Length: 2\r\n" + END + b"ab",
        "3.2.4",
    ),
    ("OPTIONS of an absolute target without a path", EITHER, b"OPTIONS http://a.example HTTP/1.1\r\n" + END, "3.2.4"),
    ("OPTIONS of two asterisks", INVALID, b"OPTIONS ** HTTP/1.1\r\n" + END, "3.2.4"),
    ("OPTIONS of an asterisk and a query", INVALID, b"OPTIONS *?a HTTP/1.1\r\n" + END, "3.2.4"),
    ("the gateway's own path without Host", INVALID, b"GET /-/live HTTP/1.1\r\n\r\n", "3.2"),
    ("the gateway's own path with two Hosts", INVALID, b"GET /-/live HTTP/1.1\r\nHost: b.example\r\n" + END, "3.2"),
    ("CONNECT", EITHER, b"CONNECT a.example:443 HTTP/1.1\r\n" + END, "3.2.3"),
    ("CONNECT with a path", INVALID, b"CONNECT /a HTTP/1.1\r\n" + END, "3.2.3"),
    ("CONNECT without a port", INVALID, b"CONNECT a.example HTTP/1.1\r\n" + END, "3.2.3"),
    ("CONNECT with a body", EITHER, b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 3\r\n" + END + b"abc", "RFC 9110, 9.3.6"),
    ("the preface of HTTP/2", INVALID, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "RFC 9113, 3.4"),
    ("a TLS hello", INVALID, b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(64)), "3"),
    ("NULs", INVALID, b"\0" * 64, "3"),
    ("8-bit garbage", INVALID, bytes(range(128, 256)) + b"\r\n\r\n", "3"),
    ("an SSH greeting", INVALID, b"SSH-2.0-OpenSSH_9.6\r\n", "3"),
    ("a PROXY header", INVALID, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n" + END, "3"),
    (
        "a binary PROXY header",
        INVALID,
        b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + bytes(12) + b"GET / HTTP/1.1\r\n" + END,
        "3",
    ),
)


def cases() -> list[Case]:
    made = [
        case(f"method: {name}", expect, b"%b / HTTP/1.1\r\n" % method + END, "3.1") for name, expect, method in _METHODS
    ]
    made += [
        case(f"target: {name}", expect, b"GET %b HTTP/1.1\r\n" % target + END, "3.2", target=repaired)
        for name, expect, target, repaired in _TARGETS
    ]
    made += [
        case(
            f"absolute target: {name}",
            expect,
            b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host),
            "3.2.2",
            host=host if expect is REPAIRED else None,
        )
        for name, expect, target, host in _ABSOLUTE
    ]
    made += [
        case(f"version: {name}", expect, b"GET / %b\r\n" % version + END, "2.3") for name, expect, version in _VERSIONS
    ]
    made += [case(f"request line: {name}", expect, raw, source) for name, expect, raw, source in _SPACE]
    made += [case(f"start: {name}", expect, raw, source) for name, expect, raw, source in _OTHER]
    return made
