"""`crp.hooks` as zennit-crp's users know it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zennit.composites import EpsilonPlusFlat, MixedComposite, NameMapComposite

from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.hooks import FeatVisHook, MaskHook
from tests.legacy import scripts
from tests.legacy.golden import assert_as_recorded
from tests.oracle.comparing import assert_relevance_close


def test_masks_by_hooks_are_theirs():
    assert_as_recorded(scripts.masked_by_hooks)


def test_what_a_feature_visualization_is_shown_is_theirs():
    assert_as_recorded(scripts.seen_by_hooks)


def test_copies_share_the_list_and_removing_empties_it():
    hook = MaskHook([torch.neg])
    copy = hook.copy()
    assert copy.fn_list is hook.fn_list
    hook.remove()
    assert copy.fn_list == []


def test_a_copy_of_the_other_hook():
    hook = FeatVisHook("FV", "concept", "layer", {"sample_indices": [0]}, "cpu")
    assert vars(hook.copy()) == vars(hook)


def test_values_go_where_they_are_asked_to():
    class Recorder:
        devices: list = []  # noqa: RUF012  (one list for both methods)

        def analyze_activation(self, values, *rest):
            self.devices.append(values.device.type)

        analyze_relevance = analyze_activation

    layer = nn.Linear(2, 2)
    hook = FeatVisHook(Recorder(), ChannelConcept(), "0", {"sample_indices": [0], "targets": [0]}, "meta")
    handles = hook.register(layer)
    layer(torch.ones(1, 2)).sum().backward()
    handles.remove()
    layer(torch.ones(1, 2)).sum().backward()
    assert Recorder.devices == ["meta", "meta"]


def test_a_mask_hook_in_the_composite_of_an_attribution():
    """It is one of zennit's hooks, and runs as such beside the rules of the layers."""
    model = scripts.skip_net()
    hook = MaskHook([ChannelConcept.mask(0, [1, 2])])
    composite = MixedComposite([NameMapComposite([(["relu2"], hook)]), EpsilonPlusFlat()])
    found = CondAttribution(model)(scripts.data(), [{"y": [1]}], composite).heatmap
    expected = CondAttribution(model)(scripts.data(), [{"relu2": [1, 2], "y": [1]}], EpsilonPlusFlat()).heatmap
    assert_relevance_close(found, expected, 1e-12)


class Pair(nn.Module):
    """Gives a tuple, as attention does."""

    def __init__(self, count):
        super().__init__()
        self.count = count
        self.inner = nn.Identity()

    def forward(self, data):
        return tuple(data * factor for factor in range(1, self.count + 1))


@pytest.mark.parametrize("count", [1, 2])
def test_bug_tuples_crashed_or_were_unwrapped(count):
    """hooks.py:29 and 76. The first tensor's relevance is masked and shown, and the output stays a tuple."""
    seen = []

    class Recorder:
        def analyze_activation(self, values, *rest):
            seen.append(values)

        def analyze_relevance(self, values, *rest):
            seen.append(values)

    layer, data = Pair(count), torch.ones(1, 2, requires_grad=True)
    hooks = (
        FeatVisHook(Recorder(), None, "layer", {"sample_indices": [0], "targets": [0]}, None),
        MaskHook([ChannelConcept.mask(0, [1])]),
    )
    handles = [hook.register(layer) for hook in hooks]
    output = layer(data)
    assert isinstance(output, tuple)
    assert len(output) == count
    (gradient,) = torch.autograd.grad(output[0], data, torch.tensor([[3.0, 4.0]]))
    assert gradient.tolist() == [[0.0, 4.0]]
    assert [values.tolist() for values in seen] == [[[1.0, 1.0]], [[3.0, 4.0]]]
    for handle in handles:
        handle.remove()


def test_bug_masks_wrote_into_what_they_were_given():
    """concepts.py:54. A mask may write, for it gets a copy."""
    layer, data = nn.Identity(), torch.ones(1, 2, requires_grad=True)
    hook = MaskHook([ChannelConcept.mask(0, [1])])
    handles = hook.register(layer)
    start = torch.ones(1, 2)
    torch.autograd.grad(layer(data * 2), data, start)
    assert start.tolist() == [[1.0, 1.0]]
    handles.remove()
