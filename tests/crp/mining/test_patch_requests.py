"""Which patches are requested, and which of them share a backward pass."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from crp.attribution.receptive_fields import receptive_boxes
from crp.library.patch_files import PatchFiles
from crp.library.patches import MODES
from crp.library.references import References
from crp.mining.patch_requests import Request, passes_of, requests


def test_requests_skip_empty_places(tmp_path):
    filled = References(
        sample=np.array([[4, -1], [2, 3]]),
        score=np.array([[0.5, -np.inf], [0.25, 0.125]], dtype=np.float32),
        target=np.array([[1, -1], [0, 2]]),
        position=np.array([[7, 0], [8, 9]]),
    )
    files = PatchFiles(tmp_path, lambda mode: filled, 2)
    found = requests({"a": files.keys([1, 0])}, {"a": files.references})
    assert [(one.concept, one.mode, one.rank, one.sample, one.position) for one in found] == [
        (concept, mode, *rest)
        for concept, ranks in ((1, [(0, 2, 8), (1, 3, 9)]), (0, [(0, 4, 7)]))
        for mode in MODES
        for rest in ranks
    ]
    assert files.expected.tolist() == [[1, 1, 1], [2, 2, 2]]


@given(positions=st.lists(st.integers(0, 143), min_size=1, max_size=12))
def test_requests_share_a_pass_only_if_their_receptive_fields_are_disjoint(positions):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 4, stride=2))
    fields = receptive_boxes(model, (2, 28, 28), "2").numpy()
    wanted = [Request("2", "relevance", concept, 0, 0, 1.0, 0, at) for concept, at in enumerate(positions)]
    passes = passes_of(wanted, "2", fields, linear=True, unit=True)
    found = [request for together in passes for (request,) in together]
    assert sorted(found, key=wanted.index) == wanted
    for together in passes:
        seen = np.zeros((28, 28), dtype=int)
        for (request,) in together:
            top, left, bottom, right = fields[request.position]
            seen[top:bottom, left:right] += 1
        assert seen.max() == 1
    assert passes_of(wanted, "2", fields, linear=False, unit=True) == [[[request]] for request in wanted]
