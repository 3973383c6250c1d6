"""Pooling, compiled: PyTorch's compiler has written past the end of its result, which a process may not survive."""

import pytest
import torch

from mmcse.models.pooling import ClasswiseHead


@pytest.mark.slow
@pytest.mark.parametrize("videos", [1, 16])
def test_compiled_it_gives_the_same(videos):
    head = ClasswiseHead(num_classes=25, dim=8)
    tokens = torch.randn(videos, 10, 2, 25, 8)
    compiled = torch.compile(head, dynamic=False)
    with torch.no_grad():
        expected, found = head(tokens), compiled(tokens)
    for name in ("segment_logits", "video_prob", "audio_prob", "visual_prob"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
