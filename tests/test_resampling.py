import pytest
import torch
import torch.nn.functional as F

from mmcse.errors import UserError
from mmcse.resampling import resampling_matrix


def test_clap_map_is_upsampled_averaged_and_pooled():
    """The recipe carried out step by step on a random feature map, against the one matrix."""
    tokens = torch.randn(2, 64, 5, dtype=torch.float64)
    fine = F.interpolate(tokens.mT.unflatten(-1, (2, 32)), size=(2, 1024), mode="bicubic", align_corners=False)
    expected = F.adaptive_avg_pool1d(fine.mean(dim=2), 10).mT
    torch.testing.assert_close(resampling_matrix("clap_map", 64, 10) @ tokens, expected)


def test_frames_are_averaged_in_runs():
    frames = torch.randn(2, 80, 5, dtype=torch.float64)
    torch.testing.assert_close(resampling_matrix("frames", 80, 10) @ frames, frames.unflatten(1, (10, 8)).mean(2))


@pytest.mark.parametrize(("how", "tokens", "segments"), [("clap_map", 64, 10), ("clap_map", 26, 4), ("frames", 12, 3)])
def test_weights_sum_to_one(how, tokens, segments):
    matrix = resampling_matrix(how, tokens, segments)
    assert matrix.shape == (segments, tokens)
    torch.testing.assert_close(matrix.sum(1), torch.ones(segments, dtype=torch.float64))


def test_segments_pass_unchanged():
    assert torch.equal(resampling_matrix("clap_map", 10, 10), torch.eye(10, dtype=torch.float64))


@pytest.mark.parametrize(("how", "tokens"), [("frames", 81), ("clap_map", 63)])
def test_token_counts_that_do_not_fit_are_refused(how, tokens):
    with pytest.raises(UserError, match=f"{tokens}.*xpected 10"):
        resampling_matrix(how, tokens, 10)
