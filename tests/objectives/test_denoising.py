"""JoMoLD's label rules against loops over their definitions, and how denoising sets in."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmcse.batch import Batch
from mmcse.errors import MissingFileError, UserError
from mmcse.models import HAN, JoMoLD
from mmcse.objectives import JoMoLDObjective
from mmcse.objectives.classification import video_loss
from mmcse.objectives.denoising import (
    LabelDenoising,
    NoiseRatios,
    denoise,
    denoising_share,
    noise_ratios,
    read_noise_ratios,
    write_noise_ratios,
)

seeds = st.integers(0, 2**31)
SMALL = {"audio_dim": 4, "visual_dim": 5, "motion_dim": 3, "num_classes": 3, "num_segments": 7, "hidden_dim": 8}
SMALL |= {"feedforward_dim": 6}


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(videos: int = 6) -> Batch:
    features = [torch.randn(videos, 7, SMALL[f"{stream}_dim"], dtype=torch.float64) for stream in
                ("audio", "visual", "motion")]  # fmt: skip
    return Batch(audio=features[0], visual=features[1], motion=features[2], weak=(uniform(3, videos, 3) < 0.6).double())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["batches", "videos"]), seeds)
def test_noise_ratios_count_labels_that_the_estimator_does_not_find(videos, classes, batch_size, mean, seed):
    audio, visual = uniform(seed, videos, classes), uniform(seed + 1, videos, classes)
    weak = (uniform(seed + 2, videos, classes) < 0.5).double()
    ratios = noise_ratios(audio, visual, weak, batch_size, mean=mean)
    size = batch_size if mean == "batches" else videos
    for c in range(classes):
        labelled = [i for i in range(videos) if weak[i, c]]
        for found, prob, label, threshold in ((ratios.audio, audio, 1.0, 0.6), (ratios.visual, visual, 0.95, 1.8)):
            batches = [prob[start : start + size, c].tolist() for start in range(0, videos, size)]
            class_mean = sum(sum(values) / len(values) for values in batches) / len(batches)
            noisy = [i for i in labelled if label * float(prob[i, c]) / class_mean < threshold]
            assert float(found[c]) == (len(noisy) / len(labelled) if labelled else 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), seeds)
def test_denoising_removes_what_one_modality_contradicts_and_the_other_confirms(videos, classes, seed):
    labels = [(uniform(seed + i, videos, classes) < 0.7).double() for i in range(2)]
    losses = [uniform(seed + 2 + i, videos, classes) for i in range(2)]
    ratios = NoiseRatios(*uniform(seed + 4, 2, classes))
    kept = denoise(*labels, *losses, ratios)
    for own, other in ((0, 1), (1, 0)):
        for c in range(classes):
            positives = [i for i in range(videos) if labels[own][i, c]]
            count = math.floor(float(ratios[own][c]) * len(positives))
            worst = sorted(positives, key=lambda i: -float(losses[own][i, c]))[:count]
            best = sorted(positives, key=lambda i: float(losses[other][i, c]))[:count]
            expected = [float(i in positives and not (i in worst and i in best)) for i in range(videos)]
            assert kept[own][:, c].tolist() == expected


def test_nothing_is_removed_at_ratio_zero_and_everything_at_one():
    label = torch.ones(4, 2)
    loss = uniform(0, 4, 2)
    for ratio, left in ((0.0, 1.0), (1.0, 0.0)):
        kept = denoise(label, label, loss, loss, NoiseRatios(*torch.full((2, 2), ratio)))
        assert (kept.audio == left).all()
        assert (kept.visual == left).all()
    with pytest.raises(UserError, match="ratios of 3 classes, but labels of 2"):
        denoise(label, label, loss, loss, NoiseRatios(torch.zeros(3), torch.zeros(3)))


@pytest.mark.parametrize("num_batches", [1, 2, 79])
def test_the_references_ramp_follows_from_its_running_product(num_batches):
    """The reference multiplies the ratio in place by the progress, and reads it again in every epoch."""
    for epoch in range(4):
        running = 0.37
        for index in range(num_batches):
            running = min(running, running * (epoch * num_batches + index) / (0.9 * num_batches))
            assert running == 0.37 * denoising_share(epoch, index, num_batches)


def test_the_linear_ramp_rises_over_nine_tenths_of_the_first_epoch():
    shares = [denoising_share(0, index, 10, "linear") for index in range(10)]
    assert shares == pytest.approx([index / 9 for index in range(10)])
    assert denoising_share(1, 0, 10, "linear") == 1
    assert denoising_share(0, 0, 10, "none") == 1


def test_the_network_parses_without_cross_attention_only_while_it_trains():
    torch.manual_seed(0)
    network, videos = JoMoLD(**SMALL).double().train(), batch()
    features = (videos.audio, videos.visual, videos.motion)
    unimodal = network(*features).unimodal
    assert not unimodal.audio_prob.requires_grad
    assert network(*features, auxiliary=False).unimodal is None
    assert JoMoLD(**SMALL, cross_attention=False).double()(*features).unimodal is None
    calm = JoMoLD(**SMALL, dropout=0, class_dropout=0).double()
    calm.load_state_dict(network.state_dict())
    alone = JoMoLD(**SMALL, cross_attention=False).double().eval()
    alone.load_state_dict(network.state_dict())
    torch.testing.assert_close(calm(*features).unimodal.audio_prob, alone(*features).audio_prob)
    other_audio = torch.randn_like(videos.audio)
    torch.testing.assert_close(
        alone(other_audio, *features[1:]).visual_prob, alone(*features).visual_prob, msg="audio was heard"
    )
    assert not torch.allclose(calm.eval()(other_audio, *features[1:]).visual_prob, calm(*features).visual_prob)


def test_class_dropout_touches_the_visual_modality_alone():
    network, videos = JoMoLD(**SMALL, dropout=0, class_dropout=0.5).double().train(), batch()
    first, second = (network(videos.audio, videos.visual, videos.motion) for _ in range(2))
    assert torch.equal(first.audio_prob, second.audio_prob)
    assert torch.equal(first.encoded, second.encoded)
    assert not torch.equal(first.visual_prob, second.visual_prob)


def test_the_objective_trains_on_what_denoising_leaves():
    torch.manual_seed(0)
    network, videos = JoMoLD(**SMALL).double().train(), batch(40)
    objective = JoMoLDObjective(noise_ratios=NoiseRatios(*torch.full((2, 3), 0.8)))
    out = network(videos.audio, videos.visual, videos.motion)
    objective.on_train_batch_start(0, 5, 9)
    assert torch.equal(objective.targets(out, videos).audio, videos.weak)  # the reference's idle first epoch
    objective.on_train_batch_start(1, 0, 9)
    targets = objective.targets(out, videos)
    removed = (videos.weak == 1) & (targets.audio == 0)
    assert removed.any()
    assert torch.equal(targets.audio, videos.weak.masked_fill(removed, 0))
    visual = {round(x, 9) for x in targets.visual.unique().tolist()}
    assert visual == {0.0, 0.05, 0.95}  # removed labels are not smoothed
    losses = objective(out, videos)
    assert torch.equal(losses["audio"], video_loss(out.audio_prob, targets.audio))
    assert torch.equal(losses["video"], video_loss(out.video_prob, videos.weak))
    expected = 2 * losses["audio"] + losses["visual"] + losses["video"] + losses["contrast"]
    torch.testing.assert_close(losses["total"], expected)
    assert "contrast" not in JoMoLDObjective(contrast=0)(out, videos)


def test_ratios_travel_as_json(tmp_path):
    ratios = NoiseRatios(*uniform(0, 2, 3))
    write_noise_ratios(tmp_path / "ratios.json", ratios, ["a", "b", "c"])
    again = read_noise_ratios(tmp_path / "ratios.json")
    assert torch.equal(again.audio, ratios.audio)
    assert torch.equal(LabelDenoising(tmp_path / "ratios.json").ratios.visual, ratios.visual)
    with pytest.raises(MissingFileError, match="There is no file"):
        read_noise_ratios(tmp_path / "other.json")
    for content in ("{", "[]", '{"classes": ["a"], "audio": [0.5]}', '{"classes": ["a"], "audio": [2], "visual": [0]}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UserError, match=r"bad\.json does not hold noise ratios"):
            read_noise_ratios(tmp_path / "bad.json")


def test_mistakes_are_named():
    videos = batch()
    with pytest.raises(UserError, match="mean is 'video'; expected 'batches' or 'videos'"):
        noise_ratios(*torch.ones(3, 2, 2), batch_size=1, mean="video")
    with pytest.raises(UserError, match="ramp is 'slow'; expected one of 'reference', 'linear', 'none'"):
        JoMoLDObjective(ramp="slow")
    with pytest.raises(UserError, match=re.escape("visual_smoothing is 1.5; expected a number from 0 to 1")):
        JoMoLDObjective(visual_smoothing=1.5)
    han = HAN(**SMALL).double()(videos.audio, videos.visual, videos.motion)
    with pytest.raises(UserError, match="without cross-attention"):
        JoMoLDObjective(noise_ratios=NoiseRatios(*torch.zeros(2, 3)))(han, videos)
