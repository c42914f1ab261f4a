"""`crp.concepts` as zennit-crp's users know it, and old concepts in our own mining."""

from __future__ import annotations

import pytest
import torch
from zennit.composites import EpsilonPlusFlat

import crp
from crp.attribution import RelevanceFlow
from crp.concepts import ChannelConcept, Concept
from crp.errors import InputError
from tests.legacy import scripts
from tests.legacy.golden import assert_as_recorded
from tests.oracle.comparing import assert_relevance_close


def test_channels_are_theirs():
    assert_as_recorded(scripts.channels)


def test_a_concept_of_the_users_own_is_theirs():
    assert_as_recorded(scripts.own_concepts)


def test_channels_are_concepts():
    assert isinstance(ChannelConcept(), Concept)
    assert issubclass(scripts.PairConcept, Concept)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda concept: concept.mask(0, [1], "conv"), "^Nothing must define 'mask'"),
        (lambda concept: concept.mask_rf({1: [0]}, "conv"), "^Nothing must define 'mask_rf'"),
        (lambda concept: concept.attribute(torch.ones(1, 2)), "^Nothing must define 'attribute'"),
        (lambda concept: concept.reference_sampling(torch.ones(1, 2)), "^Nothing must define 'reference_sampling'"),
        (lambda concept: concept.get_rf_indices((1, 2), "conv"), "^Nothing must define 'get_rf_indices'"),
    ],
)
def test_what_a_concept_lacks_is_said(call, sentence):
    class Nothing(Concept):
        """As abstract as its base."""

    with pytest.raises(NotImplementedError, match=sentence):
        call(Nothing())


def test_a_max_target_that_does_not_exist():
    with pytest.raises(InputError, match=r"^max_target is 'sum' or 'max', given 'mean'\.$"):
        ChannelConcept().reference_sampling(torch.ones(1, 2), max_target="mean")


def test_bug_channels_last_crashed():
    """concepts.py:86, 112 and 126: `.view` of relevance in another memory format."""
    # whole numbers, whose sums have no rounding that depends on their order
    relevance = torch.randint(-9, 10, (2, 4, 3, 2), generator=torch.Generator().manual_seed(2)).float()
    other = relevance.contiguous(memory_format=torch.channels_last)
    concept = ChannelConcept()
    assert torch.equal(concept.attribute(other), concept.attribute(relevance))
    for ours, expected in zip(concept.reference_sampling(other), concept.reference_sampling(relevance), strict=True):
        assert torch.equal(ours, expected)
    masks = [concept.mask_rf(0, {1: [3]})(each.clone()) for each in (other, relevance)]
    assert torch.equal(*masks)


def test_bug_ties_came_in_any_order():
    """concepts.py:142: an argsort that is not stable. Of equal scores the first sample counts."""
    samples, _, _ = ChannelConcept().reference_sampling(torch.ones(200, 3), abs_norm=False)
    assert torch.equal(samples, torch.arange(200)[:, None].expand(200, 3))


def test_zero_relevance_stands_at_position_zero():
    """concepts.py:127, kept."""
    _, scores, positions = ChannelConcept().reference_sampling(torch.zeros(2, 3, 4, 4))
    assert not scores.any()
    assert not positions.any()


# -- an old concept has our interface, too -----------------------------------------------------------------------


def test_an_old_concept_answers_as_ours_do():
    """Pairs of channels against the channels they are made of."""
    relevance = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pairs, channels = scripts.PairConcept(), ChannelConcept()
    assert pairs.size((4, 2, 2)) == 2
    assert_relevance_close(pairs.total(relevance), channels.total(relevance).unflatten(1, (2, 2)).sum(-1), 1e-12)
    masked = channels.masked(relevance, [[0, 1], [2, 3], [0, 1, 2, 3]])
    assert_relevance_close(pairs.masked(relevance, [[0], [1], [0, 1]]), masked, 0)
    peak, positions = pairs.peak(relevance)
    expected, places = channels.peak(relevance.unflatten(1, (2, 2)).sum(2))
    assert torch.equal(peak, expected)
    assert torch.equal(positions, places)
    kept = pairs.at_positions(relevance, torch.tensor([0, 1, 0]), torch.tensor([3, 0, 1]))
    assert kept.shape == (1, 3, 4, 2, 2)
    assert_relevance_close(kept[0, 1, 2:, 0, 0], relevance[1, 2:, 0, 0], 0)
    assert kept.count_nonzero() == 6


def test_an_old_concept_is_mined(tmp_path):
    """The library's best samples are those of a brute force with the concept's own `attribute`."""
    model, data = scripts.skip_net(), scripts.data(12).detach()
    labels = torch.arange(12) % 3
    dataset = [(sample, int(label)) for sample, label in zip(data, labels, strict=True)]
    composite = EpsilonPlusFlat()
    library = crp.mine(
        model,
        dataset,
        layers=["conv2"],
        path=tmp_path / "pairs.crp",
        k=3,
        composite=composite,
        concept=scripts.PairConcept(),
        patches=0,
    )
    with RelevanceFlow(model, composite, data, ["conv2"]) as flow:
        arriving = flow.down(flow.output_relevance(labels.tolist()), to="conv2")[0]
    expected = scripts.PairConcept().attribute(arriving).argsort(0, descending=True)[:3]
    assert library.references("conv2", "relevance").sample.tolist() == expected.T.tolist()
