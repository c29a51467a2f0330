"""The parent signals its workers by number, and only those whose number is still their own."""

import multiprocessing
import os
import signal

import pytest

from gateway.config.loader import load
from gateway.reload.line import Inherited, Line
from gateway.server.control import Control
from gateway.server.supervisor import Supervisor


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_whose_end_is_known_already_is_not_signalled(by: signal.Signals) -> None:
    """As when `multiprocessing` has waited for it, at the start of another one."""
    settings = load({}, str).settings
    line = Line(1, Inherited(1), 0, *os.pipe())
    supervisor = Supervisor(settings, Control(settings), line)
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    supervisor._numbered[0].process = process
    supervisor._end_all(by)
    assert process.exitcode == 0
