"""LEAP against numbers of the authors' implementation (the encoder of HAN stands in the pyramid's place)."""

import pytest
import torch

import golden
from golden_hybrids import (
    SMALL,
    assert_golden,
    fingerprint,
    losses_and_norms,
    predictions,
    small_batch,
    zoo_numbers,
)
from golden_zoo import assert_states_fit, videos, with_weights
from mmcse.models import LEAP
from mmcse.objectives import LEAPObjective

LABELS = golden.value("label_embedding", (25, 300))


@pytest.mark.parametrize(
    ("case", "encoder"), [pytest.param("leap_mmpyr", "mmpyramid", marks=pytest.mark.slow), ("leap_han", "han")]
)
def test_forward_losses_and_gradients(shared, case, encoder):
    leap = LEAP(encoder=encoder, label_embeddings=torch.from_numpy(LABELS))
    network, batch = with_weights(leap, shared, "leap", case), videos()
    out = network(batch.audio, batch.visual, batch.motion)
    ours = predictions(out) | losses_and_norms(network, LEAPObjective()(out, batch))
    for index, modality in enumerate(("audio", "visual")):
        ours[f"{modality[0]}_frame_prob"] = out.segment_prob[:, :, index]
        ours[f"{modality[0]}_feature"] = out.encoded[:, :, index]
        ours[f"label_feature_{modality}"] = out.label_features[:, index]
    assert_golden(ours, zoo_numbers(shared, "leap"), case)


@pytest.mark.parametrize(
    ("case", "switches"),
    [("leap_mmpyr", {}), ("leap_han", {"encoder": "han"}), ("leap_han_l1", {"encoder": "han", "num_layers": 1})],
)
def test_states_of_the_authors(shared, case, switches):
    with torch.device("meta"):
        assert_states_fit(LEAP(**switches), shared, "leap", case)


@pytest.mark.parametrize(
    ("encoder", "layers", "numbers"),
    [
        ("mmpyramid", 2, [44.08425461759, 702.28592258032, 536.0, 71.0]),
        ("han", 2, [13.70520538974, 5.46011187538, 686.48542614802, 56.0]),
        ("han", 1, [14.10588331332, 2.8864801641, 744.41269686154, 55.0]),
    ],
)
def test_numbers_of_a_small_network(encoder, layers, numbers):
    """Kept since parity was shown, for machines without the reference numbers; those of one layer are our own."""
    network = LEAP(**SMALL, num_heads=2, encoder=encoder, num_layers=layers)
    assert fingerprint(network, LEAPObjective(), small_batch()) == pytest.approx(numbers, rel=1e-9)
