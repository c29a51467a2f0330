"""What is wrong with a routes module, and where."""

import traceback


class RouteError(Exception):
    """A routes module that cannot be served; the text says where and why."""


def place_of(error: BaseException, name: str) -> str:
    """Where a module failed to load, in one line: the innermost frame of the user's own file if there is one."""
    if isinstance(error, RouteError):  # it names its place
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{file_name(error.filename or name)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file_name(frame.filename) == f"{name.rpartition('.')[2]}.py"]
    at = (own or frames)[-1]
    return f"{file_name(at.filename)}:{at.lineno}: {type(error).__name__}: {error}"


def file_name(path: str) -> str:
    """The last part of a path: `routes.py`."""
    return path.rpartition("/")[2]
