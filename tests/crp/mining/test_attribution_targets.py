"""Several targets per sample, regressions, outputs that are maps, compared with a naive computation."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from zennit.composites import EpsilonPlusFlat

import crp
from crp.errors import InputError, LibraryError, SampleError
from crp.mining import AttributionTarget, Question, add_patches, mine
from crp.mining.targets import attribution_targets

from .conftest import LAYERS, naive_pass, recording

K = 4
LABELS = [[0], [1, 3], [], [2, 0, 1], [3], [0, 2], [1], [2, 3]]


class Labelled:
    """Samples with any kind of label."""

    def __init__(self, data, labels):
        self.data, self.labels = data, labels

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index], self.labels[index]


def mined(model, dataset, path, **options):
    given = {"layers": LAYERS, "path": path, "progress": False, "block_size": 8, "k": K, "patches": 1}
    return mine(model, dataset, **{**given, "composite": EpsilonPlusFlat(), **options})


def several(count):
    return [LABELS[index % len(LABELS)] for index in range(count)]


def multi_hot(labels):
    return [torch.tensor([float(index in label) for index in range(4)]) for label in labels]


@pytest.fixture(scope="module")
def passes(model, dataset):
    """By sample, class and layer: shares, activation scores and relevance scores `[C]`, float64."""
    found = {}
    for sample, data in enumerate(dataset.tensors[0]):
        for target in range(4):
            activation, relevance, _ = naive_pass(model, data, target)
            for layer in LAYERS:
                total = relevance[layer][0].reshape(relevance[layer].shape[1], -1).sum(1)
                peak = activation[layer][0].detach().reshape(len(total), -1).max(1).values
                score = total / (total.abs().sum() + 1e-10)  # as `crp.mining.scores` defines it
                found[sample, target, layer] = shared(total), peak.numpy(), score.numpy()
    return found


def shared(total):
    """Signed shares of sums `[C]`; 0 where no relevance arrives."""
    absolute = total.abs().sum()
    return (total / absolute if absolute > 0 else torch.zeros_like(total)).numpy()


def check_by_brute_force(library, passes, labels):
    """Compare references, targets and statistics of a library that explains the classes labels[i] of sample i."""
    for layer in LAYERS:
        statistics = library.statistics(layer)
        for target in range(4):
            own = [sample for sample, label in enumerate(labels) if target in label]
            assert statistics.count[target] == len(own)
            expected = np.mean([passes[sample, target, layer][0] for sample in own], axis=0) if own else 0
            np.testing.assert_allclose(statistics.share[target], expected, atol=1e-8)
        best = library.references(layer, "relevance")
        seen = library.references(layer, "activation")
        for concept in range(len(best.sample)):
            # every sample once, with the class for which it scores highest
            rows = [
                max((passes[sample, target, layer][2][concept], -place, target) for place, target in enumerate(label))
                for sample, label in enumerate(labels)
                if label
            ]
            samples = [sample for sample, label in enumerate(labels) if label]
            order = sorted(range(len(rows)), key=lambda row: (-np.float32(rows[row][0]), samples[row]))[:K]
            assert best.sample[concept].tolist() == [samples[row] for row in order]
            assert best.target[concept].tolist() == [rows[row][2] for row in order]
            np.testing.assert_allclose(best.score[concept], [rows[row][0] for row in order], atol=1e-6)
            # activation does not depend on the class: every sample once, including those without a label
            peaks = [passes[sample, 0, layer][1][concept] for sample in range(len(labels))]
            order = sorted(range(len(peaks)), key=lambda sample: (-np.float32(peaks[sample]), sample))[:K]
            assert seen.sample[concept].tolist() == order
            assert seen.target[concept].tolist() == [labels[sample][0] if labels[sample] else -1 for sample in order]


def test_samples_with_several_labels(model, dataset, passes, tmp_path):
    data = dataset.tensors[0]
    labels = several(len(data))
    library = mined(model, Labelled(data, labels), tmp_path / "a.crp")
    check_by_brute_force(library, passes, labels)
    assert crp.verify(library, model, Labelled(data, labels), composite=EpsilonPlusFlat(), blocks=10).sound
    # vectors of 0 and 1 give the same, apart from the order of labels
    ordered = [sorted(label) for label in labels]
    listed = mined(model, Labelled(data, ordered), tmp_path / "b.crp")
    hot = mined(model, Labelled(data, multi_hot(labels)), tmp_path / "c.crp")
    tables = [table.relative_to(hot.path) for table in sorted(hot.path.rglob("*.safetensors"))]
    assert len(tables) == 16
    for table in tables:
        assert (listed.path / table).read_bytes() == (hot.path / table).read_bytes()


def test_every_label_has_references_and_vectors_are_of_the_first_label(model, dataset, passes, tmp_path):
    labels = several(len(dataset))
    options = {"vectors": True, "class_references": 2, "patches": 0, "k": 60}
    library = mined(model, Labelled(dataset.tensors[0], labels), tmp_path / "a.crp", **options)
    for layer in LAYERS:
        vectors = library.vectors(layer)
        firsts = [label[0] if label else -1 for label in labels]
        assert vectors.target.tolist() == firsts
        for sample, first in enumerate(firsts):
            expected = passes[sample, first, layer][0] if first >= 0 else 0
            np.testing.assert_allclose(vectors.relevance[sample], expected, rtol=2.0**-11, atol=1e-8)
            peaks = passes[sample, 0, layer][1]
            np.testing.assert_allclose(vectors.activation[sample], peaks, rtol=2.0**-11, atol=1e-6)
        for direction, mode in ((1, "relevance"), (-1, "negative")):
            overall = library.references(layer, mode)
            for concept in range(overall.sample.shape[0]):
                best = {}  # by sample, over all its labels
                for target in range(4):
                    own = [sample for sample, label in enumerate(labels) if target in label]
                    scores = {sample: direction * passes[sample, target, layer][2][concept] for sample in own}
                    if mode == "negative":
                        scores = {sample: score for sample, score in scores.items() if score > 0}
                    order = sorted(scores, key=lambda sample: (-np.float32(scores[sample]), sample))
                    found = library.class_references(layer, target, mode).sample[concept]
                    assert found.tolist() == [*order, -1, -1][:2]
                    for sample, score in scores.items():
                        best[sample] = max(score, best.get(sample, -np.inf))
                order = sorted(best, key=lambda sample: (-np.float32(best[sample]), sample))[:60]
                assert overall.sample[concept].tolist() == order + [-1] * (60 - len(order))
                np.testing.assert_allclose(
                    direction * overall.score[concept, : len(order)], [best[one] for one in order], atol=1e-6
                )


def test_lists_hold_a_sample_with_several_labels_once(model, dataset, tmp_path):
    labels = several(len(dataset))
    library = mined(model, Labelled(dataset.tensors[0], labels), tmp_path / "a.crp", k=30, patches=0)
    for layer in LAYERS:
        for mode in ("relevance", "activation"):
            for row in library.references(layer, mode).sample:
                assert len(set(row.tolist())) == 30


def test_several_predictions(model, dataset, truth, passes, tmp_path):
    labels = np.argsort(-truth.prediction, axis=1, kind="stable")[:, :2].tolist()
    library = mined(model, dataset, tmp_path / "a.crp", targets="top2")
    assert library.manifest["settings"]["targets"] == "top2"
    check_by_brute_force(library, passes, labels)
    # a function that returns the same classes, with one repeated and one place empty
    data = dataset.tensors[0]

    def two(prediction, labels):
        best = prediction.argsort(dim=1, descending=True, stable=True)
        return torch.stack([best[:, 0], torch.full_like(best[:, 0], -1), best[:, 1], best[:, 0]], 1)

    again = mined(model, TensorDataset(data), tmp_path / "b.crp", targets=two)
    for table in sorted(library.path.rglob("*.safetensors")):
        assert table.read_bytes() == (again.path / table.relative_to(library.path)).read_bytes()


def test_functions_receive_all_labels():
    seen = []

    def rule(prediction, labels):
        seen.append(labels.tolist())
        return labels

    prediction = torch.rand(2, 4)
    (first, second) = attribution_targets(rule, prediction, torch.tensor([[3, 1], [2, -1]]), torch.arange(2))
    assert seen == [[[3, 1], [2, -1]]]
    assert (first.targets.tolist(), second.targets.tolist()) == ([3, 2], [1, -1])
    assert torch.equal(second.relevance, torch.tensor([[0, 1.0, 0, 0], [0] * 4]) * prediction)
    assert attribution_targets("label", prediction, torch.tensor([[-1], [-1]]), torch.arange(2)) == []


@pytest.mark.parametrize("shape", ["[N]", "[N, 1]"])
def test_a_regression_starts_its_value_with_its_sign(model, dataset, truth, shape, tmp_path):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.linear2.bias[2] -= float(np.sort(truth.prediction[:, 2])[37:39].mean())  # values of both signs

    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.shape = model, shape

        def forward(self, data):
            value = self.net(data)[:, 2]
            return value if shape == "[N]" else value[:, None]

    data = dataset.tensors[0]
    layers = [f"net.{layer}" for layer in LAYERS]
    library = mined(Regression(), TensorDataset(data), tmp_path / "a.crp", layers=layers, targets="prediction", k=75)
    assert library.manifest["classes"] == 1
    assert library.manifest["settings"]["start"] == "logit"
    found = library.references("net.linear1", "relevance")
    totals = [naive_pass(model, sample, 2)[1]["linear1"][0].numpy() for sample in data]
    values = model(data)[:, 2].tolist()
    assert min(values) < 0 < max(values)
    for concept in range(5):
        scores = [shared(torch.from_numpy(total))[concept] for total in totals]
        np.testing.assert_allclose(found.score[concept], sorted(scores, reverse=True), atol=1e-6)
    # for a negative value, what contributes to it has negative relevance
    prediction = torch.tensor(values)[:, None]
    (target,) = attribution_targets("prediction", prediction, torch.full((75,), -1), torch.arange(75))
    assert torch.equal(target.relevance, prediction)
    explained = crp.explain(Regression(), data[0], library, composite=EpsilonPlusFlat())
    assert explained.target.logit == pytest.approx(values[0])


class Segmenter(nn.Module):
    """Classes per pixel, `[N, 3, 8, 8]` for samples `[N, 2, 10, 10]`."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Conv2d(5, 3, 3, bias=False)
        self.head.weight.data -= self.head.weight.data.mean(0)  # so that no class covers everything

    def forward(self, data):
        return self.head(self.relu(self.conv(data)))


