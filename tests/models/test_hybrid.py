"""HAN and VALOR at any size against the literal implementation, what tells them apart, and mistakes."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from literal_hybrid import LiteralHybrid
from mmcse.batch import Batch
from mmcse.errors import UserError
from mmcse.models import HAN, VALOR, count_parameters
from mmcse.models.hybrid import update_both
from mmcse.models.reference import load_reference_state, reference_names, to_reference_state, unused_reference_names
from mmcse.objectives import HANObjective, VALORObjective

SMALL = {"audio_dim": 6, "visual_dim": 7, "motion_dim": 5, "num_classes": 3, "num_segments": 4, "hidden_dim": 8}
SMALL |= {"num_layers": 2, "num_heads": 2, "feedforward_dim": 6}
PREDICTIONS = ("segment_logits", "video_prob", "audio_prob", "visual_prob")
NETWORKS = [(HAN, {}), (VALOR, {"norm": "post"}), (VALOR, {"norm": "pre"})]
every_network = pytest.mark.parametrize(("build", "form"), NETWORKS, ids=["han", "valor-post", "valor-pre"])


def inputs(videos: int, sizes: dict, frames: int = 1) -> tuple[Tensor, ...]:
    segments = sizes["num_segments"]
    return (
        torch.randn(videos, segments, sizes["audio_dim"], dtype=torch.float64),
        torch.randn(videos, segments * frames, sizes["visual_dim"], dtype=torch.float64),
        torch.randn(videos, segments, sizes["motion_dim"], dtype=torch.float64),
    )


def literal_of(network: HAN | VALOR, sizes: dict, form: dict) -> LiteralHybrid:
    sizes = {name: value for name, value in sizes.items() if name != "num_segments"}
    literal = LiteralHybrid(**sizes, **form, sequential=isinstance(network, VALOR)).double().eval()
    literal.load_state_dict(to_reference_state(network))
    return literal


@st.composite
def sizes(draw) -> dict:
    heads = draw(st.sampled_from((1, 2, 3)))
    return {
        "audio_dim": draw(st.integers(1, 9)),
        "visual_dim": draw(st.integers(1, 9)),
        "motion_dim": draw(st.integers(1, 9)),
        "num_classes": draw(st.integers(1, 7)),
        "num_segments": draw(st.integers(1, 7)),
        "hidden_dim": heads * draw(st.integers(1, 5)),
        "num_layers": draw(st.integers(1, 4)),
        "num_heads": heads,
        "feedforward_dim": draw(st.integers(1, 9)),
    }


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NETWORKS), sizes(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
def test_agree_with_the_literal_implementation_at_any_size(case, size, videos, frames, seed):
    torch.manual_seed(seed)
    build, form = case
    network = build(**size, **form).double().eval()
    features = inputs(videos, size, frames)
    ours, expected = network(*features), literal_of(network, size, form)(*features)
    for name in PREDICTIONS:
        torch.testing.assert_close(getattr(ours, name), getattr(expected, name), rtol=1e-9, atol=1e-10)


@every_network
def test_gradients_agree_with_the_literal_implementation(build, form):
    torch.manual_seed(0)
    network = build(**SMALL, **form).double().eval()
    literal = literal_of(network, SMALL, form)
    features = inputs(3, SMALL, frames=2)
    for net in (network, literal):
        out = net(*features)
        (out.video_prob.sum() + out.segment_logits.square().mean() + out.audio_prob.sum()).backward()
    ours = to_reference_state(network, {n: p.grad for n, p in network.named_parameters()})
    for name, parameter in literal.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-8, atol=1e-12)


@every_network
def test_training_reaches_every_parameter_and_uses_dropout(build, form):
    torch.manual_seed(0)
    network = build(**SMALL, **form, dropout=0.5).double().train()
    features = inputs(8, SMALL)
    labels = {name: torch.randint(2, (8, 4, 3)).double() for name in ("pseudo_audio", "pseudo_visual")}
    batch = Batch(audio=features[0], visual=features[1], motion=features[2],
                  weak=torch.randint(2, (8, 3)).double(), **labels)  # fmt: skip
    out = network(*features)
    assert not torch.equal(out.segment_logits, network(*features).segment_logits)
    for objective in (HANObjective(), VALORObjective()):
        network.zero_grad()
        objective(network(*features), batch)["total"].backward()
        idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not idle


def test_the_visual_branch_of_a_layer_sees_new_audio_in_valor_and_old_audio_in_han():
    """The one difference of the two networks at equal sizes, written out on a layer."""
    torch.manual_seed(0)
    one_layer = SMALL | {"num_layers": 1}
    valor, han = VALOR(**one_layer).double().eval(), HAN(**one_layer).double().eval()
    han.load_state_dict(valor.state_dict())
    features = inputs(2, SMALL)
    audio, visual = valor.front_end(*features)
    layer = valor.layers[0]
    new_audio = layer(audio, visual)
    of_valor = valor.head(torch.stack((new_audio, layer(visual, new_audio)), dim=2))
    of_han = valor.head(torch.stack((new_audio, layer(visual, audio)), dim=2))
    torch.testing.assert_close(valor(*features).segment_logits, of_valor.segment_logits)
    torch.testing.assert_close(han(*features).segment_logits, of_han.segment_logits)
    assert not torch.allclose(of_valor.visual_prob, of_han.visual_prob)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_without_cross_attention_a_layer_only_gathers_from_its_own_modality(norm):
    torch.manual_seed(0)
    layer = VALOR(**SMALL | {"num_layers": 1}, norm=norm).double().eval().layers[0]
    own = torch.randn(2, 4, 8, dtype=torch.float64)
    with torch.no_grad():  # attention that gathers nothing is no attention
        layer.cross_attention.out_proj.weight.zero_()
        layer.cross_attention.out_proj.bias.zero_()
    torch.testing.assert_close(layer(own, None), layer(own, torch.randn_like(own)))


def test_hans_encoder_updates_any_sets_of_tokens_from_old_ones():
    torch.manual_seed(0)
    layers = HAN(**SMALL).double().eval().layers
    features = torch.randn(3, 5, 7, 2, 8, dtype=torch.float64)  # two leading axes
    audio, visual = features.unbind(dim=3)
    for layer in layers:
        audio, visual = layer(audio, visual), layer(visual, audio)
    torch.testing.assert_close(update_both(layers, features), torch.stack((audio, visual), dim=3))
    alone = update_both(layers, features, cross_attention=False)
    changed = torch.stack((features[..., 0, :], torch.randn_like(features[..., 1, :])), dim=3)
    torch.testing.assert_close(update_both(layers, changed, cross_attention=False)[..., 0, :], alone[..., 0, :])


def test_hans_output_holds_the_features_before_and_after_the_encoder():
    network = HAN(**SMALL).double().eval()
    features = inputs(2, SMALL)
    out = network(*features)
    torch.testing.assert_close(out.projected, torch.stack(network.front_end(*features), dim=2))
    torch.testing.assert_close(network.head(out.encoded).segment_logits, out.segment_logits)


@every_network
def test_videos_of_a_batch_do_not_touch_each_other(build, form):
    torch.manual_seed(0)
    network = build(**SMALL, **form).double().eval()
    features = inputs(3, SMALL)
    alone = [network(*(f[i : i + 1] for f in features)).segment_logits for i in range(3)]
    torch.testing.assert_close(network(*features).segment_logits, torch.cat(alone))


@every_network
def test_without_auxiliary_outputs_nothing_changes(build, form):
    network = build(**SMALL, **form).double().eval()
    features = inputs(2, SMALL)
    full, bare = network(*features), network(*features, auxiliary=False)
    assert torch.equal(full.segment_logits, bare.segment_logits)
    assert full.cooccurrence is full.reconstruction is full.holistic is None


def test_parameters_of_the_papers():
    """Table 5's 5.05 M counts VALOR's final norms, which only its pre-norm form uses."""
    assert count_parameters(VALOR(audio_dim=128, visual_dim=2048, norm="pre")) == (5_052_235, 0)
    assert count_parameters(VALOR(audio_dim=128, visual_dim=2048)) == (5_052_235 - 1_024, 0)


@every_network
def test_reference_state_round_trip_changes_nothing(build, form):
    network, other = build(**SMALL, **form), build(**SMALL, **form)
    load_reference_state(other, to_reference_state(network))
    assert set(reference_names(network)) == {name for name, _ in network.named_parameters()}
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in network.state_dict().items())


@every_network
def test_unused_parameters_of_the_reference_are_accepted_in_their_shape_only(build, form):
    network = build(**SMALL, **form)
    unused = {name: torch.zeros(shape) for name, shape in unused_reference_names(network).items()}
    assert bool(unused) == (form != {"norm": "pre"})
    state = to_reference_state(network) | unused
    load_reference_state(network, state)
    for name in unused:
        with pytest.raises(UserError, match=re.escape(f"shape of {name}: found (1, 2, 3)")):
            load_reference_state(network, state | {name: torch.zeros(1, 2, 3)})


@pytest.mark.parametrize(
    ("build", "switches", "said"),
    [
        (HAN, {"num_layers": 0}, "at least one layer; num_layers is 0"),
        (VALOR, {"num_heads": 3}, "hidden_dim (8) must be a multiple of num_heads (3)"),
        (HAN, {"num_heads": 0}, "hidden_dim (8) must be a multiple of num_heads (0)"),
        (VALOR, {"norm": "post_norm"}, "norm is 'post_norm'; expected 'post' or 'pre'"),
    ],
)
def test_impossible_arguments_of_hybrids_are_refused(build, switches, said):
    with pytest.raises(UserError, match=re.escape(said)):
        build(**{**SMALL, **switches})
