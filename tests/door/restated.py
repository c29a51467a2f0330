"""What the tests of other servers and parsers try, stated again as cases of our own: their facts, none of their bytes.

Only what our matrix does not try already. `loaders` reads the tests themselves, where somebody has unpacked them.
"""

from .corpus import EITHER, INVALID, REPAIRED, VALID, Case, Expect, case

_A = b"Host: a.example\r\n"
_GET = b"GET /r HTTP/1.1\r\n" + _A
_POST = b"POST /r HTTP/1.1\r\n" + _A
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"

_GUNICORN: tuple[tuple[str, Expect, bytes], ...] = (
    ("a method that begins with a dash", EITHER, b"-GET / HTTP/1.1\r\n" + _A + b"\r\n"),
    ("no space behind the method", INVALID, b"GET/r HTTP/1.1\r\n" + _A + b"\r\n"),
    ("a version and a half", INVALID, b"GET /r HTTP/1.1.5\r\n" + _A + b"\r\n"),
    ("a version without digits", INVALID, b"GET /r HTTP/a.b\r\n" + _A + b"\r\n"),
    ("a version with a sign", INVALID, b"GET /r HTTP/-1.1\r\n" + _A + b"\r\n"),
    ("a long word for a version", INVALID, b"GET /r HTTP/" + b"1" * 200 + b"\r\n" + _A + b"\r\n"),
    ("two PROXY lines", INVALID, b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" * 2 + _GET + b"\r\n"),
    ("a PROXY line of nobody", INVALID, b"PROXY UNKNOWN\r\n" + _GET + b"\r\n"),
    (
        "identity and chunked by turns",
        INVALID,
        _POST + b"Transfer-Encoding: identity, chunked, identity, chunked\r\n\r\n" + _LAST,
    ),
    (
        "chunked and a stray line of it",
        INVALID,
        _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + _LAST,
    ),
    (
        "a coding in a name with an underscore",
        EITHER,
        _POST + b"Transfer_Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
    ),
    ("a chunk size with an underscore", INVALID, _CHUNKED + b"1_0\r\n" + b"a" * 16 + b"\r\n" + _LAST),
    ("a chunk size of two numbers", INVALID, _CHUNKED + b"2 2\r\nab\r\n" + _LAST),
    ("a space behind the last chunk size", REPAIRED, _CHUNKED + b"2\r\nab\r\n0 \r\n\r\n"),
    ("a line end instead of the last chunk", INVALID, _CHUNKED + b"2\r\nab\r\n\r\n" + _GET + b"\r\n"),
    ("two chunks glued", INVALID, _CHUNKED + b"2\r\nab2\r\ncd\r\n" + _LAST),
    ("an extension that looks like a size", VALID, _CHUNKED + b"2;ff\r\nab\r\n" + _LAST),
    ("a name that is only 8-bit", INVALID, _GET + b"\xc3\xa9\xc3\xa9: b\r\n\r\n"),
    ("8-bit space around a value", EITHER, _GET + b"X-A: \xa0b\xa0\r\n\r\n"),
    ("a next-line character in a value", VALID, _GET + b"X-A: b\xc2\x85c\r\n\r\n"),
    ("Content-Length in words", INVALID, _POST + b"Content-Length: five\r\n\r\nhello"),
    ("Content-Length in Thai digits", INVALID, _POST + b"Content-Length: \xe0\xb9\x95\r\n\r\nhello"),
    ("Connection: close and a second request", EITHER, _GET + b"Connection: Close\r\n\r\n" + _GET + b"\r\n"),
    ("keep-alive and a second request in 1.0", VALID, b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2),
    ("cookies, a folded one", EITHER, _GET + b"Cookie: a=b;\r\n c=d\r\n\r\n"),
)

_LLHTTP: tuple[tuple[str, Expect, bytes], ...] = (
    ("ICE", INVALID, b"SOURCE /r ICE/1.0\r\n" + _A + b"\r\n"),
    ("GET of ICE", INVALID, b"GET /r ICE/1.0\r\n" + _A + b"\r\n"),
    ("RTSP", INVALID, b"DESCRIBE /r RTSP/1.0\r\n" + _A + b"\r\n"),
    ("a letter before HTTP", INVALID, b"GET /r IHTTP/1.1\r\n" + _A + b"\r\n"),
    ("a cut word for HTTP", INVALID, b"GET /r HTT/1.1\r\n" + _A + b"\r\n"),
    ("a method of three words", INVALID, b"G E T /r HTTP/1.1\r\n" + _A + b"\r\n"),
    ("a method in the wrong case at its end", EITHER, b"GEt /r HTTP/1.1\r\n" + _A + b"\r\n"),
    ("a CR as the only line end", INVALID, b"GET /r HTTP/1.1\rHost: a.example\r\r"),
    ("a CR before a field", INVALID, b"GET /r HTTP/1.1\r\n\rHost: a.example\r\n\r\n"),
    ("a CR and a letter at the end of the head", INVALID, _GET + b"\rX"),
    ("a coding of a known name and more", INVALID, _POST + b"Transfer-Encoding: chunkedgzip\r\n\r\n" + _LAST),
    ("a coding nobody knows before chunked", INVALID, _POST + b"Transfer-Encoding: pigeon, chunked\r\n\r\n" + _LAST),
    ("a coding nobody knows", INVALID, _POST + b"Transfer-Encoding: pigeon\r\n\r\n" + _LAST),
    ("deflate before chunked", EITHER, _POST + b"Transfer-Encoding: deflate, chunked\r\n\r\n" + _LAST),
    ("a length and words behind it", INVALID, _POST + b"Content-Length: 4 2\r\n\r\nabcd"),
    ("a length, a fold and another field", EITHER, _POST + b"Content-Length: 2\r\n \r\nX-A: b\r\n\r\nab"),
    ("a length that overflows", INVALID, _POST + b"Content-Length: 1844674407370955161600\r\n\r\nab"),
    ("a chunk size that overflows", INVALID, _CHUNKED + b"fffffffffffffffff\r\nab\r\n" + _LAST),
    ("a chunk size of a letter too many", INVALID, _CHUNKED + b"ag\r\n" + b"a" * 10 + b"\r\n" + _LAST),
    ("an extension with odd characters", REPAIRED, _CHUNKED + b"2;a=(b)\r\nab\r\n" + _LAST),
    ("an extension with text behind its quotes", REPAIRED, _CHUNKED + b'2;a="b"c\r\nab\r\n' + _LAST),
    ("an extension with an escaped quote", VALID, _CHUNKED + b'2;a="\\"b\\\\"\r\nab\r\n' + _LAST),
    ("a chunk size, a space, an extension", VALID, _CHUNKED + b"2 ;a\r\nab\r\n" + _LAST),
    (
        "trailers behind a pipelined upload",
        VALID,
        _CHUNKED + b"2\r\nab\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n" + _GET + b"\r\n",
    ),
    ("no body where none was announced", VALID, (b"PUT /r HTTP/1.1\r\n" + _A + b"\r\n") * 2),
    ("CONNECT and bytes behind it", EITHER, b"CONNECT a.example:443 HTTP/1.0\r\n\r\nbytes of a tunnel"),
    (
        "an upgrade with a body and bytes behind it",
        EITHER,
        _POST + b"Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nabcdef",
    ),
    ("an absolute target with a query and no path", VALID, b"GET http://a.example?b=c HTTP/1.1\r\n" + _A + b"\r\n"),
    ("a fragment with a question mark", REPAIRED, b"GET /r#a?b HTTP/1.1\r\n" + _A + b"\r\n"),
    ("two question marks", VALID, b"GET /r?a?b HTTP/1.1\r\n" + _A + b"\r\n"),
    ("a proxy's own target", VALID, b"GET /http://a.example/?b HTTP/1.1\r\n" + _A + b"\r\n"),
)

_H11: tuple[tuple[str, Expect, bytes], ...] = (
    ("a TLS hello of SSL 2", INVALID, b"\x80\x2e\x01\x03\x01" + bytes(40)),
    ("a head of 8-bit bytes and no line end", INVALID, b"\xe2" * 2000),
    ("a chunk header of many digits", INVALID, _CHUNKED + b"1" * 21 + b"\r\nab\r\n" + _LAST),
    ("a chunk whose end is two letters", INVALID, _CHUNKED + b"2\r\nabXX0\r\n\r\n"),
    ("a trailer whose name has a space", INVALID, _CHUNKED + b"2\r\nab\r\n0\r\nX A: b\r\n\r\n"),
    ("a name that is only a space", EITHER, b"GET /r HTTP/1.1\r\n : b\r\n" + _A + b"\r\n\r\n"),
    ("a value that begins with a vertical tab", INVALID, _GET + b"X-A:\x0bb\r\n\r\n"),
    ("a target with a control character", INVALID, b"GET /\x1br HTTP/1.1\r\n" + _A + b"\r\n"),
    ("a list of three equal lengths", EITHER, _POST + b"Content-Length: 2,  2,2\r\n\r\nab"),
    ("a list of lengths over two lines", INVALID, _POST + b"Content-Length: 2, 2\r\nContent-Length: 3\r\n\r\nabc"),
    ("a length of twenty-one digits", INVALID, _POST + b"Content-Length: 100000000000000000000\r\n\r\nab"),
    ("close among other options", VALID, _GET + b"Connection: keep-alive, x-a, cLOSE\r\n\r\n"),
    ("Expect without a body in 1.0", EITHER, b"GET /r HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"),
    ("an empty value and a folded one", EITHER, _GET + b"X-A:\r\n\tb\r\n\r\n"),
)


def cases() -> list[Case]:
    made = []
    for corpus, table in (("gunicorn, restated", _GUNICORN), ("llhttp, restated", _LLHTTP), ("h11, restated", _H11)):
        for name, expect, raw in table:
            target = b"/r" if expect is REPAIRED else None
            made.append(case(f"{corpus}: {name}", expect, raw, corpus, target=target, corpus=corpus))
    return made
