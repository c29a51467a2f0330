"""How long a body is: Content-Length, Transfer-Encoding, chunks, trailers (RFC 9112, sections 6 and 7).

Where two readers could disagree, the body holds a request of its own: whoever reads the other way sends it up.
"""

from .corpus import EITHER, INVALID, REPAIRED, VALID, Case, Expect, case

POST = b"POST /p HTTP/1.1\r\nHost: a.example\r\n"
INNER = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"
# As chunks it is nothing with a request behind it; by its length it is one body.
BOTH = b"0\r\n\r\n" + INNER
N = b"%d" % len(BOTH)

# Rows of name, expectation, field lines, body on the wire, body meant.
_LENGTHS: tuple[tuple[str, Expect, bytes, bytes, bytes | None], ...] = (
    ("plain", VALID, b"Content-Length: 5\r\n", b"hello", b"hello"),
    ("zero", VALID, b"Content-Length: 0\r\n", b"", b""),
    ("leading zeros", EITHER, b"Content-Length: 0005\r\n", b"hello", b"hello"),
    ("white space around it", VALID, b"Content-Length: \t 5 \t \r\n", b"hello", b"hello"),
    ("no space", VALID, b"Content-Length:5\r\n", b"hello", b"hello"),
    ("in odd case", VALID, b"cOntent-lEngth: 5\r\n", b"hello", b"hello"),
    ("twice the same", EITHER, b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello", b"hello"),
    ("a list of the same", EITHER, b"Content-Length: 5, 5\r\n", b"hello", b"hello"),
    ("the same number in two spellings", EITHER, b"Content-Length: 5\r\nContent-Length: 05\r\n", b"hello", b"hello"),
    ("more than 18 zeros", EITHER, b"Content-Length: 0000000000000000000005\r\n", b"hello", b"hello"),
    ("twice, different", INVALID, b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!", None),
    ("twice, the first one 0", INVALID, b"Content-Length: 0\r\nContent-Length: " + N + b"\r\n", BOTH, None),
    ("twice, the second one 0", INVALID, b"Content-Length: " + N + b"\r\nContent-Length: 0\r\n", BOTH, None),
    ("a list of different ones", INVALID, b"Content-Length: 5, 6\r\n", b"hello!", None),
    ("a list without a space", INVALID, b"Content-Length: 0,5\r\n", b"hello", None),
    ("a list with an empty member", INVALID, b"Content-Length: 5,\r\n", b"hello", None),
    ("a list with an empty first member", INVALID, b"Content-Length: ,5\r\n", b"hello", None),
    ("twice, one of them empty", INVALID, b"Content-Length: 5\r\nContent-Length:\r\n", b"hello", None),
    ("twice, one of them no number", INVALID, b"Content-Length: 5\r\nContent-Length: x\r\n", b"hello", None),
    ("empty", INVALID, b"Content-Length:\r\n", b"hello", None),
    ("only a space", INVALID, b"Content-Length:  \r\n", b"hello", None),
    ("a plus sign", INVALID, b"Content-Length: +5\r\n", b"hello", None),
    ("a minus sign", INVALID, b"Content-Length: -5\r\n", b"hello", None),
    ("minus zero", INVALID, b"Content-Length: -0\r\n", BOTH, None),
    ("hexadecimal", INVALID, b"Content-Length: 0x5\r\n", b"hello", None),
    ("hexadecimal digits", INVALID, b"Content-Length: a\r\n", b"helloworld", None),
    ("octal", INVALID, b"Content-Length: 0o5\r\n", b"hello", None),
    ("an exponent", INVALID, b"Content-Length: 5e0\r\n", b"hello", None),
    ("a decimal point", INVALID, b"Content-Length: 5.0\r\n", b"hello", None),
    ("a space within", INVALID, b"Content-Length: 5 5\r\n", b"hello", None),
    ("a grouping underscore", INVALID, b"Content-Length: 1_0\r\n", b"helloworld", None),
    ("quoted", INVALID, b'Content-Length: "5"\r\n', b"hello", None),
    ("a letter behind it", INVALID, b"Content-Length: 5x\r\n", b"hello", None),
    ("a semicolon behind it", INVALID, b"Content-Length: 5;\r\n", b"hello", None),
    ("NUL behind it", INVALID, b"Content-Length: 5\0\r\n", b"hello", None),
    ("a vertical tab before it", INVALID, b"Content-Length: \x0b5\r\n", b"hello", None),
    ("a vertical tab behind it", INVALID, b"Content-Length: 5\x0b\r\n", b"hello", None),
    ("8-bit space before it", INVALID, b"Content-Length: \xa05\r\n", b"hello", None),
    ("8-bit digits", INVALID, b"Content-Length: \xb2\r\n", b"he", None),
    ("full-width digits", INVALID, b"Content-Length: \xef\xbc\x95\r\n", b"hello", None),
    ("2^31", INVALID, b"Content-Length: 2147483648\r\n", b"hello", None),
    ("2^32 and 5", INVALID, b"Content-Length: 4294967301\r\n", b"hello", None),
    ("2^63", INVALID, b"Content-Length: 9223372036854775808\r\n", b"hello", None),
    ("2^64", INVALID, b"Content-Length: 18446744073709551616\r\n", BOTH, None),
    ("2^64 and 5", INVALID, b"Content-Length: 18446744073709551621\r\n", b"hello", None),
    ("a hundred digits", INVALID, b"Content-Length: " + b"9" * 100 + b"\r\n", b"hello", None),
    ("shorter than it says", INVALID, b"Content-Length: 50\r\n", b"hello", None),
    ("a space before the colon", INVALID, b"Content-Length : 5\r\n", b"hello", None),
    (
        "a space before the colon, and another one",
        INVALID,
        b"Content-Length : 0\r\nContent-Length: " + N + b"\r\n",
        BOTH,
        None,
    ),
    ("a tab before the colon", INVALID, b"Content-Length\t: 5\r\n", b"hello", None),
    ("folded", EITHER, b"Content-Length:\r\n 5\r\n", b"hello", b"hello"),
    ("folded in the middle", INVALID, b"Content-Length: 5\r\n 5\r\n", b"hello", None),
    ("a space in its name", INVALID, b"Content Length: 5\r\n", b"hello", None),
    ("NUL in its name", INVALID, b"Content\0Length: 5\r\n", b"hello", None),
    ("NUL before its name", INVALID, b"\0Content-Length: 5\r\n", b"hello", None),
    ("an empty name before it", INVALID, b": x\r\nContent-Length: 5\r\n", b"hello", None),
)

_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_HELLO = b"5\r\nhello\r\n0\r\n\r\n"
_LENGTH_OF_BOTH = b"Content-Length: " + N + b"\r\n"

_CODINGS: tuple[tuple[str, Expect, bytes, bytes, bytes | None], ...] = (
    ("chunked", VALID, _CHUNKED, _HELLO, b"hello"),
    ("upper case", VALID, b"TRANSFER-ENCODING: CHUNKED\r\n", _HELLO, b"hello"),
    ("mixed case", VALID, b"Transfer-Encoding: cHuNkEd\r\n", _HELLO, b"hello"),
    ("white space around it", VALID, b"Transfer-Encoding: \t chunked \t \r\n", _HELLO, b"hello"),
    ("no space", VALID, b"Transfer-Encoding:chunked\r\n", _HELLO, b"hello"),
    ("with GET", VALID, _CHUNKED, _HELLO, b"hello"),
    ("an empty first member", EITHER, b"Transfer-Encoding: , chunked\r\n", _HELLO, b"hello"),
    ("an empty last member", EITHER, b"Transfer-Encoding: chunked,\r\n", _HELLO, b"hello"),
    ("gzip before it", EITHER, b"Transfer-Encoding: gzip, chunked\r\n", _HELLO, b"hello"),
    ("gzip before it, on two lines", EITHER, b"Transfer-Encoding: gzip\r\n" + _CHUNKED, _HELLO, b"hello"),
    ("folded", EITHER, b"Transfer-Encoding:\r\n chunked\r\n", _HELLO, b"hello"),
    ("with a length", EITHER, _LENGTH_OF_BOTH + _CHUNKED, BOTH, b""),
    ("with a length behind it", EITHER, _CHUNKED + _LENGTH_OF_BOTH, BOTH, b""),
    ("with a length of 0", EITHER, b"Content-Length: 0\r\n" + _CHUNKED, _HELLO, b"hello"),
    ("with the right length", EITHER, b"Content-Length: 5\r\n" + _CHUNKED, _HELLO, b"hello"),
    ("with a length that is none", INVALID, b"Content-Length: x\r\n" + _CHUNKED, _HELLO, None),
    ("with two lengths", INVALID, b"Content-Length: 5\r\nContent-Length: 6\r\n" + _CHUNKED, _HELLO, None),
    ("twice", INVALID, _CHUNKED + _CHUNKED, _HELLO, None),
    ("twice, a request behind", INVALID, _CHUNKED + _CHUNKED, BOTH, None),
    ("twice in a list, a request behind", INVALID, b"Transfer-Encoding: chunked, chunked\r\n", BOTH, None),
    ("pigeon and chunked, a request behind", INVALID, b"Transfer-Encoding: pigeon, chunked\r\n", BOTH, None),
    ("twice in a list", INVALID, b"Transfer-Encoding: chunked, chunked\r\n", _HELLO, None),
    ("chunked, identity", INVALID, b"Transfer-Encoding: chunked, identity\r\n", _HELLO, None),
    ("identity, chunked", INVALID, b"Transfer-Encoding: identity, chunked\r\n", _HELLO, None),
    ("chunked, gzip", INVALID, b"Transfer-Encoding: chunked, gzip\r\n", _HELLO, None),
    ("chunked then identity, on two lines", INVALID, _CHUNKED + b"Transfer-Encoding: identity\r\n", _HELLO, None),
    ("identity then chunked, on two lines", INVALID, b"Transfer-Encoding: identity\r\n" + _CHUNKED, _HELLO, None),
    ("chunked then nothing, on two lines", EITHER, _CHUNKED + b"Transfer-Encoding:\r\n", _HELLO, b"hello"),
    ("identity", INVALID, b"Transfer-Encoding: identity\r\n", b"", None),
    ("identity with a length", INVALID, b"Transfer-Encoding: identity\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("gzip alone", INVALID, b"Transfer-Encoding: gzip\r\n", b"hello", None),
    ("gzip with a length", INVALID, b"Transfer-Encoding: gzip\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("empty", INVALID, b"Transfer-Encoding:\r\n", b"", None),
    ("empty with a length", INVALID, b"Transfer-Encoding:\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("only a comma", INVALID, b"Transfer-Encoding: ,\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("xchunked", INVALID, b"Transfer-Encoding: xchunked\r\n", _HELLO, None),
    ("xchunked with a length", INVALID, b"Transfer-Encoding: xchunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("chunkedx", INVALID, b"Transfer-Encoding: chunkedx\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("chunk", INVALID, b"Transfer-Encoding: chunk\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("quoted", INVALID, b'Transfer-Encoding: "chunked"\r\n' + _LENGTH_OF_BOTH, BOTH, None),
    ("single quotes", INVALID, b"Transfer-Encoding: 'chunked'\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("with a parameter", INVALID, b"Transfer-Encoding: chunked;a=b\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("with a weight", INVALID, b"Transfer-Encoding: chunked;q=0\r\n", _HELLO, None),
    ("two words", INVALID, b"Transfer-Encoding: chunked x\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("its own name again", INVALID, b"Transfer-Encoding: Transfer-Encoding: chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a colon first", INVALID, b"Transfer-Encoding:: chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a vertical tab before it", INVALID, b"Transfer-Encoding: \x0bchunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a vertical tab behind it", INVALID, b"Transfer-Encoding: chunked\x0b\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a form feed before it", INVALID, b"Transfer-Encoding: \x0cchunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("NUL before it", INVALID, b"Transfer-Encoding: \0chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("NUL behind it", INVALID, b"Transfer-Encoding: chunked\0\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("8-bit space before it", INVALID, b"Transfer-Encoding: \xa0chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("8-bit letter", INVALID, b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a CR behind it", INVALID, b"Transfer-Encoding: chunked\r\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a CR before it", INVALID, b"Transfer-Encoding: \rchunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a CR before its name", INVALID, b"X: y\rTransfer-Encoding: chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("an LF before its name", EITHER, b"X: y\nTransfer-Encoding: chunked\r\n", _HELLO, b"hello"),
    ("a space before the colon", INVALID, b"Transfer-Encoding : chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a tab before the colon", INVALID, b"Transfer-Encoding\t: chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("NUL in its name", INVALID, b"Transfer\0Encoding: chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    ("a space in its name", INVALID, b"Transfer Encoding: chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
    (
        "a space before its name",
        INVALID,
        b"X: y\r\n Transfer-Encoding: chunked\r\n" + b"Content-Length: x\r\n",
        BOTH,
        None,
    ),
    (
        "folded away under another field",
        EITHER,
        b"X: y\r\n Transfer-Encoding: chunked\r\n" + _LENGTH_OF_BOTH,
        BOTH,
        BOTH,
    ),
    ("no colon", INVALID, b"Transfer-Encoding chunked\r\n" + _LENGTH_OF_BOTH, BOTH, None),
)

# Field names that are valid and nobody's, though one could take them for framing: they may go up, as nothing more.
_TWINS: tuple[tuple[str, bytes], ...] = (
    ("Content_Length", b"Content_Length: 0\r\n" + _LENGTH_OF_BOTH),
    ("Transfer_Encoding", b"Transfer_Encoding: chunked\r\n" + _LENGTH_OF_BOTH),
    ("Transfer-Encoding_", b"Transfer-Encoding_: chunked\r\n" + _LENGTH_OF_BOTH),
    ("Transfer.Encoding", b"Transfer.Encoding: chunked\r\n" + _LENGTH_OF_BOTH),
    ("X-Transfer-Encoding", b"X-Transfer-Encoding: chunked\r\n" + _LENGTH_OF_BOTH),
    ("Content-Lengt", b"Content-Lengt: 0\r\n" + _LENGTH_OF_BOTH),
    ("TE", b"TE: chunked\r\n" + _LENGTH_OF_BOTH),
    ("Content-Encoding", b"Content-Encoding: chunked\r\n" + _LENGTH_OF_BOTH),
)

_END = b"0\r\n\r\n"
# Behind the digits of a size Granian reads over white space, and over an extension whatever it holds, to the line end.
_CHUNKS: tuple[tuple[str, Expect, bytes, bytes | None], ...] = (
    ("none but the last", VALID, _END, b""),
    ("two", VALID, b"3\r\nhel\r\n2\r\nlo\r\n" + _END, b"hello"),
    ("a size in capitals", VALID, b"A\r\nhelloworld\r\n" + _END, b"helloworld"),
    ("a size in small letters", VALID, b"a\r\nhelloworld\r\n" + _END, b"helloworld"),
    ("leading zeros", VALID, b"0005\r\nhello\r\n" + _END, b"hello"),
    ("the last one of many zeros", VALID, b"5\r\nhello\r\n0000\r\n\r\n", b"hello"),
    ("binary data with line ends", VALID, b"7\r\n\r\n0\r\n\r\n\r\n" + _END, b"\r\n0\r\n\r\n"),
    ("an extension", VALID, b"5;a=b\r\nhello\r\n" + _END, b"hello"),
    ("an extension without a value", VALID, b"5;a\r\nhello\r\n" + _END, b"hello"),
    ("several extensions", VALID, b"5;a=b;c;d=e\r\nhello\r\n" + _END, b"hello"),
    ("a quoted extension", VALID, b'5;a="b c;\\"d"\r\nhello\r\n' + _END, b"hello"),
    ("an extension with bad white space", VALID, b"5 ; a = b\r\nhello\r\n" + _END, b"hello"),
    ("an extension of the last", VALID, b"5\r\nhello\r\n0;a=b\r\n\r\n", b"hello"),
    ("a trailer field", VALID, b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n", b"hello"),
    ("two trailer fields", VALID, b"5\r\nhello\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", b"hello"),
    ("a long extension", EITHER, b"5;a=" + b"b" * 20_000 + b"\r\nhello\r\n" + _END, b"hello"),
    ("twenty zeros first", EITHER, b"0" * 20 + b"5\r\nhello\r\n" + _END, b"hello"),
    (
        "a trailer that may not be one: Content-Length",
        EITHER,
        b"5\r\nhello\r\n0\r\nContent-Length: 0\r\n\r\n",
        b"hello",
    ),
    ("a trailer that may not be one: Host", EITHER, b"5\r\nhello\r\n0\r\nHost: b.example\r\n\r\n", b"hello"),
    ("a trailer that may not be one: TE", EITHER, b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", b"hello"),
    ("a folded trailer", EITHER, b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n", b"hello"),
    ("a trailer that ends with LF", EITHER, b"5\r\nhello\r\n0\r\nX-A: b\n\r\n", b"hello"),
    ("an empty line end of LF", EITHER, b"5\r\nhello\r\n0\r\n\n", b"hello"),
    ("no size", INVALID, b"\r\nhello\r\n" + _END, None),
    ("only an extension", INVALID, b";a=b\r\nhello\r\n" + _END, None),
    ("a size of letters", INVALID, b"xyz\r\nhello\r\n" + _END, None),
    ("0x", INVALID, b"0x5\r\nhello\r\n" + _END, None),
    ("0x0", INVALID, b"5\r\nhello\r\n0x0\r\n\r\n" + INNER, None),
    ("a letter behind the digits", INVALID, b"5h\r\nhello\r\n" + _END, None),
    ("a plus sign", INVALID, b"+5\r\nhello\r\n" + _END, None),
    ("a minus sign", INVALID, b"-5\r\nhello\r\n" + _END, None),
    ("minus zero", INVALID, b"5\r\nhello\r\n-0\r\n\r\n", None),
    ("a grouping underscore", INVALID, b"0_5\r\nhello\r\n" + _END, None),
    ("a decimal point", INVALID, b"5.0\r\nhello\r\n" + _END, None),
    ("a comma", INVALID, b"5,5\r\nhello\r\n" + _END, None),
    ("a space first", INVALID, b" 5\r\nhello\r\n" + _END, None),
    ("a tab first", INVALID, b"\t5\r\nhello\r\n" + _END, None),
    ("a space within", INVALID, b"0 5\r\nhello\r\n" + _END, None),
    ("a space behind", REPAIRED, b"5 \r\nhello\r\n" + _END, b"hello"),
    ("a tab behind", REPAIRED, b"5\t\r\nhello\r\n" + _END, b"hello"),
    ("a vertical tab behind", INVALID, b"5\x0b\r\nhello\r\n" + _END, None),
    ("NUL behind", INVALID, b"5\0\r\nhello\r\n" + _END, None),
    ("8-bit digits", INVALID, b"\xb5\r\nhello\r\n" + _END, None),
    ("a size of 2^64", INVALID, b"10000000000000000\r\nhello\r\n" + _END, None),
    ("a size of 2^64 and 5", INVALID, b"10000000000000005\r\nhello\r\n" + _END, None),
    ("a size of 2^63", INVALID, b"8000000000000000\r\nhello\r\n" + _END, None),
    ("a size of a hundred digits", INVALID, b"f" * 100 + b"\r\nhello\r\n" + _END, None),
    ("a size of 2^32 and 5", INVALID, b"100000005\r\nhello\r\n" + _END, None),
    ("more data than its size", INVALID, b"4\r\nhello\r\n" + _END, None),
    ("less data than its size", INVALID, b"6\r\nhello\r\n" + _END, None),
    ("no line end behind the data", INVALID, b"5\r\nhello0\r\n\r\n", None),
    ("LF behind the data", INVALID, b"5\r\nhello\n" + _END, None),
    ("CR behind the data", INVALID, b"5\r\nhello\r" + _END, None),
    ("CR CR LF behind the data", INVALID, b"5\r\nhello\r\r\n" + _END, None),
    ("two other bytes behind the data", INVALID, b"5\r\nhelloXX" + _END, None),
    ("LF behind the size", INVALID, b"5\nhello\r\n" + _END, None),
    ("CR behind the size", INVALID, b"5\rhello\r\n" + _END, None),
    ("LF behind the last size", INVALID, b"5\r\nhello\r\n0\n\r\n", None),
    ("LFs everywhere", INVALID, b"5\nhello\n0\n\n", None),
    ("LF behind an extension", INVALID, b"5;a=b\nhello\r\n" + _END, None),
    ("a CR within an extension", INVALID, b"5;a\rb\r\nhello\r\n" + _END, None),
    ("NUL within an extension", REPAIRED, b"5;a=\0\r\nhello\r\n" + _END, b"hello"),
    ("a line break within a quoted extension", REPAIRED, b'5;a="\r\nhello\r\n' + _END, b"hello"),
    ("an extension without a name", REPAIRED, b"5;=b\r\nhello\r\n" + _END, b"hello"),
    ("an extension that is only a semicolon", REPAIRED, b"5;\r\nhello\r\n" + _END, b"hello"),
    ("an extension with an open quote", REPAIRED, b'5;a="b\r\nhello\r\n' + _END, b"hello"),
    ("a trailer without a colon", INVALID, b"5\r\nhello\r\n0\r\nX-A\r\n\r\n", None),
    ("a trailer without a name", INVALID, b"5\r\nhello\r\n0\r\n: b\r\n\r\n", None),
    ("a trailer with a space before its colon", INVALID, b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n", None),
    ("a trailer with NUL", INVALID, b"5\r\nhello\r\n0\r\nX-A: b\0\r\n\r\n", None),
    ("a trailer with a CR", INVALID, b"5\r\nhello\r\n0\r\nX-A: b\rc\r\n\r\n", None),
    ("a trailer that begins with a space", INVALID, b"5\r\nhello\r\n0\r\n X-A: b\r\n\r\n", None),
    ("a request as trailers", INVALID, b"5\r\nhello\r\n0\r\n" + INNER, None),
    ("no last chunk", INVALID, b"5\r\nhello\r\n", None),
    ("no end behind the last chunk", INVALID, b"5\r\nhello\r\n0\r\n", None),
    ("cut in a size", INVALID, b"5\r\nhello\r\n1", None),
    ("cut in the data", INVALID, b"5\r\nhel", None),
    ("no body at all", INVALID, b"", None),
)

_LENGTH_OF_INNER = b"Content-Length: %d\r\n" % len(INNER)
_REFUSED: tuple[tuple[str, Expect, bytes], ...] = (
    ("no Host", INVALID, b"POST /p HTTP/1.1\r\n"),
    ("two Hosts", INVALID, POST + b"Host: b.example\r\n"),
    ("a target without a slash", INVALID, POST.replace(b"/p", b"p")),
    ("an asterisk", INVALID, POST.replace(b"/p", b"*")),
    ("raw UTF-8 in the target", INVALID, POST.replace(b"/p", b"/\xc3\xa9")),
    ("a list of lengths before", INVALID, POST + b"Content-Length: 1, 2\r\n"),
    ("chunked before", INVALID, POST + b"Transfer-Encoding: chunked, chunked\r\n"),
    ("the gateway's own path", INVALID, POST.replace(b"/p", b"/-/nothing").replace(b"Host: a.example\r\n", b"")),
    ("a field that is too long", EITHER, POST + b"X-A: " + b"b" * 70_000 + b"\r\n"),
)


def cases() -> list[Case]:
    made = [_of("length", *row) for row in _LENGTHS]
    made += [_of("coding", *row) for row in _CODINGS]
    made += [_of("twin", name, EITHER, fields, BOTH, BOTH) for name, fields in _TWINS]
    made += [_of("chunks", name, expect, _CHUNKED, wire, body) for name, expect, wire, body in _CHUNKS]
    made += [
        # Refused before its body was read, which is read over, or the connection closed: it is never a request.
        case(f"refused with a body: {name}, {how}", expect, start + fields + b"\r\n" + body, "6.3, 9.3")
        for name, expect, start in _REFUSED
        for how, fields, body in (
            ("a length", _LENGTH_OF_INNER, INNER),
            ("chunks", _CHUNKED, b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n"),
        )
    ]
    old = POST.replace(b"HTTP/1.1", b"HTTP/1.0")
    made += [
        case("coding: in HTTP/1.0", EITHER, old + _CHUNKED + b"\r\n" + _HELLO, "6.1", body=b"hello"),
        case(
            "coding: in HTTP/1.0 with a length",
            EITHER,
            old + _LENGTH_OF_BOTH + _CHUNKED + b"\r\n" + BOTH,
            "6.1",
            body=b"",
        ),
        case("length: in HTTP/1.0", VALID, old + b"Content-Length: 5\r\n\r\nhello", "6.2", body=b"hello"),
        case("length: in HTTP/1.0, shorter than it says", INVALID, old + b"Content-Length: 9\r\n\r\nhello", "6.2"),
        case("length: none, yet a body", EITHER, POST + b"\r\n" + INNER, "6.3", body=b""),
        case(
            "length: of a GET",
            VALID,
            POST.replace(b"POST", b"GET") + b"Content-Length: 5\r\n\r\nhello",
            "6",
            body=b"hello",
        ),
        case(
            "length: of a HEAD",
            VALID,
            POST.replace(b"POST", b"HEAD") + _LENGTH_OF_BOTH + b"\r\n" + BOTH,
            "6",
            body=BOTH,
        ),
        case("length: of a DELETE", VALID, POST.replace(b"POST", b"DELETE") + _LENGTH_OF_BOTH + b"\r\n" + BOTH, "6"),
        case("length: of an OPTIONS", VALID, POST.replace(b"POST", b"OPTIONS") + _LENGTH_OF_BOTH + b"\r\n" + BOTH, "6"),
        case(
            "length: of a TRACE",
            EITHER,
            POST.replace(b"POST", b"TRACE") + b"Content-Length: 5\r\n\r\nhello",
            "RFC 9110, 9.3.8",
        ),
        case(
            "coding: of a GET", VALID, POST.replace(b"POST", b"GET") + _CHUNKED + b"\r\n" + _HELLO, "6", body=b"hello"
        ),
        case(
            "coding: of a HEAD", VALID, POST.replace(b"POST", b"HEAD") + _CHUNKED + b"\r\n" + _HELLO, "6", body=b"hello"
        ),
    ]
    return made


def _of(what: str, name: str, expect: Expect, fields: bytes, wire: bytes, body: bytes | None) -> Case:
    sections = {"length": "6.2, 6.3", "coding": "6.1, 6.3", "twin": "RFC 9110, 5.1", "chunks": "7.1"}
    return case(f"{what}: {name}", expect, POST + fields + b"\r\n" + wire, sections[what], body=body)
