"""Models with one output: a regression `[N]` or `[N, 1]`, a binary logit. Their value is shown, and no percentage."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import crp
from crp.explanations import from_json
from crp.visualization.figures.overview import atlas_figure
from crp.visualization.site.prediction_data import FIELDS


class Regression(nn.Module):
    """Pictures `[N, 3, 8, 8]` to a number each, `[N]` or `[N, 1]`."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.flat = nn.Conv2d(3, 4, 3), nn.Linear(144, 1), flat

    def forward(self, data):
        output = self.head(self.conv(data).relu().flatten(1))
        return output[:, 0] if self.flat else output


DATA = [(torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(i)).double(), 0) for i in range(8)]


def explained(folder, *, flat=False, dtype=torch.float64, **options):
    model = Regression(flat=flat).to(dtype).eval()
    data = [(sample.to(dtype), label) for sample, label in DATA]
    library = crp.mine(
        model,
        data,
        layers=["conv"],
        path=folder / "one.crp",
        targets="prediction",
        patches=1,
        progress=False,
        **options,
    )
    with torch.no_grad():
        value = float(model(data[0][0][None]).flatten())
    return crp.atlas(model, data[0][0], library), value


@pytest.mark.parametrize("flat", [False, True])
def test_the_value_is_kept_and_shown_everywhere(tmp_path, flat):
    atlas, value = explained(tmp_path, flat=flat)
    explanation = atlas.explanation
    assert [(score.name, score.probability) for score in explanation.classes] == [("output", None)]
    assert explanation.best.logit == pytest.approx(value, rel=1e-9)
    shown = f"{value:.3g}".replace("-", "−")
    assert repr(atlas).startswith(f"Atlas: The model sees this input as {shown}")
    texts = [text.get_text() for axes in atlas_figure(explanation).axes for text in axes.texts]
    assert f"The model sees this input as {shown}" in texts
    assert "output of the model" in texts
    assert not {"class probabilities", "class 0", "over 99\N{NO-BREAK SPACE}%"} & set(texts)
    atlas.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    page = re.sub(r"(?s)<(style|script).*?</\1>|<[^>]+>", "", page)
    assert f"The model sees this input as {shown}" in page
    assert "over 99" not in page
    assert "class 0" not in page
    atlas.save(tmp_path / "atlas.json")
    read = from_json(json.loads((tmp_path / "atlas.json").read_text("utf-8")))
    assert read.best == explanation.best


def test_a_named_output_keeps_its_name(tmp_path):
    atlas, value = explained(tmp_path, class_names=["price"])
    assert repr(atlas).startswith(f"Atlas: The model’s value for price is {value:.3g}".replace("-", "−"))


def test_a_site_of_a_regression_shows_values(tmp_path):
    preprocessing = crp.Preprocessing(mean=0.5, std=0.25)
    explained(tmp_path, dtype=torch.float32, preprocessing=preprocessing)  # pictures become float32
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "one.png")
    model, library = Regression(flat=False).eval(), crp.open_library(tmp_path / "one.crp")
    with torch.no_grad():
        value = float(model(preprocessing.to_input(picture)[None]))
    crp.make_site(model, [tmp_path / "one.png"], library, tmp_path / "site", progress=False)
    script = (tmp_path / "site" / "assets" / "predictions.js").read_text("utf-8")
    (row,) = json.loads(script.removeprefix("window.siteIndex = ").rstrip(";\n"))["predictions"]
    shown, probability = row[FIELDS.index("value")], row[FIELDS.index("probability")]
    assert probability is None
    assert float(shown.replace("−", "-")) == pytest.approx(value, rel=5e-3)  # three digits
