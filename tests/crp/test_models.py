"""A prepared model in place of a model, and ids and classes in every form, in each function that takes them."""

import copy
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from zennit.composites import EpsilonPlus, EpsilonPlusFlat, LayerMapComposite
from zennit.rules import Epsilon, Pass
from zennit.types import Activation, Linear

import crp
from crp.analysis import concept_vector, search
from crp.attribution import RelevanceFlow
from crp.errors import InputError, LibraryError, ModelError
from crp.mining import add_patches
from crp.models import PreparedModel, check_composite, described_rules, prepared, ready_model

NAMES = ["ant", "bee", "cat"]
DATA = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(3))
DATASET = TensorDataset(DATA, torch.arange(12) % 3)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))


@pytest.fixture(scope="module")
def model():
    return net().eval()


@pytest.fixture(scope="module")
def mined(model, tmp_path_factory):
    return crp.mine(
        model, DATASET, layers=["0", "2"], path=tmp_path_factory.mktemp("mined") / "a.crp", class_names=NAMES,
        patches=1, vectors=True, patch_concepts={"0": [0], "2": torch.arange(5) % 4 == 0}, progress=False,
    ).path  # fmt: skip


@pytest.fixture
def library(mined, tmp_path):
    return crp.open_library(shutil.copytree(mined, tmp_path / "a.crp"))


def same_graph(ours, theirs):
    assert [node.name for node in ours.nodes] == [node.name for node in theirs.nodes]
    assert [(edge.upper, edge.lower, edge.relevance) for edge in ours.edges] == [
        (edge.upper, edge.lower, edge.relevance) for edge in theirs.edges
    ]


def test_a_prepared_model_gives_what_the_model_gives(model, library):
    ready = prepared(model)
    explained = [crp.explain(each, DATA[0], library, target="bee") for each in (model, ready)]
    assert np.array_equal(explained[0].heatmap, explained[1].heatmap)
    same_graph(*(crp.compose(each, DATA[:2], ["0", "2"], target="bee", library=library) for each in (model, ready)))
    found = [concept_vector(each, DATA[0], library, "2", target="bee") for each in (model, ready)]
    assert np.array_equal(*found)
    assert np.abs(found[0]).sum() == pytest.approx(1)
    assert crp.verify(library, ready, DATASET, blocks=3).sound
    crp.add_patches(library, ready, DATASET, "0", [2], progress=False)
    assert library.with_patches("0") == [0, 2]


def test_one_door_for_all_that_takes_a_model(model, library):
    ready = ready_model(model)
    assert isinstance(ready, PreparedModel)
    assert ready_model(ready) is ready
    for call in (
        lambda given, **options: crp.explain(given, DATA[0], library, **options),
        lambda given, **options: crp.compose(given, DATA[:1], ["0"], target=0, **options),
        lambda given, **options: concept_vector(given, DATA[0], library, "0", **options),
        lambda given, **options: crp.add_patches(library, given, DATASET, "0", [1], **options),
    ):
        sentence = r"^A prepared model has its composite already: give it to crp\.prepared\.$"
        with pytest.raises(InputError, match=sentence):
            call(ready, composite=EpsilonPlus())
        with pytest.raises(InputError, match=r"^A model is a torch\.nn\.Module or made by crp\.prepared, given str\.$"):
            call("resnet18")
        broken = copy.deepcopy(model)
        broken[5].bias.data[1] = torch.nan
        sentence = r"^The model's '5\.bias' holds 1 NaN or infinite values of 3; it cannot be explained\.$"
        with pytest.raises(ModelError, match=sentence):
            call(broken)


def trained(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(DATA).square().sum().backward()
    optimizer.step()


def with_another_head(model):
    model[6] = nn.Linear(80, 3)


def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *net()[1:])


