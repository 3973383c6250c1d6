"""The network learns: a few videos by heart, and every loss term by itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmcse.batch import Batch
from mmcse.data import simulated_bank
from mmcse.evaluation import parsing_scores
from mmcse.evaluation.decode import decode_output
from mmcse.models import MMCSE, MMCSEPyramid
from mmcse.objectives import MMCSEObjective

WIDTHS = {"audio_dim": 48, "visual_dim": 48, "motion_dim": 16}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Batch:
    """32 simulated videos with the truth for a label: a weak label lacks an event now and then, as LLP's do."""
    folder = tmp_path_factory.mktemp("simllp") / "bank"
    bank = simulated_bank(folder, preset="smoke", progress=False, train=32, val=1, test=1, pseudo_noise=0.0, **WIDTHS)
    batch = bank.split("train").gather(np.arange(32))
    audio, visual = batch.true_audio, batch.true_visual
    return replace(batch, pseudo_audio=audio, pseudo_visual=visual, weak=torch.maximum(audio, visual).amax(dim=1))


def network(hidden_dim: int, class_dim: int, num_classes: int) -> MMCSE:
    torch.manual_seed(0)
    return MMCSE(**WIDTHS, num_classes=num_classes, hidden_dim=hidden_dim, class_dim=class_dim, num_layers=1,
                 num_heads=4, feedforward_dim=2 * class_dim, dropout=0.0)  # fmt: skip


def fit(net: MMCSE, videos: Batch, term: str, steps: int, lr: float = 3e-3) -> list[float]:
    """The value of a loss term in each of the steps that minimise it."""
    optimizer, objective, values = torch.optim.AdamW(net.parameters(), lr=lr), MMCSEObjective(), []
    for _ in range(steps):
        loss = objective(net(videos.audio, videos.visual, videos.motion), videos)[term]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        values.append(loss.item())
    return values


def scores_on(net: MMCSE, videos: Batch) -> dict[str, float]:
    with torch.no_grad():
        out = net.eval()(videos.audio, videos.visual, videos.motion)
    decisions = decode_output(out, gate="video/visual", threshold=0.5, gate_threshold=0.5)
    return parsing_scores(*decisions, videos.true_audio.bool(), videos.true_visual.bool())


@pytest.mark.slow
def test_a_few_videos_are_learnt_by_heart(videos):
    net = network(64, 32, videos.weak.shape[1])
    fit(net, videos, "total", steps=150)
    scores = scores_on(net, videos)
    assert scores["Avg"] > 95
    assert min(scores.values()) > 90


@pytest.mark.slow
def test_on_mm_pyramids_encoder_it_learns_too(videos):
    few = videos.split(12)[0]
    torch.manual_seed(0)
    no_dropout = {"dropout": 0.0, "pyramid_dropout": 0.0, "pyramid_attention_dropout": 0.0}
    sizes = {"hidden_dim": 32, "class_dim": 16, "feedforward_dim": 32, "num_layers": 1, "num_levels": 2, "num_heads": 4}
    net = MMCSEPyramid(**WIDTHS, **sizes, **no_dropout, num_classes=videos.weak.shape[1])
    values = fit(net, few, "total", steps=120, lr=5e-3)
    assert values[-1] < values[0] / 10
    assert scores_on(net, few)["Avg"] > 80


def least_cooccurrence(videos: Batch) -> float:
    """The least value of the co-occurrence loss over all maps whose rows are distributions.

    A row whose labels have n > 0 ones is best spread over these, one without any over all K classes.
    """
    labels, K = (videos.pseudo_audio, videos.pseudo_visual), videos.weak.shape[1]
    total = 0.0
    for query in labels:
        for key in labels:
            ones = query * key.sum(dim=-1, keepdim=True)  # (B, T, K) ones in each row of the outer product
            row = torch.where(ones == 0, 1 / K, (ones - 1) ** 2 / ones.clamp(min=1))  # squared error of the best row
            total += (row / K).mean().item()
    return total


@pytest.mark.slow
@pytest.mark.parametrize(
    "term", ["video", "segment_audio", "segment_visual", "reconstruction", "orthogonality", "cooccurrence"]
)
def test_each_term_falls_tenfold_when_it_alone_is_minimised(videos, term):
    least = least_cooccurrence(videos) if term == "cooccurrence" else 0.0
    values = fit(network(32, 16, videos.weak.shape[1]), videos, term, steps=130)
    assert 0 <= values[-1] - least < (values[0] - least) / 10
