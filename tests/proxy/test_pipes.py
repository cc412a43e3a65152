from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from portway_proxy.l4.pipes import LARGE, Pipe, Pipes
from tcp import descriptors, no_descriptor_left


def taken(pipes: Pipes) -> Pipe:
    pipe = pipes.take()
    assert pipe is not None
    return pipe


def test_a_pipe_given_back_is_the_next_one_taken() -> None:
    pipes = Pipes()
    first = taken(pipes)
    pipes.give(first)
    assert pipes.take() is first
    pipes.drop(first)


def test_the_first_pipes_are_large_and_those_beyond_are_not() -> None:
    pipes = Pipes(most_large=2)
    taken_ones = [taken(pipes) for _ in range(3)]
    assert [pipe.capacity for pipe in taken_ones] == [LARGE, LARGE, 65536]
    assert [fcntl.fcntl(pipe.reader, fcntl.F_GETPIPE_SZ) for pipe in taken_ones] == [LARGE, LARGE, 65536]
    pipes.drop(taken_ones.pop(0))
    taken_ones.append(taken(pipes))
    assert taken_ones[-1].capacity == LARGE
    for pipe in taken_ones:
        pipes.drop(pipe)


def test_the_pool_keeps_no_more_than_it_may() -> None:
    pipes = Pipes(most_idle=2)
    before = descriptors()
    for pipe in [taken(pipes) for _ in range(5)]:
        pipes.give(pipe)
    assert pipes.open == 2
    assert descriptors() == before + 4
    pipes.close()
    assert pipes.open == 0
    assert descriptors() == before


def test_a_pipe_neither_blocks_nor_reaches_child_processes() -> None:
    pipes = Pipes()
    pipe = taken(pipes)
    for descriptor in (pipe.reader, pipe.writer):
        assert not os.get_blocking(descriptor)
        assert not os.get_inheritable(descriptor)
    pipes.drop(pipe)


def test_without_descriptors_there_is_no_pipe_and_no_error() -> None:
    pipes = Pipes()
    with no_descriptor_left():
        with pytest.raises(OSError, match="Too many open files") as caught:
            os.pipe()
        assert caught.value.errno == errno.EMFILE
        assert pipes.take() is None
    assert pipes.open == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_user_without_allowance_gets_smaller_pipes() -> None:
    script = """
import os
from portway_proxy.l4.pipes import LARGE, Pipes
os.setgid(65534)
os.setuid(65534)
pipes = Pipes(most_large=400)
taken = [pipes.take() for _ in range(400)]
capacities = [pipe.capacity for pipe in taken]
assert capacities[0] == LARGE and capacities[-1] < LARGE, capacities
"""
    subprocess.run([sys.executable, "-c", script], check=True)
