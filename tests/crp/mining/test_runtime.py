import random

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