def segments(prediction, labels):
    """Start the positive logits of each class at the pixels that are predicted as it."""
    best = prediction.argmax(1)
    for target in range(prediction.shape[1]):
        mask = best == target
        start = torch.zeros_like(prediction)
        start[:, target] = prediction[:, target].clamp(min=0) * mask
        yield AttributionTarget(np.where(mask.flatten(1).sum(1) > 4, target, -1), start)


class Detector(nn.Module):
    """Boxes `[N, 9, 4 + 2]`: four coordinates and a score for each of two classes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, stride=3)
        self.relu = nn.ReLU()
        self.head = nn.Conv2d(5, 6, 1)

    def forward(self, data):
        return self.head(self.relu(self.conv(data))).flatten(2).transpose(1, 2)


def boxes(prediction, labels):
    """Start the score of the best box of each class."""
    found = []
    for target in range(2):
        scores = prediction[..., 4 + target]
        start = torch.zeros_like(prediction)
        rows, places = torch.arange(len(scores)), scores.argmax(1)
        start[rows, places, 4 + target] = scores[rows, places]
        found.append(AttributionTarget(np.full(len(scores), target), start))
    return tuple(found)


TASKS = {"segmentation": (Segmenter, segments, ["sky", "sea", "sand"]), "detection": (Detector, boxes, ["cat", "dog"])}


@pytest.mark.parametrize("task", TASKS)
def test_relevance_that_a_function_starts(task, dataset, tmp_path):
    kind, rule, names = TASKS[task]
    torch.manual_seed(7)
    net, data = kind().double().eval(), dataset.tensors[0]
    options = {"layers": ["conv"], "targets": rule, "class_names": names, "patch_concepts": {"conv": [0]}}
    library = mined(net, TensorDataset(data), tmp_path / "a.crp", **options)
    assert (library.manifest["classes"], library.manifest["settings"]["start"]) == (len(names), "function")

    scores = {}
    for sample in range(len(data)):
        with EpsilonPlusFlat().context(net):
            outputs, (handle,) = recording(net, ["conv"])
            output = net(data[sample][None].clone().requires_grad_())
            handle.remove()
            for target in [*rule(output.detach(), None)]:
                if target.targets[0] >= 0:
                    start = {"grad_outputs": target.relevance, "retain_graph": True}
                    (arriving,) = torch.autograd.grad(output, outputs["conv"], **start)
                    total = arriving[0].sum((1, 2))
                    scores[sample, int(target.targets[0])] = shared(total)
    assert len({target for _, target in scores}) == len(names)
    statistics, found = library.statistics("conv"), library.references("conv", "relevance")
    for target in range(len(names)):
        own = [score for (_, of), score in scores.items() if of == target]
        assert statistics.count[target] == len(own)
        np.testing.assert_allclose(statistics.share[target], np.mean(own, axis=0), atol=1e-8)
    for concept in range(5):
        best = {}
        for (sample, target), score in scores.items():
            best[sample] = max(best.get(sample, (-np.inf, 0)), (score[concept], -target))
        order = sorted(best, key=lambda sample: (-np.float32(best[sample][0]), sample))[:K]
        assert found.sample[concept].tolist() == order
        assert found.target[concept].tolist() == [-best[sample][1] for sample in order]
        np.testing.assert_allclose(found.score[concept], [best[sample][0] for sample in order], atol=1e-6)

    # `add_patches` needs the function, and makes the patches that `mine` makes
    every = {**options, "patch_concepts": None, "patches_now": "all"}
    whole = mined(net, TensorDataset(data), tmp_path / "b.crp", **every)
    given = {"composite": EpsilonPlusFlat(), "progress": False}
    with pytest.raises(LibraryError, match=f"by the function '.*{rule.__name__}': pass that function as targets="):
        add_patches(library, net, TensorDataset(data), "conv", range(5), **given)
    add_patches(library, net, TensorDataset(data), "conv", range(5), targets=rule, **given)
    assert library.file("conv", "patches").read_bytes() == whole.file("conv", "patches").read_bytes()
    assert crp.verify(library, net, TensorDataset(data), composite=EpsilonPlusFlat(), targets=rule).sound


NEEDED = r"needs finite relevance of the output's shape \[2, 3, 4\]\.$"
WRONG = {
    "class": ([0, 3], lambda output: output, SampleError, r"^Sample 9 is to be explained for class 3, but"),
    "fraction": ([0.5, 1], lambda output: output, InputError, r"has targets float64 of shape \[2\]; 2 whole numbers"),
    "shape": ([0, 1], lambda output: output[:1], InputError, NEEDED),
    "infinite": ([0, 1], lambda output: output / 0, InputError, NEEDED),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_attribution_target_that_does_not_fit_is_refused(wrong):
    targets, relevance, error, sentence = WRONG[wrong]
    prediction = torch.rand(2, 3, 4)
    target = AttributionTarget(np.array(targets), relevance(prediction))
    with pytest.raises(error, match=sentence):
        attribution_targets(lambda p, y: [target], prediction, torch.tensor([0, 1]), torch.tensor([8, 9]))


def test_results_of_rules_that_do_not_fit_the_output_are_refused():
    prediction, labels, samples = torch.rand(2, 3, 4), torch.tensor([0, 1]), torch.tensor([8, 9])
    with pytest.raises(InputError) as caught:
        attribution_targets("label", prediction, labels, samples)
    assert str(caught.value) == (
        "The rule 'label' explains classes of an output [N, classes], but the model's output is [2, 3, 4]: "
        "give targets= a function that returns crp.mining.AttributionTarget."
    )
    with pytest.raises(InputError, match=r"returned a dict; whole numbers \(one or several per sample\) or crp"):
        attribution_targets(lambda p, y: {}, prediction[:, 0], labels, samples)


def test_samples_without_a_target_start_no_relevance():
    prediction, labels, samples = torch.rand(2, 3, 4), torch.tensor([0, 1]), torch.tensor([8, 9])
    (target,) = attribution_targets(lambda p, y: AttributionTarget([-1, 2], p), prediction, labels, samples)
    assert target.targets.tolist() == [-1, 2]
    assert target.relevance[0].abs().max() == 0
    assert torch.equal(target.relevance[1], prediction[1])


def test_the_old_name_of_attribution_target():
    assert Question is AttributionTarget
