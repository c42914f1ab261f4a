"""Code for the zennit that zennit-crp pins (0.4.6) runs with the newer one, and code for the newer one as before."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from zennit import composites, rules
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.types import Convolution

import crp.attribution  # noqa: F401  (accepts the old calls)
from crp.compat import accept_old_zennit_calls
from tests import processes

CANONIZERS = [SequentialMergeBatchNorm()]
FIRST = [
    "DeconvNet",
    "EpsilonAlpha2Beta1",
    "EpsilonAlpha2Beta1Flat",
    "EpsilonPlus",
    "EpsilonPlusFlat",
    "ExcitationBackprop",
    "GuidedBackprop",
]


def rules_of(composite):
    """Rule and parameters of each kind of layer."""
    return [(kinds, type(rule).__name__) for kinds, rule in composite.layer_map]


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("given", [CANONIZERS, tuple(CANONIZERS), [], None], ids=["list", "tuple", "empty", "None"])
def test_canonizers_come_first(name, given):
    kind = getattr(composites, name)
    assert list(kind(given).canonizers) == list(given or [])
    assert rules_of(kind(given)) == rules_of(kind(canonizers=list(CANONIZERS)))


def test_canonizers_of_the_box_composite_come_third():
    low, high = torch.zeros(1), torch.ones(1)
    assert composites.EpsilonGammaBox(low, high, CANONIZERS).canonizers == CANONIZERS
    assert composites.EpsilonGammaBox(low, high, 0.5, canonizers=CANONIZERS).canonizers == CANONIZERS


def test_calls_of_the_newer_zennit_keep_their_meaning():
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2)
    model = nn.Sequential(layer)
    for composite in (composites.EpsilonPlus(2.0), composites.EpsilonPlus(epsilon=2.0, canonizers=CANONIZERS)):
        data = torch.ones(1, 1, requires_grad=True)
        with composite.context(model) as modified:
            modified(data).sum().backward()
        assert data.grad.tolist() == [[0.5]]  # 1 * 2 / (2 + 2)
    own = (nn.ReLU, rules.Pass())
    assert composites.DeconvNet([own]).layer_map[0] is own
    assert composites.EpsilonPlusFlat(1e-6, 1e-6, [own], None, None, CANONIZERS).canonizers == CANONIZERS
    assert next(iter(inspect.signature(composites.EpsilonPlusFlat).parameters)) == "epsilon"
    with pytest.raises(TypeError):
        composites.EpsilonPlusFlat(1e-6, 1e-6, [own], None, None, CANONIZERS, "one too many")


def test_the_list_of_basic_rules():
    base = composites.LAYER_MAP_BASE
    assert [(kinds, type(rule)) for kinds, rule in base] == [
        (kinds, type(rule)) for kinds, rule in composites.layer_map_base()
    ]
    # as PCX, PURE and L-CRP extend it
    layers = base + [(Convolution, rules.Gamma()), (nn.Linear, rules.Epsilon())]  # noqa: RUF005  (as they write it)
    composite = composites.SpecialFirstLayerMapComposite(layers, [(Convolution, rules.Flat())], CANONIZERS)
    assert composite.canonizers == CANONIZERS


def test_once_is_enough():
    before = composites.EpsilonPlusFlat.__init__
    accept_old_zennit_calls()
    assert composites.EpsilonPlusFlat.__init__ is before


@pytest.mark.parametrize("module", ["hooks", "helper"])
def test_zennit_alone_is_left_as_it_is(module):
    """`import crp` changes nothing; an old module that needs zennit does."""
    program = (
        "import sys, crp; crp.InputError\n"
        "assert 'zennit' not in sys.modules\n"
        f"import crp.{module}\n"
        "from zennit.composites import LAYER_MAP_BASE, EpsilonPlusFlat\n"
        "assert EpsilonPlusFlat([]).canonizers == []"
    )
    done = processes.run(["-c", program], cwd=processes.ROOT, imported=("torch",))
    assert done.returncode == 0, done.stderr


def test_the_imports_of_the_tutorial_on_attributions():
    """Their order in zennit-crp's notebook: `crp.concepts`, torchvision, zennit, `crp.attribution`, then the call."""
    program = (
        "from crp.concepts import ChannelConcept\n"
        "from torchvision.models.vgg import vgg16_bn\n"
        "from zennit.composites import EpsilonPlusFlat\n"
        "from zennit.canonizers import SequentialMergeBatchNorm\n"
        "from crp.attribution import CondAttribution\n"
        "assert len(EpsilonPlusFlat([SequentialMergeBatchNorm()]).canonizers) == 1"
    )
    done = processes.run(["-c", program], cwd=processes.ROOT, imported=("torch",))
    assert done.returncode == 0, done.stderr
