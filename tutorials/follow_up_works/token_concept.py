"""A custom concept for tokens: layers with output `[B, T, D]`, as in transformers and mixers.

`ChannelConcept` uses the second axis as concepts; here that would be the tokens. `FeatureConcept` uses the last one: a
concept is one of the `D` features, its positions are the tokens. It works in conditions, in `crp.mine`, and wherever
else a concept is accepted.

    python token_concept.py
"""

import torch
from torch import nn

# crp first: it makes zennit importable with a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from crp.concepts import Concept
from zennit.composites import EpsilonPlus


class FeatureConcept(Concept):
    """One feature of all tokens, relevance `[B, T, D]`."""

    def mask(self, batch_id, concept_ids, layer_name=None):
        """Return a function that keeps the relevance of some features."""
        def keep(relevance):
            kept = torch.zeros_like(relevance[batch_id])
            kept[:, list(concept_ids)] = relevance[batch_id][:, list(concept_ids)]
            relevance[batch_id] = kept
            return relevance

        return keep

    def mask_rf(self, batch_id, c_n_map, layer_name=None):
        """Return a function that keeps the relevance of features at some tokens, `{feature: tokens}`."""
        def keep(relevance):
            kept = torch.zeros_like(relevance[batch_id])
            for feature, tokens in c_n_map.items():
                kept[tokens, feature] = relevance[batch_id][tokens, feature]
            relevance[batch_id] = kept
            return relevance

        return keep

    def attribute(self, relevance, mask=None, layer_name=None, abs_norm=True):
        """Return the relevance of each feature, `[B, D]`."""
        totals = (relevance if mask is None else relevance * mask).sum(1)
        return totals / (totals.abs().sum(-1, keepdim=True) + 1e-10) if abs_norm else totals

    def reference_sampling(self, relevance, layer_name=None, max_target="sum", abs_norm=True):
        """Sort samples by the score of each feature; return samples, scores and the strongest token, `[B, D]` each."""
        peaks, tokens = relevance.max(1)
        scores = relevance.sum(1) if max_target == "sum" else peaks
        if abs_norm:
            scores = scores / (scores.abs().sum(-1, keepdim=True) + 1e-10)
        samples = scores.argsort(dim=0, descending=True, stable=True)
        return samples, scores.gather(0, samples), tokens.gather(0, samples)

    def get_rf_indices(self, output_shape, layer_name=None):
        """Return all tokens."""
        return range(output_shape[0])


class Mixer(nn.Module):
    """Patches of 4 x 4 pixels as tokens, their features mixed, then averaged: `[B, 1, 16, 16]` -> `[B, 3]`."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, stride=4, bias=False)
        self.features = nn.Linear(6, 8, bias=False)
        self.relu = nn.ReLU()
        self.head = nn.Linear(8, 3, bias=False)

    def forward(self, data):
        """Return class scores `[B, 3]`."""
        tokens = self.patches(data).flatten(2).transpose(1, 2)
        return self.head(self.relu(self.features(tokens)).mean(1))


def main():
    """Find which features a class used and where; return shares, best features and their heatmaps."""
    torch.manual_seed(1)
    model, concept = Mixer().eval(), FeatureConcept()
    data = torch.rand(1, 1, 16, 16).requires_grad_()
    attribution, composite = CondAttribution(model), EpsilonPlus()
    attr = attribution(data, [{"y": [0]}], composite, record_layer=["features"])
    shares = concept.attribute(attr.relevances["features"])[0]
    best = shares.abs().argsort(descending=True)[:2].tolist()
    conditions = [{"features": [feature], "y": [0]} for feature in best]
    heatmaps = attribution(data, conditions, composite, mask_map=concept.mask).heatmap
    for feature, heatmap in zip(best, heatmaps, strict=True):
        tokens = nn.functional.avg_pool2d(heatmap.abs()[None], 4).flatten()
        print(f"feature {feature}: share {float(shares[feature]):.2f}, strongest at token {int(tokens.argmax())}")
    everything = attribution(
        data, [{"features": range(8), "y": [0]}], composite, mask_map={"features": concept.mask}
    ).heatmap
    return attr, shares, best, heatmaps, everything


if __name__ == "__main__":
    main()
