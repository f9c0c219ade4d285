"""Real passes through small versions of every family, and the module paths of published checkpoints."""

import pytest
import torch
from torch import nn

from workloads.catalog import build, cards

# (network, classes, shape of one sample, widths that keep the linear layers small)
SMALL = [
    ("lenet5", 10, (1, 28, 28), {}),
    ("alexnet", 7, (3, 64, 64), {"features.10": 8}),
    ("vgg11", 7, (3, 32, 32), {"features.18": 4}),
    ("vgg11-cifar", 10, (3, 32, 32), {}),
    ("resnet8-cifar", 10, (3, 32, 32), {}),
    ("resnet18", 7, (3, 64, 64), {}),
    ("resnet50", 7, (3, 64, 64), {}),
    ("mobilenetv2", 7, (3, 64, 64), {}),
    ("mnasnet", 7, (3, 64, 64), {}),
    ("squeezenet1.0", 7, (3, 64, 64), {}),
    ("squeezenet1.1", 7, (3, 64, 64), {}),
    ("googlenet", 7, (3, 64, 64), {}),
    ("mcunet-like", 7, (3, 64, 64), {}),
    ("vit-tiny", 7, (3, 224, 224), {}),
    ("lstm", 7, (16, 64), {}),
    ("fcn-resnet18", 5, (3, 64, 48), {}),
    ("pspnet-resnet18", 5, (3, 64, 48), {}),
    ("deeplabv3-resnet18", 5, (3, 64, 48), {}),
    ("upernet-resnet18", 5, (3, 64, 48), {}),
]

# Keys of torchvision's state dicts, with shapes.
TORCHVISION_KEYS = {
    "alexnet": {
        "features.10.bias": (256,),
        "classifier.1.weight": (4096, 9216),
        "classifier.6.bias": (1000,),
    },
    "vgg16": {"features.28.weight": (512, 512, 3, 3), "classifier.0.weight": (4096, 25088)},
    "resnet18": {
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "layer2.0.downsample.1.running_var": (128,),
        "fc.weight": (1000, 512),
    },
    "resnet50": {"layer1.0.downsample.0.weight": (256, 64, 1, 1), "layer4.2.bn3.num_batches_tracked": ()},
    "mobilenetv2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.17.conv.3.running_mean": (320,),
        "features.18.1.weight": (1280,),
        "classifier.1.weight": (1000, 1280),
    },
    "mnasnet": {
        "layers.3.weight": (32, 1, 3, 3),
        "layers.8.0.layers.0.weight": (48, 16, 1, 1),
        "layers.13.0.layers.7.bias": (320,),
        "layers.15.weight": (1280,),
        "classifier.1.weight": (1000, 1280),
    },
    "squeezenet1.0": {"features.12.expand3x3.bias": (256,), "classifier.1.weight": (1000, 512, 1, 1)},
    "squeezenet1.1": {"features.3.squeeze.weight": (16, 64, 1, 1)},
    "googlenet": {
        "inception3a.branch2.0.conv.weight": (96, 192, 1, 1),
        "inception5b.branch3.1.conv.weight": (128, 48, 3, 3),
        "inception4e.branch4.1.bn.weight": (128,),
        "fc.weight": (1000, 1024),
    },
    "fcn-resnet50": {
        "backbone.layer4.2.conv2.weight": (512, 512, 3, 3),
        "classifier.4.weight": (21, 512, 1, 1),
    },
    "deeplabv3-resnet50": {
        "classifier.0.convs.1.0.weight": (256, 2048, 3, 3),
        "classifier.0.convs.4.1.weight": (256, 2048, 1, 1),
        "classifier.0.project.0.weight": (256, 1280, 1, 1),
        "classifier.2.running_mean": (256,),
        "classifier.4.bias": (21,),
    },
}


@pytest.mark.parametrize(("name", "classes", "shape", "widths"), SMALL)
def test_a_training_step_gives_logits_of_the_right_shape_and_every_parameter_a_gradient(
    name: str, classes: int, shape: tuple[int, ...], widths: dict[str, int]
) -> None:
    net = build(name, classes=classes, widths=widths)
    logits = net(torch.randn(2, *shape))
    pixels = shape[1:] if cards()[name].task == "segmentation" else ()
    assert logits.shape == (2, classes, *pixels)
    nn.functional.cross_entropy(logits, torch.zeros(2, *pixels, dtype=torch.long)).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", TORCHVISION_KEYS)
def test_module_paths_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        state = build(name).state_dict()
    for key, shape in TORCHVISION_KEYS[name].items():
        assert tuple(state[key].shape) == shape, key


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("alexnet", nn.ReLU, "features.1"),
        ("vgg16", nn.ReLU, "classifier.1"),
        ("resnet18", nn.ReLU, "layer1.0.relu"),
        ("mobilenetv2", nn.ReLU6, "features.2.conv.0.2"),
        ("mnasnet", nn.ReLU, "layers.8.0.layers.2"),
        ("mnasnet", nn.Dropout, "classifier.0"),
        ("squeezenet1.0", nn.ReLU, "features.3.squeeze_activation"),
    ],
)
def test_activations_that_torchvision_computes_in_place_are_in_place(
    name: str, kind: type[nn.Module], path: str
) -> None:
    with torch.device("meta"):
        layer = build(name).get_submodule(path)
    assert type(layer) is kind
    assert layer.inplace


def test_dilated_backbones_stop_shrinking_at_an_eighth_of_the_image() -> None:
    with torch.device("meta"):
        backbone = build("fcn-resnet50").backbone.eval()
        sizes = [tuple(stage.shape) for stage in backbone(torch.empty(1, 3, 64, 64))]
    assert sizes == [(1, 256, 16, 16), (1, 512, 8, 8), (1, 1024, 8, 8), (1, 2048, 8, 8)]
    # As in torchvision, the first block of a dilated stage keeps the dilation from before it.
    assert backbone.layer3[0].conv2.dilation == (1, 1)
    assert backbone.layer3[1].conv2.dilation == (2, 2)
    assert backbone.layer4[0].conv2.dilation == (2, 2)
    assert backbone.layer4[1].conv2.dilation == (4, 4)
