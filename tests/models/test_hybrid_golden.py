"""HAN and VALOR against numbers of the authors' implementations."""

import numpy as np
import pytest

from golden import batch, reference_state
from mmcse.models import HAN, VALOR
from mmcse.models.reference import load_reference_state


@pytest.mark.parametrize(
    ("case", "state", "build", "sizes"),
    [
        (
            "valor.vggish_resnet.h256l4",
            "valor_h256_l4_vggish_resnet",
            VALOR,
            {"audio_dim": 128, "visual_dim": 2048, "hidden_dim": 256, "num_layers": 4},
        ),
        ("han.vggish_resnet", "han", HAN, {}),
    ],
)
def test_forward_of_hybrids(shared, case, state, build, sizes):
    network = build(**sizes).double().eval()
    load_reference_state(network, reference_state(shared / "golden", state))
    videos = batch((3, 10, 128), (3, 80, 2048), (3, 10, 512))
    out = network(videos.audio, videos.visual, videos.motion)
    ours = {
        "global_prob": out.video_prob,
        "a_prob": out.audio_prob,
        "v_prob": out.visual_prob,
        "frame_prob": out.segment_prob,
        "frame_logits": out.segment_logits,
    }
    with np.load(shared / "golden" / "networks.npz") as numbers:
        stored = {n.removeprefix(f"{case}."): numbers[n] for n in numbers.files if n.startswith(f"{case}.")}
    assert len(stored) >= 4
    for name, expected in stored.items():
        np.testing.assert_allclose(ours[name].detach().numpy(), expected, rtol=0, atol=1e-9)
