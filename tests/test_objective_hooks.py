"""What training tells objectives, what they may change, and which of them may see a batch in pieces."""

import pytest
import torch

import mmcse.parser
import tiny
from golden_zoo import small, small_videos
from mmcse.configuration import compose_config
from mmcse.models import LEAP, LSLD, MA, MGN, JoMoLD
from mmcse.objectives import (
    CMPAEObjective,
    CVCMSObjective,
    DHHNObjective,
    JoMoLDObjective,
    LEAPObjective,
    LFAVObjective,
    LSLDObjective,
    MAObjective,
    MGNObjective,
)
from mmcse.objectives.denoising import NoiseRatios
from mmcse.train import train

MEANS = {
    "jomold": (JoMoLD, JoMoLDObjective(), {}),
    "ma": (MA, MAObjective(), {}),
    "lsld": (LSLD, LSLDObjective(), {}),
    "mgn": (MGN, MGNObjective(), {"num_heads": 2}),
    "leap": (LEAP, LEAPObjective(), {"num_heads": 2, "num_levels": 2}),
}


@pytest.mark.parametrize(("build", "objective", "switches"), MEANS.values(), ids=MEANS)
def test_a_mean_over_videos_is_the_mean_of_its_pieces(build, objective, switches):
    assert objective.mean_over_videos
    network, batch = small(build, 4, 3, **switches), small_videos(4, 3, count=5)

    def losses(piece):
        return objective(network(piece.audio, piece.visual, piece.motion), piece)

    whole, pieces = losses(batch), [(len(piece) / 5, losses(piece)) for piece in batch.split(2)]
    for name, loss in whole.items():
        torch.testing.assert_close(loss, sum(share * each[name] for share, each in pieces), rtol=1e-12, atol=1e-12)


def test_what_compares_videos_says_that_it_is_no_mean():
    ratios = NoiseRatios(torch.zeros(3), torch.zeros(3))
    coupled = [JoMoLDObjective(noise_ratios=ratios), CMPAEObjective(noise_ratios=ratios), CVCMSObjective()]
    coupled += [LFAVObjective(), DHHNObjective()]  # of DHHN it is the network's batch norm
    assert not any(getattr(objective, "mean_over_videos", False) for objective in coupled)


def cvcms(bank, root):
    chosen = ("model=cvcms", "stages=none", *tiny.data(bank), *tiny.TRAINING, "trainer.max_epochs=3")
    more = ("objective.initial_epochs=1", f"run.root={root}")
    return compose_config("train", [*chosen, *tiny.method(*chosen), *more])


def test_objectives_are_told_every_batch_and_a_resumed_run_mixes_the_same_videos(smoke_bank, tmp_path, monkeypatch):
    told, mixed = [], []
    hook, augment = CVCMSObjective.on_train_batch_start, CVCMSObjective.augment

    def telling(self, *place):
        told.append(place)
        hook(self, *place)

    def augmenting(self, batch):
        mixed.append((told[-1][0], len(augmented := augment(self, batch)) // len(batch)))
        return augmented

    with monkeypatch.context() as patch:
        patch.setattr(CVCMSObjective, "on_train_batch_start", telling)
        patch.setattr(CVCMSObjective, "augment", augmenting)
        whole = train(cvcms(smoke_bank, tmp_path / "whole"))
    batches = told[0][2]
    assert told == [(epoch, batch, batches) for epoch in range(3) for batch in range(batches)]
    assert mixed == [(epoch, 1 if epoch == 0 else 2) for epoch in range(3) for _ in range(batches)]

    step = mmcse.parser.VideoParser.training_step

    def stopping(self, batch, batch_idx):
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(mmcse.parser.VideoParser, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(cvcms(smoke_bank, tmp_path / "broken"))
    resumed = train(cvcms(smoke_bank, tmp_path / "broken"))
    assert (resumed.folder / "history.csv").read_bytes() == (whole.folder / "history.csv").read_bytes()
