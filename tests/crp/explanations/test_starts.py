"""`explain` starts at masks, embeddings, tokens and several classes; the values, JSON and page say what started."""

import dataclasses
import json
import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

import crp
from crp.attribution import RelevanceFlow, composite_for
from crp.attribution.starts import ClassInMask, Difference, Logit, LogOdds, Similarity, Token
from crp.errors import InputError
from crp.explanations import StartScore, from_json, to_json
from crp.explanations.entries import entry_from, entry_numbers, entry_of
from crp.mining import AttributionTarget
from crp.visualization.atlases import Atlas
from crp.visualization.figures.overview import atlas_figure

NAMES = ["sky", "road", "tree"]


class Segmentation(nn.Module):
    """Pictures to `{"out": [N, 3, 8, 8]}`."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)

    def forward(self, data):
        return {"out": self.head(self.relu(self.conv(data)))}


class Embedding(nn.Module):
    """Pictures to embeddings of length 1."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, data):
        return normalize(self.head(self.conv(data).relu().mean((2, 3))), dim=-1)


class Tokens(nn.Module):
    """Pictures to tokens `[N, 4, 3]`."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 3)

    def forward(self, data):
        return self.head(self.conv(data).relu().flatten(2).transpose(1, 2))


def classifier():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def picture(seed):
    return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)).double()


def made(kind):
    torch.manual_seed(1)
    model = kind().double().eval()
    return crp.select_output(model, "out") if kind is Segmentation else model


def everything(prediction, labels):
    """A target that holds for any output: the whole of it."""
    return AttributionTarget(np.zeros(len(prediction), dtype=int), prediction)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    found = {}
    for kind in (Segmentation, Embedding, Tokens, classifier):
        model = made(kind)
        found[kind] = model, crp.mine(
            model,
            [(picture(seed), seed % 3) for seed in range(6)],
            layers=["0" if kind is classifier else "conv"],
            path=tmp_path_factory.mktemp("starts") / "library.crp",
            targets="label" if kind is classifier else everything,
            class_names=None if kind is Embedding else NAMES,
            patches=1,
            progress=False,
        )
    return found


MASK = np.zeros((8, 8), dtype=bool)
MASK[2:6, 1:5] = True

CASES = {
    "mask": (Segmentation, ClassInMask(1, MASK, "the crossing"), "road inside the crossing"),
    "class of a segmentation": (Segmentation, "sky", "sky where it is predicted"),
    "two masks": (Segmentation, Difference(ClassInMask(1, MASK), ClassInMask(0, MASK)),
                  "road inside the mask − sky inside the mask"),
    "similarity": (Embedding, Similarity(torch.linspace(-1, 1, 5), "photo 3.jpg"), "similarity to photo 3.jpg"),
    "token": (Tokens, Token(2, 1), "road at token 2"),
    "log-odds": (classifier, "road - others", "road against all others"),
    "several classes": (classifier, "road + tree", "road + tree"),
}  # fmt: skip


def start_in(case):
    kind, target, name = CASES[case]
    start = {
        "sky": ClassInMask(0),
        "road - others": LogOdds(1),
        "road + tree": lambda output: output * torch.tensor([0.0, 1, 1]),
    }.get(target if isinstance(target, str) else None, target)
    return kind, target, getattr(start, "relevance", start), name


@pytest.fixture(scope="module")
def explained(libraries):
    """The explanation of a case, made once."""

    @cache
    def of(case):
        kind, target, _, _ = start_in(case)
        model, library = libraries[kind]
        return crp.explain(model, picture(9), library, target=target)

    return of


@pytest.mark.parametrize("case", CASES)
def test_an_explanation_starts_at(libraries, explained, case):
    kind, _, relevance, name = start_in(case)
    model, explanation = libraries[kind][0], explained(case)
    with torch.no_grad():
        output = model(picture(9)[None])
    started = relevance(output)
    # how many outputs the number is the sum of, where it is one: a difference and log-odds are not
    summed = torch.equal(started, output * (started != 0))
    outputs = int((started != 0).sum()) if summed else None
    assert explanation.target == StartScore(name, explanation.target.value, outputs)
    assert summed == (case not in ("two masks", "similarity", "log-odds"))
    assert explanation.target.value == pytest.approx(float(started.sum()), rel=1e-12)
    # the heatmap is that of the flow, and what it lacks is accounted for
    with RelevanceFlow(model, composite_for(model, picture(9)[None]).composite, picture(9)[None]) as flow:
        heatmap = flow.down(started[None])[0, 0].sum(0)
        assert abs(flow.ledger(started[None]).unaccounted) < 1e-9 * float(started.abs().sum())
    np.testing.assert_allclose(explanation.heatmap, heatmap, rtol=1e-5, atol=1e-9)
    assert explanation.absorbed == pytest.approx(1 - float(heatmap.sum() / started.sum()), rel=1e-9)
    assert explanation.graph.root.name == name
    assert explanation.graph.started == pytest.approx(float(started.sum()), rel=1e-9)
    # classes have probabilities only where the output holds their logits
    assert [score.index for score in explanation.classes] == (
        output[0].argsort(descending=True).tolist() if kind is classifier else []
    )


@pytest.mark.parametrize("case", CASES)
def test_json_and_summaries_keep_the_start(explained, case):
    explanation = explained(case)
    content = json.loads(json.dumps(to_json(explanation)))
    assert content["target"] == dataclasses.asdict(explanation.target)
    again = from_json(content)
    assert (again.target, again.classes) == (explanation.target, explanation.classes)
    entry = entry_of(explanation, "a.png", "a")
    kept = entry_from(json.loads(json.dumps(entry_numbers(entry))))
    assert dataclasses.replace(kept, uses=entry.uses) == entry
    assert kept.uses.keys() == entry.uses.keys()
    for layer, uses in entry.uses.items():
        assert [concept for concept, _ in kept.uses[layer]] == [concept for concept, _ in uses]
        # cut off at steps of 1 / UNIT
        np.testing.assert_allclose([s for _, s in kept.uses[layer]], [s for _, s in uses], atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_page_and_figure_name_the_start_and_no_predicted_class(explained, case):
    kind, _, _, name = start_in(case)
    explanation = explained(case)
    page = re.sub(r"<script.*?</script>", "", Atlas(explanation).html(), flags=re.DOTALL)
    # the start is named above the layers
    figure = atlas_figure(dataclasses.replace(explanation, layers=(), graph=None))
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    shown = f"{explanation.target.value:.3g}".replace("-", "−")
    assert f"<bdi>{name}</bdi>" in page
    assert shown in texts
    assert f'<span class="value">{shown}</span>' in page
    if kind is classifier:
        assert "The model sees " in page
        assert "Class probabilities (softmax), and what is explained" in page
    else:
        assert f'<h1><bdi class="name">{name}</bdi>: {shown}</h1>' in page
        for word in ("probabilit", "predicted class", "The model sees", "logit"):
            assert word not in page, word


def test_a_start_against_another_one(libraries):
    model, library = libraries[Segmentation]
    road, sky = ClassInMask(1, MASK), ClassInMask(0, MASK)
    explanation = crp.explain(model, picture(9), library, target=road, against=sky)
    second, difference = explanation.beside
    assert (explanation.target.name, second.target.name) == ("road inside the mask", "sky inside the mask")
    assert (difference.target, difference.against) == (explanation.target, second.target)
    np.testing.assert_allclose(difference.heatmap, explanation.heatmap - second.heatmap, rtol=0, atol=1e-6)
    again = from_json(to_json(explanation)).beside[1]
    assert (again.target, again.against) == (difference.target, difference.against)
    page = crp.atlas(model, picture(9), library, target=road, against=sky).html()
    assert "Why <bdi>road inside the mask</bdi> and not <bdi>sky inside the mask</bdi>?" in page
    with pytest.raises(InputError, match=r"^target and against are the same start, 'road inside the mask'\.$"):
        crp.explain(model, picture(9), library, target=road, against=ClassInMask(1, MASK))


def test_a_class_given_as_a_start_is_the_class(libraries):
    model, library = libraries[classifier]
    by_name = crp.explain(model, picture(9), library, target="road")
    by_start = crp.explain(model, picture(9), library, target=Logit(1))
    assert to_json(by_start) == to_json(by_name)


def test_the_start_is_in_the_fingerprints(libraries):
    model, library = libraries[Embedding]
    found = [
        crp.explain(model, picture(9), library, target=Similarity(reference)).provenance["fingerprints"]["start"]
        for reference in (torch.ones(5), torch.ones(5), torch.linspace(-1, 1, 5))
    ]
    assert found[0] == found[1] != found[2]


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A start of another shape than the output."""

    def relevance(self, prediction):
        return prediction[:, :1]

    def name(self, class_names):
        return "a part"


