"""Another score for references: a subclass of `Maximization` that replaces it after `super().__init__`.

Follow-up works rank the samples of a layer before a ReLU by what the ReLU lets through, and do not normalise the
scores. The subclass clamps the values it receives and leaves everything else as it was.

    python clamped_maximization.py --samples 40
"""

import argparse
import tempfile

import numpy as np

# crp first: it makes zennit importable with a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.demo import Scenes, demo_model
from crp.helper import load_maximization
from crp.maximization import Maximization
from crp.visualization import FeatureVisualization
from zennit.composites import EpsilonPlusFlat

# isort: on


class ClampedMaximization(Maximization):
    """Scores only positive values."""

    def analyze_layer(self, rel, concept, layer_name, data_indices, targets):
        """Clamp `rel` at zero, then score as usual."""
        return super().analyze_layer(rel.clamp(min=0), concept, layer_name, data_indices, targets)


class ClampedVisualization(FeatureVisualization):
    """Uses `ClampedMaximization` for activations and keeps ten samples per channel."""

    def __init__(self, *args, path="FeatureVisualization", **options):
        super().__init__(*args, path=path, **options)
        self.ActMax = ClampedMaximization("activation", max_target="sum", abs_norm=False, path=path)
        self.ActMax.SAMPLE_SIZE = 10


def main():
    """Mine, and return the ten best samples of each channel with their scores."""
    parser = argparse.ArgumentParser(description="Mining with a custom score.")
    parser.add_argument("--samples", type=int, default=40)
    arguments = parser.parse_args()
    scenes = Scenes("train", arguments.samples)
    with tempfile.TemporaryDirectory() as folder:
        attribution = CondAttribution(demo_model())
        fv = ClampedVisualization(attribution, scenes, {"conv5": ChannelConcept()}, path=folder)
        fv.run(EpsilonPlusFlat(), 0, len(scenes), batch_size=8)
        samples, scores, _ = (np.array(table) for table in load_maximization(fv.ActMax.PATH, "conv5"))
    print("best of channel 0:", dict(zip(samples[:4, 0].tolist(), scores[:4, 0].tolist(), strict=True)))
    return scenes, samples, scores


if __name__ == "__main__":
    main()
