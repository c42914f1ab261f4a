"""Samples with several labels, as in multi-label data sets: a subclass says which classes are explained.

Here the labels of the built-in scenes become multi-hot vectors: the class of the scene and the model's two best
classes. Each labelled class is explained separately. A sample that is a reference for several of its classes is listed
once, with its highest score.

    python several_labels.py --samples 40
"""

import argparse
import tempfile

import numpy as np
import torch

# crp first: it makes zennit importable with a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.demo import Scenes, demo_model
from crp.helper import load_maximization, load_stat_targets, load_statistics
from crp.visualization import FeatureVisualization
from zennit.composites import EpsilonPlusFlat

# isort: on


class MultiHot(torch.utils.data.Dataset):
    """Scenes with a vector of zeros and ones as label; every fifth scene has no label."""

    def __init__(self, count, model):
        self.scenes, self.model = Scenes("train", count), model

    def __len__(self):
        return len(self.scenes)

    @torch.no_grad()
    def __getitem__(self, index):
        data, label = self.scenes[index]
        labels = torch.zeros(10, dtype=torch.int64)
        if index % 5:
            labels[label] = 1
            labels[self.model(data[None])[0].topk(2).indices] = 1
        return data, labels


class MultiLabelVisualization(FeatureVisualization):
    """Explains every class whose entry in the label vector is 1."""

    def multitarget_to_single(self, multi_target):
        """Return the classes of a label vector."""
        return np.flatnonzero(multi_target).tolist()


def main():
    """Mine; return the data set, the references of a layer, and those of each class."""
    parser = argparse.ArgumentParser(description="Mining samples with several labels.")
    parser.add_argument("--samples", type=int, default=40)
    arguments = parser.parse_args()
    model = demo_model()
    dataset = MultiHot(arguments.samples, model)
    with tempfile.TemporaryDirectory() as folder:
        fv = MultiLabelVisualization(CondAttribution(model), dataset, {"conv5": ChannelConcept()}, path=folder)
        fv.run(EpsilonPlusFlat(), 0, len(dataset), batch_size=8)
        references = np.array(load_maximization(fv.RelMax.PATH, "conv5")[0])
        of_classes = {
            target: np.array(load_statistics(fv.RelStats.PATH, "conv5", target)[0])
            for target in load_stat_targets(fv.RelStats.PATH).tolist()
        }
    print("references:", references.shape)
    print("samples of each class:", {target: len(samples) for target, samples in of_classes.items()})
    return dataset, references, of_classes


if __name__ == "__main__":
    main()
