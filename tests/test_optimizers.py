"""Groups of parameters with learning rates of their own."""

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

import tiny
from mmcse.configuration import compose_config
from mmcse.errors import UserError
from mmcse.optimizers import parameter_groups
from mmcse.train import train


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.guide, self.guided = nn.Linear(2, 3), nn.Linear(2, 2), nn.Linear(1, 1)


def test_every_parameter_has_one_group_and_a_schedule_scales_them_all():
    network = Network()
    optimizer = torch.optim.SGD(parameter_groups(network, {"guide": 0.5}), lr=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(network.parameters()))
    assert {id(p) for p in optimizer.param_groups[1]["params"]} == {id(p) for p in network.guide.parameters()}
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.05])


def test_without_rates_there_is_one_group():
    network = Network()
    assert list(map(id, parameter_groups(network))) == list(map(id, network.parameters()))


@pytest.mark.parametrize(
    ("rates", "said"),
    [({"guid": 1}, "no part 'guid' to give a rate. It has: body, guide, guided"),
     ({"guide": 1, "guide.weight": 1}, "no part 'guide.weight'")],
)  # fmt: skip
def test_parts_that_are_none_are_refused(rates, said):
    with pytest.raises(UserError, match=said):
        parameter_groups(Network(), rates)


def test_parts_within_parts_are_refused():
    with pytest.raises(UserError, match=r"belongs to several of the rates: 0, 0\.1"):
        parameter_groups(nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(1, 1))), {"0": 1, "0.1": 1})


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("dhhn", {"rest": 3e-4, "audio_guide": 6e-4, "visual_guide": 6e-5}),
        ("lfav", {"rest": 1e-4, "interaction": 2e-4}),
    ],
)
def test_rates_of_the_papers(method, expected):
    config = compose_config("train", [f"model={method}"])
    network = instantiate(config.model, audio_dim=2, visual_dim=2, num_classes=2, num_segments=10, hidden_dim=8)
    optimizer = instantiate(config.optimizer)(parameter_groups(network, config.rates))
    assert [group["lr"] for group in optimizer.param_groups] == list(expected.values())


def test_a_rate_of_a_part_that_is_not_there_stops_training_with_advice(smoke_bank, tmp_path):
    with pytest.raises(UserError, match="no part 'guides'"):
        train(tiny.config(smoke_bank, tmp_path, "+rates.guides=0.1"))
