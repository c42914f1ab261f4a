"""The frozen list of networks that `python -m benchmarks.models` measures.

All classifiers of torchvision; of timm one network of each family, a small one; and networks of other kinds. A network
was listed before it was measured, and is not removed because it fails.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from benchmarks.other_models import BUILDERS


@dataclass(frozen=True)
class Network:
    """A network of a package.

    Attributes
    ----------
    package
        Name of the package.
    name
        Its name there.
    size
        Height and width of the input: the smallest that makes sense, with several positions in the last stage. Networks
        that are built for one size have that size. None for those of `other_models`, which say it themselves.
    options
        Arguments of its constructor.
    """

    package: str
    name: str
    size: int | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> tuple[nn.Module, tuple[int, ...]]:
        """Build the network with random weights, and return it with the shape of its input."""
        if self.size is None:
            return BUILDERS[self.package, self.name]()
        if self.package == "torchvision":
            model = importlib.import_module("torchvision").models.get_model(self.name, weights=None, **self.options)
        else:
            model = importlib.import_module("timm").create_model(self.name, pretrained=False, **self.options)
        return model, (3, self.size, self.size)


def _sized(size: int) -> dict[str, int]:
    return {"img_size": size}


TORCHVISION = (
    Network("torchvision", "alexnet", 96),
    Network("torchvision", "convnext_base", 64),
    Network("torchvision", "convnext_large", 64),
    Network("torchvision", "convnext_small", 64),
    Network("torchvision", "convnext_tiny", 64),
    Network("torchvision", "densenet121", 64),
    Network("torchvision", "densenet161", 64),
    Network("torchvision", "densenet169", 64),
    Network("torchvision", "densenet201", 64),
    Network("torchvision", "efficientnet_b0", 64),
    Network("torchvision", "efficientnet_b1", 64),
    Network("torchvision", "efficientnet_b2", 64),
    Network("torchvision", "efficientnet_b3", 64),
    Network("torchvision", "efficientnet_b4", 64),
    Network("torchvision", "efficientnet_b5", 64),
    Network("torchvision", "efficientnet_b6", 64),
    Network("torchvision", "efficientnet_b7", 64),
    Network("torchvision", "efficientnet_v2_l", 64),
    Network("torchvision", "efficientnet_v2_m", 64),
    Network("torchvision", "efficientnet_v2_s", 64),
    Network("torchvision", "googlenet", 64, {"init_weights": False, "aux_logits": False}),
    Network("torchvision", "inception_v3", 128, {"init_weights": False}),
    Network("torchvision", "maxvit_t", 224),
    Network("torchvision", "mnasnet0_5", 64),
    Network("torchvision", "mnasnet0_75", 64),
    Network("torchvision", "mnasnet1_0", 64),
    Network("torchvision", "mnasnet1_3", 64),
    Network("torchvision", "mobilenet_v2", 64),
    Network("torchvision", "mobilenet_v3_large", 64),
    Network("torchvision", "mobilenet_v3_small", 64),
    Network("torchvision", "regnet_x_16gf", 64),
    Network("torchvision", "regnet_x_1_6gf", 64),
    Network("torchvision", "regnet_x_32gf", 64),
    Network("torchvision", "regnet_x_3_2gf", 64),
    Network("torchvision", "regnet_x_400mf", 64),
    Network("torchvision", "regnet_x_800mf", 64),
    Network("torchvision", "regnet_x_8gf", 64),
    Network("torchvision", "regnet_y_128gf", 64),
    Network("torchvision", "regnet_y_16gf", 64),
    Network("torchvision", "regnet_y_1_6gf", 64),
    Network("torchvision", "regnet_y_32gf", 64),
    Network("torchvision", "regnet_y_3_2gf", 64),
    Network("torchvision", "regnet_y_400mf", 64),
    Network("torchvision", "regnet_y_800mf", 64),
    Network("torchvision", "regnet_y_8gf", 64),
    Network("torchvision", "resnet101", 64),
    Network("torchvision", "resnet152", 64),
    Network("torchvision", "resnet18", 64),
    Network("torchvision", "resnet34", 64),
    Network("torchvision", "resnet50", 64),
    Network("torchvision", "resnext101_32x8d", 64),
    Network("torchvision", "resnext101_64x4d", 64),
    Network("torchvision", "resnext50_32x4d", 64),
    Network("torchvision", "shufflenet_v2_x0_5", 64),
    Network("torchvision", "shufflenet_v2_x1_0", 64),
    Network("torchvision", "shufflenet_v2_x1_5", 64),
    Network("torchvision", "shufflenet_v2_x2_0", 64),
    Network("torchvision", "squeezenet1_0", 64),
    Network("torchvision", "squeezenet1_1", 64),
    Network("torchvision", "swin_b", 64),
    Network("torchvision", "swin_s", 64),
    Network("torchvision", "swin_t", 64),
    Network("torchvision", "swin_v2_b", 64),
    Network("torchvision", "swin_v2_s", 64),
    Network("torchvision", "swin_v2_t", 64),
    Network("torchvision", "vgg11", 64),
    Network("torchvision", "vgg11_bn", 64),
    Network("torchvision", "vgg13", 64),
    Network("torchvision", "vgg13_bn", 64),
    Network("torchvision", "vgg16", 64),
    Network("torchvision", "vgg16_bn", 64),
    Network("torchvision", "vgg19", 64),
    Network("torchvision", "vgg19_bn", 64),
    Network("torchvision", "vit_b_16", 64, {"image_size": 64}),
    Network("torchvision", "vit_b_32", 64, {"image_size": 64}),
    Network("torchvision", "vit_h_14", 56, {"image_size": 56}),
    Network("torchvision", "vit_l_16", 64, {"image_size": 64}),
    Network("torchvision", "vit_l_32", 64, {"image_size": 64}),
    Network("torchvision", "wide_resnet101_2", 64),
    Network("torchvision", "wide_resnet50_2", 64),
)

TIMM = (
    Network("timm", "vit_tiny_patch16_224", 64, _sized(64)),
    Network("timm", "deit_tiny_distilled_patch16_224", 64, _sized(64)),
    Network("timm", "deit3_small_patch16_224", 64, _sized(64)),
    Network("timm", "beit_base_patch16_224", 64, _sized(64)),
    Network("timm", "eva02_tiny_patch14_224", 56, _sized(56)),
    Network("timm", "vit_small_r26_s32_224", 64, _sized(64)),
    Network("timm", "vit_relpos_small_patch16_224", 64, _sized(64)),
    Network("timm", "cait_xxs24_224", 64, _sized(64)),
    Network("timm", "convit_tiny", 64, _sized(64)),
    Network("timm", "crossvit_tiny_240", 240),
    Network("timm", "coat_lite_tiny", 64, _sized(64)),
    Network("timm", "coatnet_nano_rw_224", 64, _sized(64)),
    Network("timm", "davit_tiny", 64),
    Network("timm", "edgenext_xx_small", 64),
    Network("timm", "efficientformer_l1", 224),
    Network("timm", "efficientformerv2_s0", 224),
    Network("timm", "efficientvit_b0", 64),
    Network("timm", "efficientvit_m0", 224),
    Network("timm", "fastvit_t8", 64),
    Network("timm", "focalnet_tiny_srf", 64),
    Network("timm", "gcvit_xxtiny", 224),
    Network("timm", "hiera_tiny_224", 224),
    Network("timm", "levit_128s", 224),
    Network("timm", "poolformer_s12", 64),
    Network("timm", "caformer_s18", 64),
    Network("timm", "mixer_s32_224", 64, _sized(64)),
    Network("timm", "gmlp_s16_224", 64, _sized(64)),
    Network("timm", "resmlp_12_224", 64, _sized(64)),
    Network("timm", "mobilevit_xxs", 64),
    Network("timm", "mobilevitv2_050", 64),
    Network("timm", "mvitv2_tiny", 64, _sized(64)),
    Network("timm", "nest_tiny", 224),
    Network("timm", "nextvit_small", 64),
    Network("timm", "pit_ti_224", 64, _sized(64)),
    Network("timm", "pvt_v2_b0", 64),
    Network("timm", "repvit_m0_9", 64),
    Network("timm", "sequencer2d_s", 64, _sized(64)),
    Network("timm", "shvit_s1", 64),
    Network("timm", "swiftformer_xs", 224),
    Network("timm", "swin_tiny_patch4_window7_224", 224),
    Network("timm", "swinv2_cr_tiny_224", 224),
    Network("timm", "tiny_vit_5m_224", 224),
    Network("timm", "tnt_s_patch16_224", 64, _sized(64)),
    Network("timm", "twins_svt_small", 64, _sized(64)),
    Network("timm", "visformer_tiny", 224),
    Network("timm", "vitamin_small_224", 64, _sized(64)),
    Network("timm", "volo_d1_224", 224),
    Network("timm", "xcit_nano_12_p16_224", 64, _sized(64)),
    Network("timm", "convmixer_768_32", 64),
    Network("timm", "convnext_atto", 64),
    Network("timm", "convnextv2_atto", 64),
    Network("timm", "inception_next_atto", 64),
    Network("timm", "rdnet_tiny", 64),
    Network("timm", "starnet_s1", 64),
    Network("timm", "mambaout_femto", 64),
    Network("timm", "fasternet_t0", 64),
    Network("timm", "hgnetv2_b0", 64),
    Network("timm", "botnet26t_256", 256),
    Network("timm", "halonet26t", 256),
    Network("timm", "lambda_resnet26t", 256),
    Network("timm", "mobileone_s0", 64),
    Network("timm", "repvgg_a0", 64),
    Network("timm", "gernet_s", 64),
    Network("timm", "cspresnet50", 64),
    Network("timm", "dla46_c", 64),
    Network("timm", "dpn48b", 64),
    Network("timm", "ese_vovnet19b_slim", 64),
    Network("timm", "ghostnet_050", 64),
    Network("timm", "hardcorenas_a", 64),
    Network("timm", "hrnet_w18_small", 64),
    Network("timm", "inception_v4", 128),
    Network("timm", "inception_resnet_v2", 128),
    Network("timm", "lcnet_035", 64),
    Network("timm", "mobilenetv4_conv_small", 64),
    Network("timm", "tinynet_e", 64),
    Network("timm", "mixnet_s", 64),
    Network("timm", "nasnetalarge", 96),
    Network("timm", "nf_regnet_b0", 64),
    Network("timm", "nfnet_l0", 64),
    Network("timm", "pnasnet5large", 96),
    Network("timm", "repghostnet_050", 64),
    Network("timm", "res2net50_14w_8s", 64),
    Network("timm", "resnest14d", 64),
    Network("timm", "resnetv2_18", 64),
    Network("timm", "resnetv2_50x1_bit", 64),
    Network("timm", "rexnet_100", 64),
    Network("timm", "selecsls42b", 64),
    Network("timm", "seresnet18", 64),
    Network("timm", "ecaresnet26t", 64),
    Network("timm", "resnetblur18", 64),
    Network("timm", "skresnet18", 64),
    Network("timm", "tresnet_m", 64),
    Network("timm", "legacy_xception", 64),
    Network("timm", "xception41", 64),
    Network("timm", "regnetz_005", 64),
    Network("timm", "cpubone_nano", 64),
    Network("timm", "csatv2", 64),
    Network("timm", "cspnext_tiny", 64),
    Network("timm", "efficientvim_m1", 64),
    Network("timm", "hieradet_small", 64),
    Network("timm", "iformer_s", 64),
    Network("timm", "lcnetv2_small", 64),
    Network("timm", "lowformer_b0", 64),
    Network("timm", "naflexvit_base_patch16_gap", 64),
    Network("timm", "legacy_seresnet18", 64),
    Network("timm", "swinv2_tiny_window8_256", 64, _sized(64)),
    Network("timm", "samvit_base_patch16_224", 64),
    Network("timm", "mobilenetv5_base", 64),
    Network("timm", "qwen3_vit_88m", 64),
)

OTHER = tuple(Network(package, name, None) for package, name in BUILDERS)

FAMILIES = (*TORCHVISION, *TIMM, *OTHER)
