"""Modules that a model hides, wraps or compiles; and models that are refused in a sentence."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crp.attribution import RelevanceFlow, composite_for
from crp.errors import ModelError
from tests.oracle.comparing import assert_relevance_close

DATA = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def net(convolutional_head: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()
    end = (nn.Conv2d(4, 3, 4), nn.Flatten()) if convolutional_head else (nn.Flatten(), nn.Linear(64, 3))
    return nn.Sequential(*body, *end).double().eval()


def heatmap(model: nn.Module) -> Tensor:
    with RelevanceFlow(model, composite_for(model).composite, DATA) as flow:
        assert flow.notes == ()
        return flow.down(flow.output_relevance([0, 1]))


class Parts(nn.Module):
    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, data: Tensor) -> Tensor:
        return self.head(self.body(data))


class Hidden(nn.Module):
    """Runs a module that it has registered through a function."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.run = inner, functools.partial(inner)

    def forward(self, data: Tensor) -> Tensor:
        return self.run(data)


def compiled(function: Callable) -> Callable:
    return torch.compile(function, backend="eager")


def compiled_part() -> nn.Module:
    model = net()
    return Parts(compiled(model[:5]), model[5:]).eval()


def compiled_in_place() -> nn.Module:
    model = net()
    model.compile(backend="eager")
    return model


def compiled_forward() -> nn.Module:
    model = net()
    model.forward = compiled(model.forward)
    return model


def closure() -> nn.Module:
    model = net()
    around = Parts(model[:5], model[5:]).eval()
    around.forward = lambda data: model(data)
    return around


FORMS = {
    "DataParallel": lambda: nn.DataParallel(net()),
    "compiled": lambda: compiled(net()),
    "both": lambda: nn.DataParallel(compiled(net())),
    "compiled part": compiled_part,
    "compiled in place": compiled_in_place,
    "compiled forward": compiled_forward,
    "closure": closure,
    "partial": lambda: Hidden(net()),
    "graph of torch.fx": lambda: torch.fx.symbolic_trace(net()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_relevance_of_the_plain_model(form: str) -> None:
    model = FORMS[form]()
    if "compiled" in form:
        model(DATA)  # compiles
    # where modules are hidden, the batch norm has its own rule, whose stabiliser absorbs a little, instead of a merge
    tolerance = 1e-3 if form in ("compiled forward", "closure") else 1e-12
    assert_relevance_close(heatmap(model), heatmap(net()), tolerance)


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled], ids=["DataParallel", "compiled"])
def test_names_have_no_prefix_of_a_wrapper(wrap: Callable) -> None:
    fitting = composite_for(wrap(net(convolutional_head=True)))
    assert fitting.name == "epsilon; maps: epsilon-gamma-flat, epsilon on 5"


class Ends(nn.Module):
    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.end = net(), end

    def forward(self, data: Tensor) -> Tensor:
        return self.end(self.body(data))


class Checkpointed(Ends):
    def forward(self, data: Tensor) -> Tensor:
        return self.body[3:](checkpoint(self.body[:3], data, use_reentrant=True))


class Two(nn.Linear):
    def forward(self, data: Tensor, age: Tensor) -> Tensor:
        return super().forward(data) + age


def quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(net().float(), {nn.Linear})


class InInference(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(net())

    @torch.inference_mode()
    def forward(self, data: Tensor) -> Tensor:
        return super().forward(data)


def exported() -> nn.Module:
    return torch.export.export(net(), (DATA,)).module()


REFUSED = {
    "exported": (exported, r"An exported program cannot be explained"),
    **{
        name: (lambda context=context: Ends(context(nn.Linear(3, 3).double())), sentence)
        for name, context, sentence in (
            ("autocast", torch.autocast("cpu", torch.bfloat16), r"switches autocast on"),
            ("no gradient", torch.no_grad(), r"or only through what has no gradient \(torch\.no_grad,"),
        )
    },
    "inference mode": (InInference, r"8\]: its forward pass is in torch\.inference_mode, where nothing has a gradient"),
    "meta device": (lambda: net().to("meta"), r"weights have no values \('0.weight', .*\): load them\.$"),
    "quantized": (quantized, r"Quantized modules have no gradient: explain the float model, instead of one with '6'"),
    "scripted": (lambda: torch.jit.script(net()), r"A TorchScript module cannot be explained"),
    "scripted part": (lambda: Parts(torch.jit.script(net()[:5]), net()[5:]), r"use the Python module .* for 'body'"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), r"parameters without values \('0.weight', '0.bias'\)"),
    "no axis": (lambda: Ends(lambda output: output.sum()), r"output is \[\] for 2 samples"),
    "one sample": (lambda: Ends(lambda output: output[:1]), r"output is \[1, 3\] for 2 samples"),
    "complex": (lambda: Ends(lambda output: torch.complex(output, output)), r"output is complex"),
    "checkpointed": (lambda: Checkpointed(nn.Identity()), r"use_reentrant=False"),
    "two inputs": (lambda: Two(8, 3).double(), r"missing 1 required positional argument: 'age'"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore")  # torch's own, about quantization, scripting and checkpoints
def test_refused_in_a_sentence(kind: str) -> None:
    build, sentence = REFUSED[kind]
    with pytest.raises(ModelError, match=sentence):
        heatmap(build())


class OfTwo(nn.Linear):
    """Takes batches of two samples."""

    def forward(self, data: Tensor) -> Tensor:
        return super().forward(data.view(2, 3, 8, 8)).sum((1, 2))


def test_a_model_that_takes_no_single_sample_is_refused_where_one_is_needed() -> None:
    model = nn.Sequential(nn.Identity(), OfTwo(8, 3).double())
    sentence = r"^The model cannot run on input of shape \[1, 3, 8, 8\]: shape '\[2, 3,"
    with RelevanceFlow(model, None, DATA, ["0"]) as flow, pytest.raises(ModelError, match=sentence):
        flow.layout("0")


class Constant(Parts):
    def forward(self, data: Tensor) -> Tensor:
        return data.mean((2, 3))


def test_linear_modules_that_do_not_run_are_not_counted() -> None:
    with pytest.raises(ModelError, match=r"^Constant runs no linear or convolutional operation to put a rule on\.$"):
        composite_for(Constant(net(), net()), DATA)
