import random

import numpy as np
import pytest
import torch

from crp.mining.surroundings import surroundings


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