REFUSED = {
    "no class": (Segmentation, None, r"^The model's output is \[1, 3, 8, 8\] and not \[N, classes\], so it has no "
                 r"predicted class: give as target= a class of a segmentation, or a start"),
    "size": (Segmentation, ClassInMask(1, np.ones((4, 4))), r"^The mask has the size \[4, 4\], and the model's output "
             r"has \[8, 8\]: a mask has the size of the output, after preprocessing\.$"),
    "class": (Segmentation, "rode", r"^There is no class 'rode': did you mean 'road'\?$"),
    "predicted nowhere": (Segmentation, "tree", r"^No relevance starts for 'tree where it is predicted': the model's "
                          r"output is zero there, or the class is predicted nowhere\.$"),
    "class of a token": (Tokens, "road", r"^The model's output is \[1, 4, 3\], so a class alone does not say"),
    "zero": (Embedding, Similarity(torch.zeros(5)), r"needs embeddings that are not zero, and the reference is zero"),
    "shape": (classifier, Wrong(), r"^'a part' starts relevance of shape \[1, 1\]; finite relevance of the output's "
              r"shape \[1, 3\] is needed\.$"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(libraries, case):
    kind, target, sentence = REFUSED[case]
    model, library = libraries[kind]
    with pytest.raises(InputError, match=sentence):
        crp.explain(model, picture(9), library, target=target)
