"""A gradient computed in pieces is the gradient of the batch."""

import pytest
import torch
from torch import nn

from mmcse.batch import Batch
from mmcse.microbatches import in_pieces
from mmcse.models import HAN, MMCSE, VALOR
from mmcse.objectives import HANObjective, MMCSEObjective, VALORObjective
from mmcse.parser import VideoParser

SIZES = {"audio_dim": 6, "visual_dim": 5, "motion_dim": 4, "num_classes": 3, "num_segments": 4, "hidden_dim": 8}
METHODS = [
    (lambda: MMCSE(**SIZES, class_dim=4, num_heads=2, num_layers=2, feedforward_dim=8, dropout=0.0), MMCSEObjective()),
    (lambda: VALOR(**SIZES, num_heads=2, num_layers=2, feedforward_dim=8, dropout=0.0), VALORObjective()),
    (lambda: HAN(**SIZES, num_heads=1, feedforward_dim=8, dropout=0.0), HANObjective()),
]


def batch(videos):
    T, K = SIZES["num_segments"], SIZES["num_classes"]
    labels = torch.randint(0, 2, (2, videos, T, K), dtype=torch.float64)
    audio, visual, motion = (torch.randn(videos, T, SIZES[f"{s}_dim"]).double() for s in ("audio", "visual", "motion"))
    return Batch(
        audio=audio,
        visual=visual,
        motion=motion,
        weak=labels.amax(dim=(0, 2)),
        pseudo_audio=labels[0],
        pseudo_visual=labels[1],
        ids=tuple(map(str, range(videos))),
    )


@pytest.mark.parametrize(("build", "objective"), METHODS)
@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_losses_and_gradients_are_those_of_the_batch(build, objective, size):
    torch.manual_seed(0)
    network, videos = build().double().train(), batch(7)

    def losses_of(piece):
        return objective(network(piece.audio, piece.visual, piece.motion), piece)

    expected = losses_of(videos)
    expected["total"].backward()
    whole = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    losses = in_pieces(losses_of, videos, size, list(network.parameters()))
    losses["total"].backward()
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-12, atol=1e-14)
    pieces = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert pieces.keys() == whole.keys()
    for name, gradient in pieces.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-9, atol=1e-13, msg=name)


def test_splits_keep_videos_whole_and_in_order():
    videos = batch(5)
    pieces = videos.split(2)
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert sum((piece.ids for piece in pieces), ()) == videos.ids
    assert torch.equal(torch.cat([piece.pseudo_audio for piece in pieces]), videos.pseudo_audio)
    assert all(piece.true_audio is None for piece in pieces)


def test_the_parser_takes_pieces_only_of_objectives_that_are_means():
    class NoMean:
        def __call__(self, out, batch):
            return {"total": out.segment_logits.sum() / len(batch) ** 2}

    seen = []

    def parser(objective):
        network = METHODS[0][0]().double()
        network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
        parser = VideoParser(network, objective, num_classes=3, micro_batch=2)
        parser.log_dict = parser.log = lambda *args, **kwargs: None
        return parser

    parser(MMCSEObjective()).training_step(batch(5), 0)
    assert seen == [2, 2, 1]
    seen.clear()
    parser(NoMean()).training_step(batch(5), 0)
    assert seen == [5]


def test_a_network_that_normalises_over_the_batch_gets_it_whole():
    network = METHODS[0][0]()
    assert VideoParser(network, MMCSEObjective(), num_classes=3, micro_batch=2).micro_batch == 2
    network.add_module("normalised", torch.nn.BatchNorm1d(4))
    assert VideoParser(network, MMCSEObjective(), num_classes=3, micro_batch=2).micro_batch is None


def test_parameters_whose_gradients_are_one_tensor_stay_apart():
    """Of a sum, both terms have the same gradient, and autograd gives it out once."""
    network = nn.ParameterDict({"first": torch.ones(3), "second": torch.ones(3), "added": torch.ones(2)})

    def losses_of(piece):
        table = network["first"] + network["second"]
        return {"total": (table * piece.weak).sum(dim=-1).mean() + network["added"].sum()}

    videos = batch(6)
    losses_of(videos)["total"].backward()
    whole = {name: p.grad.clone() for name, p in network.items()}
    network.zero_grad()
    in_pieces(losses_of, videos, 2, list(network.values()))["total"].backward()
    for name, parameter in network.items():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-6, atol=1e-6)
