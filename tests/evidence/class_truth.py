"""What concept vectors and class statistics say of the demo, where the truth is known.

Channel 37 of `conv5` is the tag that octagons carry in training. Made by

    python -m tests.evidence.class_truth > docs/evidence/class-wise-truth.md
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset, Dataset, Subset

import crp
from crp.analysis import redundant, search, similarity, strategies, suspects
from crp.demo import TAGGED_CLASS, Scenes, demo_model
from crp.library import Library

LAYER, TAG = "conv5", 37


def scenes(tagged: int, untagged: int, others: int) -> tuple[Dataset, np.ndarray]:
    """Octagons as in training, octagons without tags and scenes of other classes; and which of them carry a tag."""
    octagons = [range(TAGGED_CLASS, 10 * count, 10) for count in (tagged, untagged)]
    train = Scenes("train", max(10 * tagged, 10 * others))
    never = Scenes("test", 10 * untagged, tag="never")
    rest = [index for index in range(10 * others) if train.scene(index).label != TAGGED_CLASS][:others]
    data = ConcatDataset([Subset(train, octagons[0]), Subset(never, octagons[1]), Subset(train, rest)])
    tags = [train.scene(index).tagged for index in octagons[0]] + [False] * (untagged + len(rest))
    return data, np.array(tags)


def mined(folder: Path, data: Dataset) -> Library:
    """The demo's network mined with vectors."""
    return crp.mine(
        demo_model(),
        data,
        layers=[LAYER],
        path=folder / "demo.crp",
        vectors=True,
        patches=0,
        class_names=Scenes.class_names,
        preprocessing=Scenes.preprocessing,
        progress=False,
    )


def precision(library: Library, tags: np.ndarray, count: int = 100) -> float:
    """Fraction of the strongest samples of the tag concept that carry a tag."""
    return float(tags[search(library.vectors(LAYER), TAG, count=count).sample].mean())


def agreement(library: Library, tags: np.ndarray, clusters: int | None = None) -> tuple[float, float, list[int]]:
    """Compare strategies of octagons with tags: adjusted Rand index (Hubert and Arabie 1985), purity, cluster sizes.

    Purity is the part of octagons that are tagged, or not, as most of their cluster are: it forgives a split.
    """
    vectors = library.vectors(LAYER)
    rows = vectors.rows(target=TAGGED_CLASS)
    cluster = strategies(vectors.relevance[rows], clusters=clusters).cluster
    pure = sum(np.bincount(tags[rows][cluster == number]).max() for number in np.unique(cluster))
    return adjusted_rand(tags[rows], cluster), pure / len(rows), np.bincount(cluster).tolist()


def adjusted_rand(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two partitions on pairs: 0 if expected by chance, 1 if they are equal."""
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one.astype(int), other), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = rows * columns / (len(one) * (len(one) - 1) / 2)
    return (together - chance) / ((rows + columns) / 2 - chance)


def report(tagged: int, untagged: int, others: int) -> list[str]:
    """The figures, as lines of text."""
    with tempfile.TemporaryDirectory() as folder:
        data, tags = scenes(tagged, untagged, others)
        library = mined(Path(folder), data)
        vectors, names = library.vectors(LAYER), library.class_names
        lines = [
            f"{len(tags)} scenes, {tags.sum()} of them tagged; layer {LAYER}, concept {TAG} is the tag",
            "",
            f"reverse search for concept {TAG}: of the first 100 samples {precision(library, tags):.0%} are tagged",
            "",
            "class x concept: the three largest mean shares of each class",
        ]
        for target, name in enumerate(names):
            rows = library.concepts_of(target, LAYER, count=3)
            shares = ", ".join(f"{row.concept} {row.share:+.1%} (sd {row.share_variance**0.5:.1%})" for row in rows)
            lines.append(f"  {name:<20} {shares}")
        first, second = library.classes_of(LAYER, TAG, count=2)
        lines += [
            f"classes of concept {TAG}: {first.target_name} {first.share:+.1%}, "
            f"then {second.target_name} {second.share:+.1%}",
            "",
            "clusters of octagons, compared with whether they are tagged:",
        ]
        for clusters, words in ((2, "two clusters"), (None, "chosen from the eigenvalues")):
            rand, pure, sizes = agreement(library, tags, clusters)
            lines.append(f"  {words}: sizes {sizes}, adjusted Rand index {rand:.3f}, purity {pure:.1%}")
        lines += [
            "",
            "suspects, the first five clusters of all classes:",
        ]
        for suspect in suspects(vectors)[:5]:
            own = len(suspect.samples)
            lines.append(
                f"  {names[suspect.target]:<20} {own} of {own + suspect.others} samples give concept {suspect.concept} "
                f"{suspect.share:.1%} of their relevance, the others {suspect.share_of_others:.1%}"
            )
        dead = library.dead_concepts(LAYER)
        lines += [
            "",
            f"dead concepts: never active {dead.never_active.tolist()}, never relevant {dead.never_relevant.tolist()}",
            f"redundant concepts (cosine of relevance at least 0.9): {redundant(similarity(vectors))}",
        ]
    return lines


if __name__ == "__main__":
    title = f"# Class-wise truth on the demo\n\nMade by `python -m {__spec__.name}`.\n\n"
    sys.stdout.write(f"{title}```text\n" + "\n".join([*report(150, 100, 900), "```", ""]))
