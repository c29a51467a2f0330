"""Tests over the wire: the real `gateway serve` as a process, real upstreams, exact bytes. `harness` has the tools."""
