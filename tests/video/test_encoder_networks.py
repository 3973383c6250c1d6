"""The networks that are written out here against torchvision's.

`GOLDEN` was computed with torchvision 0.28 on the seeded weights of `seeded_networks.py`; where torchvision can be
imported, it is also compared with directly.
"""

import pytest
import torch
from seeded_networks import seeded, value

from mmcse.errors import UserError
from mmcse.video.encoders.r2plus1d import R2Plus1DNetwork
from mmcse.video.encoders.resnet import ResNet
from mmcse.video.encoders.vggish import VGGishNetwork

# output of (input, feature)
GOLDEN = {
    "resnet": {
        (0, 6): 0.049662,
        (0, 12): 0.637164,
        (0, 15): 0.302322,
        (0, 21): 0.433866,
        (1, 6): 0.068062,
        (1, 12): 0.718033,
        (1, 15): 0.261939,
        (1, 21): 0.464375,
    },
    "r2plus1d": {
        (0, 0): 0.252501,
        (0, 6): 0.176204,
        (0, 18): 0.033308,
        (0, 21): 0.200296,
        (1, 0): 0.248173,
        (1, 6): 0.179413,
        (1, 18): 0.013807,
        (1, 21): 0.18594,
    },
}
INPUTS = {"resnet": (2, 3, 64, 96), "r2plus1d": (2, 3, 8, 32, 40)}
NETWORKS = {"resnet": ResNet, "r2plus1d": R2Plus1DNetwork}


def torchvisions(name):
    """Torchvision's network; ResNet with one block a stage, which the size of the test allows."""
    pytest.importorskip("torchvision", exc_type=ImportError)
    from torchvision.models.resnet import Bottleneck
    from torchvision.models.resnet import ResNet as Reference
    from torchvision.models.video import r2plus1d_18

    return Reference(Bottleneck, [1, 2, 1, 1]) if name == "resnet" else r2plus1d_18()


def output(network, name):
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(value("input", INPUTS[name])))


@pytest.mark.parametrize("name", ["resnet", pytest.param("r2plus1d", marks=pytest.mark.slow)])
def test_outputs_are_torchvisions(name):
    network = ResNet((1, 2, 1, 1)) if name == "resnet" else R2Plus1DNetwork()
    seeded(network)
    out = output(network, name)
    for (row, column), number in GOLDEN[name].items():
        assert out[row, column].item() == pytest.approx(number, rel=1e-4, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
def test_torchvisions_weights_load_as_they_are(name):
    reference = torchvisions(name)
    state = seeded(reference)
    network = NETWORKS[name].of(state, name)
    reference.fc = torch.nn.Identity()
    torch.testing.assert_close(output(network, name), output(reference, name), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_whole_of_resnet_152():
    pytest.importorskip("torchvision", exc_type=ImportError)
    from torchvision.models import resnet152

    reference = resnet152()
    network = ResNet.of(seeded(reference), "ResNet-152")
    reference.fc = torch.nn.Identity()
    torch.testing.assert_close(output(network, "resnet"), output(reference, "resnet"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [(ResNet, 58_143_808), (R2Plus1DNetwork, 31_300_125), (VGGishNetwork, 72_141_184)],
)
def test_sizes_are_the_published_ones(network, parameters):
    """Those of torchvision and of AudioSet's VGGish, without classifiers."""
    with torch.device("meta"):
        assert sum(p.numel() for p in network().parameters()) == parameters


TINY = [ResNet((1, 2, 3, 1), 4), R2Plus1DNetwork(4, 3), VGGishNetwork((2,) * 6, (3, 4, 5))]


@pytest.mark.parametrize("network", TINY)
def test_the_size_is_told_by_the_weights(network):
    other = type(network).of(network.state_dict(), "x")
    assert str(other) == str(network)
    torch.testing.assert_close(other.state_dict(), network.state_dict())


@pytest.mark.parametrize("network", TINY[:2])
def test_a_classifier_is_left_out(network):
    other = type(network).of({**network.state_dict(), "fc.weight": torch.ones(2), "fc.bias": torch.ones(2)}, "x")
    assert list(other.state_dict()) == list(network.state_dict())


@pytest.mark.parametrize("network", [ResNet, R2Plus1DNetwork, VGGishNetwork])
@pytest.mark.parametrize("state", [{}, {"weight": torch.ones(3)}])
def test_weights_of_something_else(network, state):
    with pytest.raises(UserError, match="not weights of Net"):
        network.of(state, "Net")
