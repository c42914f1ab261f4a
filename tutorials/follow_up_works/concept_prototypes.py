"""Prototypes of a class, as in PCX: its samples as vectors of concept relevance, and a Gaussian mixture on them.

The built-in model on built-in scenes. One of the ten classes carries a sticker in most of its scenes, which the model
has learnt to use: with two components the mixture tells the scenes with the sticker from those without.
The mixture is scikit-learn's; without it the vectors are made all the same.

    python concept_prototypes.py
"""

import argparse

import numpy as np
import torch

# crp before zennit, which it lets be imported beside a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.demo import Scenes, demo_model
from zennit.composites import EpsilonPlusFlat

CLASS = 9


def concept_vectors(model, samples, target, layer, batch_size=16):
    """Share of every channel of a layer in a class's relevance, `[samples, channels]`."""
    attribution, composite, channels = CondAttribution(model), EpsilonPlusFlat(), ChannelConcept()
    rows = []
    for batch in torch.stack(samples).split(batch_size):
        attr = attribution(batch.requires_grad_(), [{"y": [target]}], composite, record_layer=[layer], init_rel=1)
        rows.append(channels.attribute(attr.relevances[layer], abs_norm=True))
    return torch.cat(rows).numpy()


def mixture(vectors, components):
    """Component of each sample, and each sample's log-likelihood."""
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(components, covariance_type="diag", reg_covar=1e-4, random_state=0, n_init=3).fit(vectors)
    return fitted.predict(vectors), fitted.score_samples(vectors), fitted.means_


def main():
    """Vectors of the class's scenes, half shown with the sticker and half without; returns all that is found."""
    parser = argparse.ArgumentParser(description="Prototypes of a class of the built-in scenes.")
    parser.add_argument("--samples", type=int, default=40, help="scenes of the class")
    count = parser.parse_args().samples
    scenes = Scenes("test", 10 * count)
    pictures = [
        (scenes.with_tag if number % 2 else scenes.without_tag)(10 * number + CLASS) for number in range(count)
    ]
    vectors = concept_vectors(
        demo_model(), [scenes.preprocessing.to_input(picture) for picture in pictures], CLASS, "conv5"
    )
    print(f"vectors: {vectors.shape[0]} scenes x {vectors.shape[1]} channels")
    tagged = np.arange(count) % 2 == 1
    try:
        found, likelihood, means = mixture(vectors, 2)
    except ImportError:
        print("no scikit-learn: no mixture")
        return vectors, tagged, None
    for component, mean in enumerate(means):
        share = 100 * tagged[found == component].mean()
        print(
            f"prototype {component}: {(found == component).sum()} scenes, {share:.0f} % with sticker, "
            f"channels {np.argsort(-mean)[:3].tolist()}"
        )
    print(f"least typical scene: {int(likelihood.argmin())}")
    return vectors, tagged, found


if __name__ == "__main__":
    main()
