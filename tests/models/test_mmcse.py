"""MM-CSE at any size against the literal implementation, its ablations, and its mistakes."""

import copy
import re
from dataclasses import fields
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from literal import LiteralMMCSE
from mmcse.batch import Batch
from mmcse.errors import UserError
from mmcse.models import MMCSE
from mmcse.models.decoupling import ClassAwareDecoupling
from mmcse.models.reference import load_reference_state, reference_names, to_reference_state
from mmcse.objectives import MMCSEObjective

SMALL = {"audio_dim": 6, "visual_dim": 7, "motion_dim": 5, "hidden_dim": 8, "class_dim": 4, "num_heads": 2}
SMALL |= {"feedforward_dim": 6, "num_layers": 2, "num_classes": 3, "num_segments": 4}


def inputs(videos: int, sizes: dict, frames: int = 1) -> tuple[torch.Tensor, ...]:
    segments = sizes["num_segments"]
    return (
        torch.randn(videos, segments, sizes["audio_dim"], dtype=torch.float64),
        torch.randn(videos, segments * frames, sizes["visual_dim"], dtype=torch.float64),
        torch.randn(videos, segments, sizes["motion_dim"], dtype=torch.float64),
    )


def batch_of(features: tuple[torch.Tensor, ...], sizes: dict) -> Batch:
    videos, labels = len(features[0]), (sizes["num_segments"], sizes["num_classes"])
    return Batch(
        audio=features[0],
        visual=features[1],
        motion=features[2],
        weak=torch.randint(2, (videos, sizes["num_classes"])).double(),
        pseudo_audio=torch.randint(2, (videos, *labels)).double(),
        pseudo_visual=torch.randint(2, (videos, *labels)).double(),
    )


@st.composite
def sizes(draw) -> dict:
    heads = draw(st.sampled_from((1, 2, 3)))
    return {
        "audio_dim": draw(st.integers(1, 9)),
        "visual_dim": draw(st.integers(1, 9)),
        "motion_dim": draw(st.integers(1, 9)),
        "num_classes": draw(st.integers(1, 7)),
        "num_segments": draw(st.integers(1, 7)),
        "hidden_dim": draw(st.integers(2, 12)),
        "class_dim": heads * draw(st.integers(1, 5)),
        "num_layers": draw(st.integers(1, 4)),
        "num_heads": heads,
        "feedforward_dim": draw(st.integers(1, 9)),
    }


@settings(max_examples=40, deadline=None)
@given(sizes(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
def test_agrees_with_the_literal_implementation_at_any_size(size, videos, frames, seed):
    torch.manual_seed(seed)
    network = MMCSE(**size).double().eval()
    literal_size = {name: value for name, value in size.items() if name != "num_segments"}
    literal = LiteralMMCSE(**literal_size).double().eval()
    literal.load_state_dict(to_reference_state(network))

    features = inputs(videos, size, frames)
    ours, expected = network(*features), literal(*features)
    for field in fields(ours):
        torch.testing.assert_close(getattr(ours, field.name), getattr(expected, field.name), rtol=1e-9, atol=1e-10)

    batch = batch_of(features, size)
    for name, loss in MMCSEObjective()(ours, batch).items():
        torch.testing.assert_close(loss, MMCSEObjective()(expected, batch)[name], rtol=1e-9, atol=1e-10)


def test_gradients_agree_with_the_literal_implementation():
    torch.manual_seed(0)
    network = MMCSE(**SMALL).double().eval()
    literal = LiteralMMCSE(**{k: v for k, v in SMALL.items() if k != "num_segments"}).double().eval()
    literal.load_state_dict(to_reference_state(network))
    batch = batch_of(inputs(3, SMALL), SMALL)
    for net in (network, literal):
        MMCSEObjective()(net(batch.audio, batch.visual, batch.motion), batch)["total"].backward()
    ours = to_reference_state(network, {n: p.grad for n, p in network.named_parameters()})
    for name, parameter in literal.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-8, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(sizes(), st.booleans(), st.integers(1, 3), st.integers(0, 2**31))
def test_a_merged_layer_computes_what_the_paper_s_formulas_do(size, need_maps, videos, seed):
    torch.manual_seed(seed)
    layer = MMCSE(**size).double().eval().layers[0]
    shape = (videos, size["num_segments"], 2, size["num_classes"], size["class_dim"])
    tokens = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    results = []
    for merged in (True, False):
        assert layer.is_merged
        with mock.patch.object(layer, "is_merged", merged):
            out, maps = layer(tokens, need_maps)
        assert sorted(maps) == (["aa", "av", "va", "vv"] if need_maps else [])
        values = [out, *(maps[name] for name in sorted(maps))]
        loss = sum(value.square().sum() for value in values)
        gradients = torch.autograd.grad(loss, (tokens, *layer.parameters()))
        results.append((*values, *gradients))
    for ours, papers in zip(*results, strict=True):
        torch.testing.assert_close(ours, papers, rtol=1e-8, atol=1e-10)


def changed_in_place(layer):
    with torch.no_grad():
        layer.cross.secm.attention.out_proj.weight.mul_(2)


def changed_by_an_optimizer(layer):
    parameter = layer.intra.projection.weight
    parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD([parameter], lr=1).step()


def changed_by_loading(layer):
    layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()})