CHANGES = {
    "an optimizer's step": trained,
    "loaded weights": lambda model: model.load_state_dict(normed().double().state_dict()),
    "statistics of a batch norm": lambda model: model.train()(DATA),
    "another module": with_another_head,
    "another dtype": lambda model: model.double(),
    "one value": lambda model: nn.init.zeros_(model[0].weight[0, 0, 0]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_changes_after_it_was_prepared_is_refused(tmp_path, change):
    """Its copy would be a third model: the shared weights as they are, and merged batch norms as they were."""
    model = normed().eval()
    library, without_patches = (
        crp.mine(model, DATASET, layers=["3"], path=tmp_path / name, k=4, patches=2, progress=False) for name in "ab"
    )
    ready = crp.prepared(model)
    first = crp.explain(ready, DATA[0], library)
    model.train().eval().requires_grad_(False).requires_grad_(True)
    assert crp.explain(ready, DATA[0], library).best.logit == first.best.logit
    CHANGES[change](model)
    model.eval()
    sentence = r"^The model was changed after it was prepared or mined \('.*\): prepare it again, and explain with a"
    for use in (
        lambda: crp.explain(ready, DATA[0], library),
        lambda: without_patches.patches("3", 0, "relevance"),
        lambda: RelevanceFlow(ready.replica, None, DATA[:1]),
    ):
        with pytest.raises(ModelError, match=sentence):
            use()


def test_a_deep_copy_of_a_prepared_model_is_prepared_too(tmp_path):
    model = normed().eval()
    library = crp.mine(model, DATASET, layers=["3"], path=tmp_path / "a", k=4, patches=2, progress=False)
    ready = crp.prepared(model)
    first = crp.explain(ready, DATA[0], library)
    again = copy.deepcopy(ready)
    assert again.model is not model
    nn.init.zeros_(model[0].weight[0, 0, 0])
    np.testing.assert_array_equal(crp.explain(again, DATA[0], library).heatmap, first.heatmap)
    with pytest.raises(ModelError, match="changed after it was prepared"):
        copy.deepcopy(ready)


def test_a_library_of_another_model_is_refused_everywhere(library):
    torch.manual_seed(1)
    other = prepared(nn.Sequential(*net()[:5], nn.Linear(80, 3)).eval())
    calls = (
        lambda: crp.explain(other, DATA[0], library),
        lambda: crp.compose(other, DATA[:1], ["0"], target=0, library=library),
        lambda: concept_vector(other, DATA[0], library, "0"),
        lambda: crp.add_patches(library, other, DATASET, "0", [1]),
    )
    for call in calls:
        with pytest.raises(LibraryError, match="was mined with other weights"):
            call()
    assert "was mined with other weights" in crp.verify(library, other).wrong[0]


CLASSES = {
    "name": "bee",
    "digits": "1",
    "int": 1,
    "numpy": np.int64(1),
    "tensor": torch.tensor(1),
    "topk": torch.tensor([0.0, 5.0, 1.0]).topk(1).indices,
    "mask": torch.tensor([False, True, False]),
    "one-hot": torch.tensor([0, 1, 0]),
    "list": [1],
}


@pytest.mark.parametrize("form", CLASSES)
def test_a_class_in_every_form(form, model, library):
    target = CLASSES[form]
    assert crp.explain(model, DATA[0], library, target=target, graph=False).target.index == 1
    against = crp.explain(model, DATA[0], library, target=0, against=target, graph=False)
    assert against.beside[1].against.name == "bee"
    same_graph(
        crp.compose(model, DATA[:1], ["0"], target=target, library=library),
        crp.compose(model, DATA[:1], ["0"], target=1, library=library),
    )
    found = [concept_vector(model, DATA[0], library, "2", target=each) for each in (target, 1)]
    assert np.array_equal(*found)
    assert library.concepts_of(target, "2") == library.concepts_of("bee", "2")
    found = library.class_references("2", target, "relevance")
    assert np.array_equal(found.sample, library.class_references("2", 1, "relevance").sample)


@pytest.mark.parametrize("wrong", [2.7, True, 3, -1, [0, 1], "dog", b"bee", torch.tensor([0.0, 1.0, 0.0])])
def test_what_is_no_class_is_refused(wrong, model, library):
    for call in (
        lambda: library.concepts_of(wrong, "2"),
        lambda: crp.compose(model, DATA[:1], ["0"], target=wrong, library=library),
        lambda: crp.explain(model, DATA[0], library, target=wrong),
    ):
        with pytest.raises(InputError, match=r"class"):
            call()


CONCEPTS = {
    "int": 3,
    "from the end": -2,
    "numpy": np.int32(3),
    "tensor": torch.tensor(3),
    "topk": torch.tensor([0.0, 1.0, 2.0, 9.0, 3.0]).topk(1).indices,
    "mask": np.array([False, False, False, True, False]),
    "range": range(3, 4),
    "slice": slice(3, 4),
}


@pytest.mark.parametrize("form", CONCEPTS)
def test_a_concept_in_every_form(form, model, library):
    concept = CONCEPTS[form]
    crp.add_patches(library, model, DATASET, "2", concept, progress=False)
    assert library.with_patches("2") == [0, 3, 4]
    (patch,), (expected,) = (library.patches("2", each, "relevance") for each in (concept, 3))
    assert (patch.sample, patch.score) == (expected.sample, expected.score)
    assert library.concept("2", concept).concept == 3
    assert library.classes_of("2", concept) == library.classes_of("2", 3)
    vectors = library.vectors("2")
    assert np.array_equal(search(vectors, concept).sample, search(vectors, 3).sample)
    same_graph(
        crp.compose(model, DATA[:1], ["0"], target=1, of=("2", concept)),
        crp.compose(model, DATA[:1], ["0"], target=1, of=("2", 3)),
    )


def test_several_concepts_in_every_form(model, library):
    assert library.with_patches("2") == [0, 4]  # a mask when it was mined
    mask = np.array([False, True, True, False, False])
    for concepts in (torch.tensor([1, 2]), mask, slice(1, 3), range(1, 3), {1, 2}):
        assert library.concept_ids("2", concepts) == (1, 2)
        crp.add_patches(library, model, DATASET, "2", concepts, progress=False)
        assert library.with_patches("2") == [0, 1, 2, 4]


@pytest.mark.parametrize("wrong", [2.0, True, 5, "3", torch.tensor([True, False]), [[1]]])
def test_what_is_no_concept_is_refused(wrong, model, library):
    for call in (
        lambda: library.patches("2", wrong, "relevance"),
        lambda: library.concept("2", wrong),
        lambda: library.classes_of("2", wrong),
        lambda: crp.add_patches(library, model, DATASET, "2", wrong),
        lambda: search(library.vectors("2"), wrong),
        lambda: crp.compose(model, DATA[:1], ["0"], target=1, of=("2", wrong)),
    ):
        with pytest.raises(InputError, match=r"concept|single row"):
            call()
    sentence = "One concept is expected, given 2: [1, 2]."
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        library.patches("2", [1, 2], "relevance")


def test_rows_of_a_class_in_every_form(library):
    vectors = library.vectors("0")
    for label in (2, np.int64(2), torch.tensor(2), torch.tensor([2])):
        assert vectors.rows(label=label).tolist() == [2, 5, 8, 11]


def test_a_composite_with_other_options_of_the_same_rules_is_refused(tmp_path, model):
    options = {"layers": ["0"], "progress": False, "patches": 0}
    library = crp.mine(model, DATASET, composite=EpsilonPlus(epsilon=1e-6), path=tmp_path / "a.crp", **options)
    crp.prepared(model, EpsilonPlus(epsilon=1e-6)).check(library)
    with pytest.raises(LibraryError, match=r"^This is not the composite of the library: its options"):
        crp.prepared(model, EpsilonPlus(epsilon=0.5)).check(library)


class Upwards(nn.Module):
    """Runs its layers in the opposite order of their registration: without an example, `fc` is taken for the first."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)
        self.high = nn.Conv2d(4, 5, 3)
        self.low = nn.Conv2d(3, 4, 3)

    def forward(self, data):
        return self.fc(self.high(self.low(data).relu()).relu().mean((2, 3)))


def test_a_model_prepared_for_a_library_is_observed_as_in_mining(tmp_path):
    torch.manual_seed(0)
    model, data = Upwards().eval(), TensorDataset(torch.rand(4, 3, 8, 8))
    options = dict(layers=["high"], targets="prediction", k=2, patches=1, block_size=4, progress=False)
    library = crp.mine(model, data, path=tmp_path / "a.crp", patch_concepts={"high": [0]}, **options)
    whole = crp.mine(model, data, path=tmp_path / "b.crp", patches_now="all", **options)
    assert library.manifest["composite"]["rules"]["Flat"] == ["low"]
    ready = crp.prepared(model, library=library)
    ready.check(library)
    assert ready.rules["rules"]["Flat"] == ["low"]
    add_patches(library, model, data, "high", range(5), progress=False)
    assert library.file("high", "patches").read_bytes() == whole.file("high", "patches").read_bytes()
    assert crp.verify(library, model, data).sound


def single_rules(model, folder):
    """A library as it was made before rules by purpose: one set of rules, and no entry on ranking."""
    return crp.mine(
        model, DATASET, layers=["0", "2"], path=folder / "old.crp", class_names=NAMES, patches=1, vectors=True,
        composite="epsilon-plus-flat", progress=False,
    )  # fmt: skip


def test_a_library_of_one_set_of_rules_is_explained_with_them(model, library, tmp_path):
    old = single_rules(model, tmp_path)
    assert (old.manifest["composite"]["name"], "ranking" in old.manifest["composite"]) == ("epsilon-plus-flat", False)
    assert library.manifest["composite"]["name"] == "epsilon; maps: epsilon-gamma-flat"
    assert library.manifest["composite"]["ranking"]["Epsilon"] == ["0", "2", "5"]
    assert library.manifest["composite"]["options"]["Epsilon for ranking"] == ["True True 1e-06 False False"]
    with RelevanceFlow(model, EpsilonPlusFlat(), DATA[:1], ["0"]) as flow:
        plus = flow.down(flow.output_relevance([1]), to="0")[0, 0].sum((1, 2)).numpy()
    explained = crp.explain(model, DATA[0], old, target="bee")
    np.testing.assert_allclose(explained.layers[-1].relevance, plus, rtol=1e-4, atol=1e-6)
    assert explained.provenance["settings"]["composite"] == "epsilon-plus-flat"
    other = crp.explain(model, DATA[0], library, target="bee")
    assert not np.allclose(other.layers[-1].relevance, plus, rtol=0.1)
    assert not np.allclose(other.heatmap, explained.heatmap, rtol=0.1)
    crp.add_patches(old, model, DATASET, "0", [2], progress=False)
    assert crp.verify(old, model, DATASET, blocks=3).sound
    assert np.abs(concept_vector(model, DATA[0], old, "2")).sum() == pytest.approx(1)
    longer = TensorDataset(torch.cat([DATA, DATA.flip(0)]), torch.arange(24) % 3)
    extended = crp.mine(
        model, longer, layers=["0", "2"], path=tmp_path / "longer.crp", extend=old.path, class_names=NAMES,
        patches=1, vectors=True, progress=False,
    )  # fmt: skip
    assert extended.manifest["composite"]["name"] == "epsilon-plus-flat"


def test_a_library_with_z_plus_for_maps_is_explained_with_them(model, library, tmp_path):
    """As it was mined by default before gamma was."""
    old = crp.mine(
        model, DATASET, layers=["0", "2"], path=tmp_path / "plus.crp", class_names=NAMES, patches=1,
        composite="by-purpose", progress=False,
    )  # fmt: skip
    assert old.manifest["composite"]["name"] == "epsilon; maps: epsilon-plus-flat"
    assert old.manifest["composite"]["rules"]["ZPlus"] == ["2"]
    found = {}
    for rules in ("by-purpose", "by-purpose-gamma"):
        with RelevanceFlow(model, crp.composite_for(model, rules=rules).composite, DATA[:1], ["0"]) as flow:
            found[rules] = flow.down(flow.output_relevance([1]))[0, 0].sum(0).numpy()
    explained, other = (crp.explain(model, DATA[0], given, target="bee") for given in (old, library))
    np.testing.assert_allclose(explained.heatmap, found["by-purpose"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other.heatmap, found["by-purpose-gamma"], rtol=1e-4, atol=1e-6)
    assert not np.allclose(other.heatmap, explained.heatmap, rtol=0.1)
    assert np.array_equal(explained.layers[0].relevance, other.layers[0].relevance)  # ranked by the same rules
    crp.add_patches(old, model, DATASET, "0", [2], progress=False)
    assert crp.verify(old, model, DATASET, blocks=3).sound
    refused = (
        r"draws heatmaps by 'epsilon-plus-flat', and the model has 'epsilon-gamma-flat': prepare it with "
        r"crp\.prepared\(model, library=library\), or give composite='by-purpose'\.$"
    )
    with pytest.raises(LibraryError, match=refused):
        crp.explain(prepared(model), DATA[0], old)
    ready = prepared(model, library=old)
    assert np.array_equal(crp.explain(ready, DATA[0], old).heatmap, explained.heatmap)


def test_a_model_prepared_with_other_rules_is_refused(model, library, tmp_path):
    old = single_rules(model, tmp_path)
    with pytest.raises(LibraryError, match=r"holds one set of rules, 'epsilon-plus-flat'.*library=library"):
        crp.explain(prepared(model), DATA[0], old)
    ready = prepared(model, library=old)
    assert np.array_equal(crp.explain(ready, DATA[0], old).heatmap, crp.explain(model, DATA[0], old).heatmap)
    with pytest.raises(LibraryError, match=r"^This is not the composite of the library: its name"):
        crp.explain(ready, DATA[0], library)


def test_rankings_by_older_rules_are_not_mixed_with_first_order_effects():
    """Libraries of nets with norms, attention or gates, mined when these were constants for ranking, too."""
    smooth = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten(), nn.Linear(8, 2))
    _, given = described_rules(smooth, None, torch.ones(1, 1, 4, 4))
    assert given["name"] == "first-order; maps: epsilon-plus-flat"
    older = {**given, "name": "epsilon; maps: epsilon-plus-flat", "ranking": {**given["ranking"], "Pass": ["1"]}}
    manifest = {"composite": older, "versions": {}}
    with pytest.raises(LibraryError, match=r"first-order effect.* from an earlier version\. Mine it again\.$"):
        check_composite(SimpleNamespace(path="old.crp", manifest=manifest), given)
    check_composite(SimpleNamespace(path="new.crp", manifest={"composite": given, "versions": {}}), given)


def test_mined_relevance_is_epsilons(model, library):
    with RelevanceFlow(model, LayerMapComposite([(Linear, Epsilon()), (Activation, Pass())]), DATA, ["0", "2"]) as flow:
        arriving = flow.down(flow.output_relevance((torch.arange(12) % 3).tolist()), to=["0", "2"])
    for layer, relevance in arriving.items():
        found = library.references(layer, "relevance")
        sums = relevance[0].sum((2, 3)) / (relevance[0].sum((2, 3)).abs().sum(1, keepdim=True) + 1e-10)
        order = sums.argsort(dim=0, descending=True, stable=True).T
        assert np.array_equal(found.sample[:, : len(DATA)], order.numpy())
        np.testing.assert_allclose(found.score[:, : len(DATA)], sums.T.gather(1, order).numpy(), rtol=1e-4, atol=1e-7)
