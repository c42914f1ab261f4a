"""Prototypes of a class, as in PCX: a Gaussian mixture fitted to the concept relevance vectors of its samples.

It uses the built-in model and scenes. One of the ten classes carries a sticker in most of its training scenes, and the
model has learnt to use it. With two components, the mixture separates the scenes with the sticker from those without.
The mixture is scikit-learn's; without scikit-learn only the vectors are computed.

    python concept_prototypes.py
"""

import argparse

import numpy as np
import torch

# crp first: it makes zennit importable with a CPU build of torch (docs/install.md)
# isort: off
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.demo import Scenes, demo_model
from zennit.composites import EpsilonPlusFlat

CLASS = 9


def concept_vectors(model, samples, target, layer, batch_size=16):
    """Return the share of every channel in the relevance of a layer for a class, `[samples, channels]`."""
    attribution, composite, channels = CondAttribution(model), EpsilonPlusFlat(), ChannelConcept()
    rows = []
    for batch in torch.stack(samples).split(batch_size):
        attr = attribution(batch.requires_grad_(), [{"y": [target]}], composite, record_layer=[layer], init_rel=1)
        rows.append(channels.attribute(attr.relevances[layer], abs_norm=True))
    return torch.cat(rows).numpy()


def mixture(vectors, components):
    """Return the component and log-likelihood of each sample, and the means of the components."""
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(components, covariance_type="diag", reg_covar=1e-4, random_state=0, n_init=3).fit(vectors)
    return fitted.predict(vectors), fitted.score_samples(vectors), fitted.means_


def main():
    """Fit the mixture to scenes of the class, half of them with the sticker; return vectors, stickers, components."""
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
        print("scikit-learn is not installed: no mixture")
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