def changed_by_assigning(layer):
    layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()}, assign=True)


def changed_behind_its_back_in_training(layer):
    layer.train()
    layer.intra.lgsf.video.weight.data += 1
    layer.eval()


def changed_in_type(layer):
    layer.double()


@pytest.mark.parametrize("change", [
    changed_in_place, changed_by_an_optimizer, changed_by_loading, changed_by_assigning,
    changed_behind_its_back_in_training, changed_in_type,
])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_weights_are_kept_until_a_parameter_changes(change, dtype):
    torch.manual_seed(0)
    layer = MMCSE(**SMALL).eval().layers[0]
    tokens = torch.randn(2, SMALL["num_segments"], 2, SMALL["num_classes"], SMALL["class_dim"])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        before, _ = layer(tokens)
        weights = layer.kept_weights.get(layer, "cpu")
        assert layer.kept_weights.get(layer, "cpu") is weights
        assert weights.reading.dtype == dtype
    change(layer)
    tokens = tokens.to(layer.norm.weight)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        after, _ = layer(tokens)
        made_anew, _ = copy.deepcopy(layer)(tokens)
    torch.testing.assert_close(after, made_anew)
    assert change is changed_in_type or not torch.allclose(after, before)


def test_a_network_made_in_inference_mode_parses():
    torch.manual_seed(0)
    expected = MMCSE(**SMALL).eval()
    features = [feature.float() for feature in inputs(2, SMALL)]
    with torch.inference_mode():
        network = copy.deepcopy(expected)
        torch.testing.assert_close(network(*features).video_prob, expected(*features).video_prob)
    with torch.no_grad():  # weights that were kept in inference mode serve outside of it
        torch.testing.assert_close(expected(*features).video_prob, network(*features).video_prob)


@pytest.mark.parametrize(
    "switch", [{"secm": False}, {"lgsf": False}, {"intra": False}, {"fusion_residual": "enhanced"}]
)
def test_an_ablation_is_computed_by_the_paper_s_formulas(switch):
    assert not any(layer.is_merged for layer in MMCSE(**SMALL, **switch).layers)


