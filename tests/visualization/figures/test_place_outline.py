"""The mask or box that is explained, outlined on figures."""

import dataclasses

import numpy as np

import example_explanations as examples
from crp.places import Place, box_place
from crp.visualization.figures import paper


def parts(axes):
    """The axes inside, by label."""
    found = {}
    for child in axes.child_axes:
        found |= {child.get_label(): child, **parts(child)}
    return found


def test_the_mask_or_box_that_is_explained_is_outlined_on_input_relevance_and_concepts():
    explanation = examples.explanation()
    height, width = explanation.heatmap.shape
    mask = np.zeros((height, width), bool)
    mask[2:5, 1:8] = True
    for place in (Place(mask), box_place((1, 2, 8, 5), (height, width))):
        axes = paper.plot_overview(dataclasses.replace(explanation, place=place), width=paper.TWO_COLUMNS)
        outlined = {}
        for name, part in parts(axes).items():
            for line in part.collections:
                if line.get_label() == "place":
                    points = np.concatenate([path.vertices for path in line.get_paths()])
                    outlined[name] = [*points.min(0), *points.max(0)]
        rows = [f"{part.concept} where" for part in explanation.layers[0].ranked[:8]]
        assert set(outlined) - set(rows) == {"input", "relevance"}
        assert set(rows) >= set(outlined) - {"input", "relevance"} != set()
        # imshow puts the centres of pixels at whole numbers
        assert all(box == [0.5, 1.5, 7.5, 4.5] for box in outlined.values())
    without = parts(paper.plot_heatmap(explanation)).values()
    assert "place" not in {line.get_label() for part in without for line in part.collections}
