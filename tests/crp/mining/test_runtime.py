import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch

from crp.mining.runtime import surroundings, tensor_cores


def test_threads_and_random_states_come_back_after_an_error():
    threads = torch.get_num_threads()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002  (the caller's)

    def interrupted():
        with surroundings(threads + 1):
            assert torch.get_num_threads() == threads + 1
            torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]


def test_threads_take_turns():
    """One that begins while another computes would take its thread count for the usual one, and leave it behind."""
    usual = torch.get_num_threads()
    first_is_in, second_is_in, first_is_out = Event(), Event(), Event()

    def first() -> bool:
        with surroundings(usual + 1):
            first_is_in.set()
            met = second_is_in.wait(0.5)
        first_is_out.set()
        return met

    def second() -> None:
        first_is_in.wait()
        with surroundings(usual + 2):
            second_is_in.set()
            first_is_out.wait()

    with ThreadPoolExecutor(2) as pool:
        met, _ = pool.submit(first), pool.submit(second)
        assert not met.result()
    with ThreadPoolExecutor(1) as pool:  # a new thread has the count of the process
        assert pool.submit(torch.get_num_threads).result() == usual


def test_float32_is_float32_on_a_gpu_unless_tf32_is_asked_for():
    def states():
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = states()
    # torch's default is TF32 for convolutions only
    assert before == (True, False)
    with surroundings(1):
        assert states() == (False, False)
        with tensor_cores(tf32=True):
            assert states() == (True, True)
        assert states() == (False, False)
    assert states() == before