def test_reference_state_round_trip_changes_nothing():
    network, other = MMCSE(**SMALL), MMCSE(**SMALL)
    load_reference_state(other, to_reference_state(network))
    assert set(reference_names(network)) == {name for name, _ in network.named_parameters()}
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: s.pop("fc_a.bias"), "missing: fc_a.bias (8,)"),
        (lambda s: s.update({"extra.weight": torch.zeros(2)}), "unknown: extra.weight (2,)"),
        (lambda s: s.update({"fc_a.bias": torch.zeros(9)}), "shape of fc_a.bias: found (9,), expected (8,)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_with_a_list(damage, said):
    network = MMCSE(**SMALL)
    state = to_reference_state(network)
    damage(state)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_reference_state(network, state)
    assert said in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


ALL_TERMS = {
    "total",
    "video",
    "segment_audio",
    "segment_visual",
    "reconstruction",
    "orthogonality",
    "cooccurrence",
}


@pytest.mark.parametrize(
    ("switches", "absent", "maps"),
    [
        ({}, set(), "aa av va vv"),
        ({"decoupling": "events"}, {"orthogonality"}, "aa av va vv"),
        ({"decoupling": "none"}, {"orthogonality", "reconstruction"}, "aa av va vv"),
        ({"secm": False}, {"cooccurrence"}, ""),
        ({"lgsf": False}, set(), "aa av va vv"),
        ({"intra": False}, set(), "av va"),
        ({"cross": False}, set(), "aa vv"),
        ({"visual_decoupler_linears": 1}, set(), "aa av va vv"),
        ({"fusion_residual": "enhanced"}, set(), "aa av va vv"),
    ],
)
def test_ablations_train_every_parameter_and_report_only_terms_that_exist(switches, absent, maps):
    torch.manual_seed(0)
    network = MMCSE(**SMALL, **switches).double()
    batch = batch_of(inputs(8, SMALL), SMALL)
    out = network(batch.audio, batch.visual, batch.motion)
    losses = MMCSEObjective()(out, batch)
    assert set(losses) == ALL_TERMS - absent
    assert " ".join(sorted(out.cooccurrence or {})) == maps
    losses["total"].backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not idle


def test_switches_change_what_they_say():
    """Each ablation's formula, written out on the parts of the full network."""
    torch.manual_seed(0)
    features = inputs(2, SMALL)
    network = MMCSE(**SMALL, decoupling="none").double().eval()
    mixed = network.audio_decoupling(network.front_end(*features)[0])
    assert torch.equal(mixed.tokens[..., 0, :], mixed.tokens[..., -1, :])
    assert mixed.features.shape[-2] == 1

    network = MMCSE(**SMALL, decoupling="events").double().eval()
    events = network.audio_decoupling(network.front_end(*features)[0])
    assert torch.equal(events.tokens, events.features)

    tokens = torch.randn(2, 4, 2, 3, 4, dtype=torch.float64)
    plain = MMCSE(**SMALL, secm=False, lgsf=False).double().eval().layers[0]
    merged = plain.intra.projection(tokens) + plain.cross.projection(tokens)
    torch.testing.assert_close(plain(tokens)[0], plain.feedforward(plain.norm(merged)))

    layer = MMCSE(**SMALL, lgsf=False, cross=False).double().eval().layers[0]
    enhanced, _ = layer.intra.secm(tokens, need_map=False)
    expected = layer.feedforward(layer.norm(layer.intra.projection(enhanced)))
    torch.testing.assert_close(layer(tokens)[0], expected)


def test_fusion_residual_adds_to_what_it_names():
    torch.manual_seed(0)
    tokens = torch.randn(2, 4, 2, 3, 4, dtype=torch.float64)
    reference = MMCSE(**SMALL).double().layers[0].cross.lgsf
    paper = MMCSE(**SMALL, fusion_residual="enhanced").double().layers[0].cross.lgsf
    paper.load_state_dict(reference.state_dict())
    enhanced = tokens + 1
    torch.testing.assert_close(paper(tokens, enhanced) - enhanced, reference(tokens, enhanced) - tokens)


def test_classes_of_one_decoupler_do_not_touch_another():
    """Causality through gradients: feature k depends on the parameters of decoupler k alone."""
    torch.manual_seed(0)
    decoupling = ClassAwareDecoupling(8, 4, 3, "events+background", num_linears=2).double().eval()
    features = decoupling(torch.randn(2, 4, 8, dtype=torch.float64)).features
    features[..., 1, :].sum().backward()
    touched = decoupling.second.weight.grad.flatten(1).abs().sum(1) > 0
    assert touched.tolist() == [False, True, False, False]
    rows = decoupling.first.weight.grad.unflatten(0, (4, 4)).flatten(1).abs().sum(1) > 0
    assert rows.tolist() == [False, True, False, False]


def test_maps_of_the_training_mode_are_distributions_up_to_dropout():
    network = MMCSE(**SMALL, dropout=0.0).double().train()
    for cooccurrence in network(*inputs(2, SMALL)).cooccurrence.values():
        torch.testing.assert_close(cooccurrence.sum(-1), torch.ones_like(cooccurrence[..., 0]))


@pytest.mark.parametrize(
    ("switches", "said"),
    [
        ({"num_layers": 0}, "at least one FGSE layer"),
        ({"class_dim": 5}, "must be a multiple of num_heads"),
        ({"intra": False, "cross": False}, "both off"),
        ({"decoupling": "evnts"}, "expected one of 'none', 'events', 'events+background'"),
        ({"fusion_residual": "S"}, "expected 'input' or 'enhanced'"),
        ({"visual_decoupler_linears": 3}, "1 or 2 linear layers"),
    ],
)
def test_impossible_arguments_are_refused(switches, said):
    with pytest.raises(UserError, match=re.escape(said)):
        MMCSE(**{**SMALL, **switches})


def test_an_ablation_has_no_reference_checkpoint():
    with pytest.raises(UserError, match="ablation"):
        to_reference_state(MMCSE(**SMALL, secm=False))
