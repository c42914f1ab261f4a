"""A model that is changed after it was prepared: what is no weight is compared by the output."""

import pytest
import torch
from torch import nn

from crp.attribution import RelevanceFlow, composite_for, prepare
from crp.errors import ModelError

DATA = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))

SETTINGS = {
    "a number": lambda model: setattr(model[2], "negative_slope", 0.7),
    "a tuple": lambda model: setattr(model[0], "dilation", (2, 1)),
    "another activation": lambda model: model.__setitem__(2, nn.GELU()),
    "a hook": lambda model: model[0].register_forward_hook(lambda module, args, output: 2 * output),
    "a hook before": lambda model: model[0].register_forward_pre_hook(lambda module, args: (2 * args[0],)),
    "another forward": lambda model: setattr(model[2], "forward", torch.square),
    "a tensor that is no buffer": lambda model: setattr(model[3], "scale", torch.ones(1)),
}


class Scale(nn.Module):
    """Multiplies by a tensor that is neither parameter nor buffer, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.calls = torch.full((1,), 0.5), 0

    def forward(self, data):
        self.calls += 1
        return data * self.scale


@pytest.mark.parametrize("rules", ["by default", "of the caller"])
@pytest.mark.parametrize("change", SETTINGS)
def test_a_model_whose_settings_change_after_it_was_prepared_is_refused(change, rules):
    """The copy still computes what the model did: explanations were those of a model that is gone."""
    torch.manual_seed(0)
    pooled = nn.AdaptiveAvgPool2d(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(), Scale(), pooled, nn.Flatten(),
                          nn.Linear(4, 3)).eval()  # fmt: skip
    ready = prepare(model, composite_for(model).composite if rules == "by default" else None)
    with RelevanceFlow(ready, None, DATA[:1]) as flow:
        first = flow.prediction
    model(DATA)  # one more call is counted, which changes nothing
    with RelevanceFlow(ready, None, DATA[:1]) as flow:
        assert torch.equal(flow.prediction, first)
    SETTINGS[change](model)
    with pytest.raises(ModelError, match=r"^The model was changed after it was prepared or mined \('.*gives another"):
        RelevanceFlow(ready, None, DATA[:1])
