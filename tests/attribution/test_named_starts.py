"""Classes and expressions of classes as starts."""

import pytest
import torch

from crp.attribution.named_starts import output_names, start_of
from crp.attribution.starts import ClassInMask, Difference, Distance, Logit, LogOdds, Similarity, Sum
from crp.errors import InputError

NAMES = ["ant", "bee", "cat", "wolf - dog"]
CLASSES, ONE, MAP, TOKENS = (torch.zeros(1, *shape) for shape in ((4,), (1,), (4, 2, 2), (5, 4)))

NAMED = {
    "index": (2, Logit(2)),
    "index as text": ("2", Logit(2)),
    "name": ("bee", Logit(1)),
    "a name that looks like an expression": ("wolf - dog", Logit(3)),
    "difference": ("cat - ant", Difference(Logit(2), Logit(0))),
    "typographic minus": ("cat \N{MINUS SIGN} 1", Difference(Logit(2), Logit(1))),
    "sum": ("ant + bee", Sum([Logit(0), Logit(1)])),
    "several": ("ant - bee + cat - 3", Difference(Sum([Logit(0), Logit(2)]), Sum([Logit(1), Logit(3)]))),
    "against all others": ("bee - others", LogOdds(1)),
}


@pytest.mark.parametrize("kind", NAMED)
def test_what_a_caller_names(kind):
    target, start = NAMED[kind]
    assert start_of(target, NAMES, CLASSES) == start


def test_other_outputs():
    assert start_of("output - 3.5", [], ONE) == Distance(3.5)
    assert start_of("age \N{MINUS SIGN} 40", ["age"], ONE) == Distance(40.0)
    road = start_of("bee", NAMES, MAP)
    assert isinstance(road, ClassInMask)
    assert (road.target, road.mask) == (1, None)
    alike = Similarity(torch.ones(4))
    assert start_of(alike, NAMES, CLASSES) is alike


def test_names_of_outputs():
    assert output_names(["ant"], CLASSES) == ["ant", "class 1", "class 2", "class 3"]
    assert output_names([], ONE) == ["output"]
    assert output_names(NAMES, torch.zeros(1, 1, 4)) == NAMES
    assert output_names(NAMES, MAP) == NAMES


WRONG = {
    "unknown": ("bea", CLASSES, "There is no class 'bea': did you mean 'bee'?"),
    "unknown term": ("ant - bea", CLASSES, "There is no class 'bea': did you mean 'bee'?"),
    "twice": ("ant - bee + ant", CLASSES, "A class is named twice in 'ant - bee + ant'."),
    "others and more": ("ant + others", CLASSES, "There is no class 'others': there are 'ant', 'bee', 'cat', "
                        "'wolf - dog'."),
    "tokens": ("ant", TOKENS, "The model's output is [1, 5, 4], so a class alone does not say where relevance starts: "
               "give a start, such as Token or Box (crp.attribution.starts)."),
    "two classes of a map": ("ant - bee", MAP, "The model's output is [1, 4, 2, 2]; there, one class is named, or a "
                             "start is given, such as ClassInMask (crp.attribution.starts). Given 'ant - bee'."),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_refused(kind):
    target, output, sentence = WRONG[kind]
    with pytest.raises(InputError) as caught:
        start_of(target, NAMES, output)
    assert str(caught.value) == sentence
