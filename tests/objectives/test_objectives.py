"""The methods' objectives: which terms they have, with which weights and labels."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.objectives import HANObjective, MMCSEObjective, VALORObjective
from mmcse.objectives.cooccurrence import cooccurrence_loss
from mmcse.objectives.orthogonality import orthogonality_loss
from mmcse.objectives.reconstruction import reconstruction_loss

B, T, K, D, d = 3, 4, 5, 6, 2
BASIC = {"video", "segment_audio", "segment_visual"}
WEIGHTED = {"reconstruction": 1.0, "orthogonality": 0.1, "cooccurrence": 0.1}


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    return Batch(
        audio=random(B, T, 2),
        visual=random(B, T, 2),
        motion=random(B, T, 2),
        weak=(random(B, K) > 0).double(),
        pseudo_audio=(random(B, T, K) > 0).double(),
        pseudo_visual=(random(B, T, K) > 0).double(),
    )


@pytest.fixture
def out() -> ParserOutput:
    torch.manual_seed(2)
    return ParserOutput(
        segment_logits=random(B, T, 2, K),
        video_prob=random(B, K).sigmoid(),
        audio_prob=random(B, K).sigmoid(),
        visual_prob=random(B, K).sigmoid(),
        cooccurrence={name: random(B, T, K, K) for name in ("aa", "av", "va", "vv")},
        holistic=random(B, T, 2, D),
        reconstruction=random(B, T, 2, D),
        event_features=random(B, T, 2, K, d),
        background_features=random(B, T, 2, d),
    )


def basic(out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
    logits = out.segment_logits
    return {
        "video": F.binary_cross_entropy(out.video_prob, batch.weak),
        "segment_audio": F.binary_cross_entropy_with_logits(logits[:, :, 0], batch.pseudo_audio),
        "segment_visual": F.binary_cross_entropy_with_logits(logits[:, :, 1], batch.pseudo_visual),
    }


def assert_terms(losses: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_valor_is_the_sum_of_its_three_terms(out, batch):
    terms = basic(out, batch)
    assert_terms(VALORObjective()(out, batch), terms | {"total": sum(terms.values())})


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_han_smooths_the_visual_label_alone(out, batch, smoothing):
    objective = HANObjective() if smoothing == 0.1 else HANObjective(visual_smoothing=smoothing)
    smoothed = batch.weak.clamp(smoothing / 2, 1 - smoothing / 2)  # 0.05 and 0.95 by default
    terms = {
        "video": F.binary_cross_entropy(out.video_prob, batch.weak),
        "audio": F.binary_cross_entropy(out.audio_prob, batch.weak),
        "visual": F.binary_cross_entropy(out.visual_prob, smoothed),
    }
    assert_terms(objective(out, batch), terms | {"total": sum(terms.values())})


def test_han_needs_no_pseudo_labels(out, batch):
    bare = replace(batch, pseudo_audio=None, pseudo_visual=None)
    assert_terms(HANObjective()(out, bare), HANObjective()(out, batch))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan")])
def test_a_smoothing_outside_its_range_is_refused(smoothing):
    with pytest.raises(UserError, match=r"visual_smoothing is .* from 0 to 1"):
        HANObjective(visual_smoothing=smoothing)


@pytest.mark.parametrize("weights", [{}, {"reconstruction": 0.3, "orthogonality": 0.7, "cooccurrence": 2.0}])
def test_mmcse_reports_terms_before_their_weight_and_sums_them_after(out, batch, weights):
    terms = basic(out, batch) | {
        "reconstruction": reconstruction_loss(out.reconstruction, out.holistic),
        "orthogonality": orthogonality_loss(out.event_features, out.background_features),
        "cooccurrence": cooccurrence_loss(out.cooccurrence, batch.pseudo_audio, batch.pseudo_visual),
    }
    factors = WEIGHTED | weights
    total = sum(factors.get(name, 1.0) * term for name, term in terms.items())
    assert_terms(MMCSEObjective(**weights)(out, batch), terms | {"total": total})


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weight_of_zero_leaves_its_term_out(out, batch, name):
    full, without = MMCSEObjective()(out, batch), MMCSEObjective(**{name: 0})(out, batch)
    assert full.keys() - without.keys() == {name}
    torch.testing.assert_close(without["total"], full["total"] - WEIGHTED[name] * full[name])


@pytest.mark.parametrize(
    ("lacking", "absent"),
    [
        (("cooccurrence",), {"cooccurrence"}),
        (("background_features",), {"orthogonality"}),
        (("event_features", "background_features", "reconstruction"), {"orthogonality", "reconstruction"}),
    ],
)
def test_a_term_whose_features_the_network_lacks_is_absent(out, batch, lacking, absent):
    losses = MMCSEObjective()(replace(out, **dict.fromkeys(lacking)), batch)
    assert {"total", *BASIC, *WEIGHTED} - losses.keys() == absent


def test_mmcse_without_its_own_terms_is_valor(out, batch):
    assert_terms(MMCSEObjective(0, 0, 0)(out, batch), VALORObjective()(out, batch))


def test_the_wording_of_the_paper_changes_the_orthogonality_alone(out, batch):
    code, paper = MMCSEObjective()(out, batch), MMCSEObjective(visual_orthogonality="per_class")(out, batch)
    expected = orthogonality_loss(out.event_features, out.background_features, "per_class")
    torch.testing.assert_close(paper["orthogonality"], expected)
    assert {name for name in code if not torch.equal(code[name], paper[name])} == {"orthogonality", "total"}
    with pytest.raises(UserError, match="expected 'class_mean' or 'per_class'"):
        MMCSEObjective(visual_orthogonality="mean")


@pytest.mark.parametrize("objective", [VALORObjective(), MMCSEObjective()])
@pytest.mark.parametrize("missing", ["pseudo_audio", "pseudo_visual"])
def test_missing_pseudo_labels_are_an_error_that_says_so(out, batch, objective, missing):
    with pytest.raises(ValueError, match="needs segment pseudo labels, and the batch has none"):
        objective(out, replace(batch, **{missing: None}))


@pytest.mark.parametrize("objective", [HANObjective(), VALORObjective(), MMCSEObjective()])
def test_every_term_can_be_trained(out, batch, objective):
    leaves = {name: getattr(out, name).requires_grad_() for name in ("segment_logits", "video_prob", "visual_prob")}
    objective(replace(out, **leaves), batch)["total"].backward()
    used = {name for name, leaf in leaves.items() if leaf.grad is not None and leaf.grad.any()}
    assert used == (
        {"video_prob", "visual_prob"} if isinstance(objective, HANObjective) else {"segment_logits", "video_prob"}
    )
