"""Field lines: names, colons, values, line ends, folding, size and number (RFC 9112, section 5)."""

from .corpus import EITHER, INVALID, VALID, Case, Expect, case

GET = b"GET /f HTTP/1.1\r\nHost: a.example\r\n"

_LINES: tuple[tuple[str, Expect, bytes], ...] = (
    # names
    ("every character of a name", VALID, b"X!#$%&'*+-.^`|~09az: b\r\n"),
    ("a name of one character", VALID, b"X: b\r\n"),
    ("a name with an underscore", EITHER, b"X_A: b\r\n"),
    ("a name of digits", VALID, b"123: b\r\n"),
    ("a long name", EITHER, b"X" * 2000 + b": b\r\n"),
    ("a very long name", EITHER, b"X" * 70_000 + b": b\r\n"),
    ("an empty name", INVALID, b": b\r\n"),
    ("an empty name and value", INVALID, b":\r\n"),
    ("only a space for a name", INVALID, b"X: y\r\nA : b\r\n"),
    ("a space in the name", INVALID, b"X A: b\r\n"),
    ("a space before the colon", INVALID, b"X-A : b\r\n"),
    ("a tab before the colon", INVALID, b"X-A\t: b\r\n"),
    ("a vertical tab before the colon", INVALID, b"X-A\x0b: b\r\n"),
    ("parentheses in the name", INVALID, b"X(A): b\r\n"),
    ("a slash in the name", INVALID, b"X/A: b\r\n"),
    ("brackets in the name", INVALID, b"X[A]: b\r\n"),
    ("a backslash in the name", INVALID, b"X\\A: b\r\n"),
    ("quotes in the name", INVALID, b'"X-A": b\r\n'),
    ("an equals sign in the name", INVALID, b"X=A: b\r\n"),
    ("a comma in the name", INVALID, b"X,A: b\r\n"),
    ("a semicolon in the name", INVALID, b"X;A: b\r\n"),
    ("an at sign in the name", INVALID, b"X@A: b\r\n"),
    ("braces in the name", INVALID, b"X{A}: b\r\n"),
    ("angle brackets in the name", INVALID, b"<X>: b\r\n"),
    ("a question mark in the name", INVALID, b"X?: b\r\n"),
    ("NUL in the name", INVALID, b"X\0A: b\r\n"),
    ("a control character in the name", INVALID, b"X\x01A: b\r\n"),
    ("DEL in the name", INVALID, b"X\x7f: b\r\n"),
    ("8-bit in the name", INVALID, b"X\xe9: b\r\n"),
    ("UTF-8 in the name", INVALID, b"X-\xc3\xa9: b\r\n"),
    ("a CR in the name", INVALID, b"X\rA: b\r\n"),
    ("a CR before the colon", INVALID, b"X-A\r: b\r\n"),
    # colons
    ("no colon", INVALID, b"X-A\r\n"),
    ("no colon, a space", INVALID, b"X-A b\r\n"),
    ("an equals sign for a colon", INVALID, b"X-A=b\r\n"),
    ("no colon, in the middle", INVALID, b"A: b\r\nX-A\r\nC: d\r\n"),
    ("a request line among the fields", INVALID, b"GET /other HTTP/1.1\r\n"),
    # values
    ("an empty value", VALID, b"X-A:\r\n"),
    ("a value of white space", VALID, b"X-A:  \t \r\n"),
    ("white space around a value", VALID, b"X-A: \t b \t \r\n"),
    ("white space within a value", VALID, b"X-A: b  \t c\r\n"),
    ("colons in a value", VALID, b"X-A: b: c:d\r\n"),
    ("every printable character in a value", VALID, b"X-A: " + bytes(range(0x21, 0x7F)) + b"\r\n"),
    ("UTF-8 in a value", VALID, b"X-A: caf\xc3\xa9\r\n"),
    ("latin-1 in a value", EITHER, b"X-A: caf\xe9\r\n"),
    ("all 8-bit characters in a value", EITHER, b"X-A: " + bytes(range(0x80, 0x100)) + b"\r\n"),
    ("a line end encoded as UTF-16", EITHER, b"X-A: b\xe5\x98\x8a\xe5\x98\x8dX-B: c\r\n"),
    ("a long value", VALID, b"X-A: " + b"b" * 4000 + b"\r\n"),
    ("a very long value", EITHER, b"X-A: " + b"b" * 100_000 + b"\r\n"),
    ("NUL in a value", INVALID, b"X-A: b\0c\r\n"),
    ("NUL at the end of a value", INVALID, b"X-A: b\0\r\n"),
    ("a bell in a value", INVALID, b"X-A: b\x07c\r\n"),
    ("a backspace in a value", INVALID, b"X-A: b\x08c\r\n"),
    ("a vertical tab in a value", INVALID, b"X-A: b\x0bc\r\n"),
    ("a form feed in a value", INVALID, b"X-A: b\x0cc\r\n"),
    ("an escape in a value", INVALID, b"X-A: b\x1b[31mc\r\n"),
    ("DEL in a value", INVALID, b"X-A: b\x7fc\r\n"),
    ("a CR in a value", INVALID, b"X-A: b\rc\r\n"),
    ("a CR at the end of a value", INVALID, b"X-A: b\r\r\n"),
    ("a CR and a field in a value", INVALID, b"X-A: b\rX-B: c\r\n"),
    ("a CR at the beginning of a value", INVALID, b"X-A:\rb\r\n"),
    # line ends
    ("LF alone", EITHER, b"X-A: b\nX-C: d\r\n"),
    ("LF CR", INVALID, b"X-A: b\n\rX-C: d\r\n"),
    ("LF alone at the end of the head", EITHER, b"X-A: b\r\n\nGET /smuggled HTTP/1.1\r\nHost: a.example\r\n"),
    ("CR CR LF at the end of the head", INVALID, b"X-A: b\r\n\r"),
    # folding
    ("folded by a space", EITHER, b"X-A: b\r\n c\r\n"),
    ("folded by a tab", EITHER, b"X-A: b\r\n\tc\r\n"),
    ("folded by many spaces", EITHER, b"X-A: b\r\n        c\r\n"),
    ("folded twice", EITHER, b"X-A: b\r\n c\r\n d\r\n"),
    ("folded with nothing", EITHER, b"X-A: b\r\n \r\n"),
    ("folded after LF", EITHER, b"X-A: b\n c\r\n"),
    ("folded, what looks like a field", EITHER, b"X-A: b\r\n X-B: c\r\n"),
    ("folded, nothing before", EITHER, b"X-A:\r\n b\r\n"),
    # how many
    ("a name twice", VALID, b"X-A: b\r\nX-A: c\r\n"),
    ("a name twice, others between", VALID, b"X-A: b\r\nX-B: c\r\nX-A: d\r\n"),
    ("a name in two spellings", VALID, b"X-A: b\r\nx-a: c\r\n"),
    ("cookies on two lines", VALID, b"Cookie: a=b\r\nCookie: c=d\r\n"),
    ("ninety", VALID, b"".join(b"X-%d: b\r\n" % number for number in range(90))),
    ("a hundred and one", EITHER, b"".join(b"X-%d: b\r\n" % number for number in range(101))),
    ("a thousand", EITHER, b"".join(b"X-%d: b\r\n" % number for number in range(1000))),
    ("one name ninety times", VALID, b"X-A: b\r\n" * 90),
    ("one name a thousand times", EITHER, b"X-A: b\r\n" * 1000),
    ("more than 64 KiB in all", EITHER, b"".join(b"X-%d: %b\r\n" % (number, b"b" * 1000) for number in range(70))),
    # spellings that CGI takes for what a proxy sets
    ("X_Forwarded_For", EITHER, b"X_Forwarded_For: 192.0.2.1\r\n"),
    ("X-Forwarded_Proto", EITHER, b"X-Forwarded_Proto: https\r\n"),
    ("Proxy", EITHER, b"Proxy: http://b.example\r\n"),
    ("X-HTTP-Method-Override", VALID, b"X-HTTP-Method-Override: DELETE\r\n"),
    ("a pseudo-field of HTTP/2", INVALID, b":method: POST\r\n"),
    ("Date is no date", VALID, b"Date: yesterday\r\n"),
)

_BEFORE: tuple[tuple[str, Expect, bytes], ...] = (
    ("a space before the first", EITHER, b"GET /f HTTP/1.1\r\n X-A: b\r\nHost: a.example\r\n\r\n"),
    ("a tab before the first", EITHER, b"GET /f HTTP/1.1\r\n\tX-A: b\r\nHost: a.example\r\n\r\n"),
    ("a line of a space before the first", EITHER, b"GET /f HTTP/1.1\r\n \r\nHost: a.example\r\n\r\n"),
    ("a space before Host, the first", INVALID, b"GET /f HTTP/1.1\r\n Host: a.example\r\n\r\n"),
    ("no fields", INVALID, b"GET /f HTTP/1.1\r\n\r\n"),
    ("no fields in HTTP/1.0", VALID, b"GET /f HTTP/1.0\r\n\r\n"),
)


def cases() -> list[Case]:
    made = [case(f"field: {name}", expect, GET + lines + b"\r\n", "5") for name, expect, lines in _LINES]
    made += [case(f"fields: {name}", expect, raw, "2.2, 5") for name, expect, raw in _BEFORE]
    return made
