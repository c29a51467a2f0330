"""The view that sends files of a folder. They are opened and read in threads of its own, never in the event loop.

A path is resolved within the folder. Links may lead elsewhere within it, but not out of it: the real path is checked
first, and then opened without following any link, so that a link placed there meanwhile has no effect.
"""

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from asgiref.sync import markcoroutinefunction

from gateway.answers.static import INDEX, TWINS, Found, Part, accepted_codings, names_in, part_for
from gateway.answers.targets import Folder
from gateway.errors import GatewayError, Reason
from gateway.http.headers import Pair, all_of
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse

ResultT = TypeVar("ResultT")

THREADS = 4
MAX_PAGE_BYTES = 2**20
_WHOLE_BYTES = 256 * 1024  # read in the same call in the thread that opens it
_PIECE_BYTES = 256 * 1024
# Not blocked by a pipe without a writer; never passed to a child process.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG, errno.ENXIO})


@cache
def _threads() -> ThreadPoolExecutor:
    """The threads, made with the first file that a worker sends."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="portway-files")


async def in_file_thread(function: Callable[[], ResultT]) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(_threads(), function)


class Opened(NamedTuple):
    """An open file with its part of the answer; `body` is that part if it is small; the file is then closed."""

    descriptor: int
    part: Part
    body: bytes | None


class Files:
    """An async Django view that sends files."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder = folder
        self.__name__ = self.__qualname__ = name
        markcoroutinefunction(self)

    async def __call__(self, request: GatewayRequest, **params: Any) -> GatewayResponse:
        rest = request.raw_rest if self.folder.rest else ""
        if self.folder.rest and not rest:
            return _with_slash(request)
        names = names_in(rest) if rest else ()
        if names is None:
            raise GatewayError(Reason.FILE_NOT_FOUND)
        accepted = accepted_codings(all_of(request.raw_headers, b"accept-encoding"))
        opening = partial(_open, self.folder, names, request.raw_headers, request.method, accepted)
        try:
            opened = await in_file_thread(opening)
        except IsADirectoryError:
            return _with_slash(request)
        except OSError as error:
            if error.errno in _ABSENT:
                raise GatewayError(Reason.FILE_NOT_FOUND) from None
            raise
        if opened is None:
            raise GatewayError(Reason.FILE_NOT_FOUND)
        part = opened.part
        if opened.body is not None:
            return GatewayResponse(part.status, part.pairs, opened.body)
        request.lifetime.closers.append(partial(os.close, opened.descriptor))  # also if it is never read
        return GatewayResponse(part.status, part.pairs, _pieces(opened.descriptor, part))


def _with_slash(request: GatewayRequest) -> GatewayResponse:
    """The redirect of a folder to its URL with a slash: without that, links in its page would lead elsewhere."""
    path = request.raw_path
    if path.startswith("//"):
        path = "/." + path  # else it would name another host
    query = f"?{request.query}" if request.query else ""
    return GatewayResponse(301, [(b"location", f"{path}/{query}".encode("latin-1")), (b"content-length", b"0")])


# -- in a thread ------------------------------------------------------------------------------------------------------


def _open(
    folder: Folder, names: tuple[str, ...], request: Sequence[Pair], method: str, accepted: Collection[bytes]
) -> Opened | None:
    """The file of these names, or its compressed twin. Raises IsADirectoryError for a folder without a slash;
    OSError."""
    if names and names[-1] == "":
        names = (*names[:-1], INDEX)
    path = Path(folder.path, *names)
    base = Path(folder.path) if names else path.parent
    with contextlib.ExitStack() as opened:
        descriptor, status = _opened(base, path, opened)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder")
        if not stat.S_ISREG(status.st_mode):  # a pipe, a device
            return None
        twins = [(ending, coding) for ending, coding in TWINS if Path(f"{path}{ending}").is_file()]
        coding = next((coding for _, coding in twins if coding in accepted), None)
        if coding is not None:
            ending = next(ending for ending, of in twins if of == coding)
            descriptor, status = _opened(base, Path(f"{path}{ending}"), opened)
        found = Found(path.name, status.st_size, status.st_mtime_ns, coding, bool(twins))
        part = part_for(found, request, method)
        if method == "HEAD" or not part.length:
            return Opened(-1, part, b"")
        if part.length <= _WHOLE_BYTES:
            return Opened(-1, part, _read(descriptor, part.first, part.length))
        kept = os.dup(descriptor)
        return Opened(kept, part, None)


def _opened(base: Path, path: Path, closes: contextlib.ExitStack) -> tuple[int, os.stat_result]:
    """A file within `base`, open until the stack is closed. Raises FileNotFoundError for a link out of it."""
    # Path.resolve() raises a RuntimeError for a cycle of links, before Python 3.13.
    real_base, real = Path(os.path.realpath(base)), Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(real_base):
        raise FileNotFoundError(errno.ENOENT, "a link leads out of the folder")
    descriptor = os.open(real_base, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    closes.callback(os.close, descriptor)
    for name in real.relative_to(real_base).parts:
        descriptor = os.open(name, _FLAGS, dir_fd=descriptor)
        closes.callback(os.close, descriptor)
    return descriptor, os.fstat(descriptor)


def _read(descriptor: int, first: int, length: int) -> bytes:
    """`length` bytes from `first` on. Raises OSError if the file has become shorter."""
    pieces, end = [], first + length
    while first < end:
        piece = os.pread(descriptor, min(_PIECE_BYTES, end - first), first)
        if not piece:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        pieces.append(piece)
        first += len(piece)
    return b"".join(pieces)


async def _pieces(descriptor: int, part: Part) -> AsyncIterator[bytes]:
    """The promised bytes. A file that becomes shorter breaks off the transfer, so that it does not look whole."""
    first, end = part.first, part.first + part.length
    while first < end:
        piece = await in_file_thread(partial(_read, descriptor, first, min(_PIECE_BYTES, end - first)))
        yield piece
        first += len(piece)


def read_page(path: str) -> tuple[bytes, str]:
    """A page that stands in for an answer, and its name. Raises OSError."""
    # O_NONBLOCK: a named pipe would block the thread until it has a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        body = file.read(MAX_PAGE_BYTES + 1)
    if len(body) > MAX_PAGE_BYTES:
        raise OSError(errno.EFBIG, "a page has at most 1 MiB")
    return body, Path(path).name
