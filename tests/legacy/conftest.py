"""The net with a skip connection that most tests here use."""

import pytest
from torch import nn

from tests.legacy import scripts


@pytest.fixture
def model() -> nn.Module:
    return scripts.skip_net()
