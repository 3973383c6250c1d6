"""LEAP: its label embeddings, its tokens, its two rules for the video, and mistakes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from golden_hybrids import seeded
from golden_zoo import small, small_videos
from literal_hybrid import LiteralHybridLayer
from mmcse.errors import MissingFileError, UserError
from mmcse.evaluate import rebuild
from mmcse.evaluation.decode import decode_output
from mmcse.models import LEAP
from mmcse.models.leap import label_table
from mmcse.models.reference import to_reference_state


def parse(network, batch):
    return network(batch.audio, batch.visual, batch.motion)


def test_label_embeddings_come_from_a_file_and_stay_with_the_weights(tmp_path):
    table = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    np.save(tmp_path / "glove.npy", table)
    network = LEAP(encoder="han", num_classes=3, hidden_dim=8, label_embeddings=tmp_path / "glove.npy")
    assert torch.equal(network.label_embeddings, torch.from_numpy(table))
    assert "label_embeddings" in network.state_dict()
    assert not any(parameter is network.label_embeddings for parameter in network.parameters())
    assert network.label_projection.in_features == 4


def test_a_checkpoint_needs_no_file_of_label_embeddings(tmp_path):
    np.save(tmp_path / "glove.npy", np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32))
    sizes = {"audio_dim": 5, "visual_dim": 6, "motion_dim": 4, "num_classes": 3, "hidden_dim": 8, "encoder": "han"}
    arguments = {**sizes, "num_heads": 2, "label_embeddings": str(tmp_path / "glove.npy")}
    weights = LEAP(**arguments).state_dict()
    (tmp_path / "glove.npy").unlink()
    network = rebuild({"model": {"_target_": "mmcse.models.LEAP", **arguments}}, weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_embeddings_of_any_float_are_kept_exactly_and_read_by_weights_of_another(dtype, tmp_path):
    table, batch = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double().to(dtype), small_videos(5, 3)
    sources = [table]
    if dtype is not torch.bfloat16:  # which numpy does not know
        np.save(tmp_path / "table.npy", table.numpy())
        sources.append(tmp_path / "table.npy")
    for source in sources:
        kept = label_table(source, 3)
        assert kept.dtype == dtype
        assert torch.equal(kept, table)
        network = small(LEAP, 5, 3, encoder="han", label_embeddings=source)
        exact = small(LEAP, 5, 3, encoder="han", label_embeddings=table.double())
        assert torch.equal(parse(network, batch).segment_logits, parse(exact, batch).segment_logits)
    table[0, 0] += 1  # what was given is copied
    assert kept[0, 0] != table[0, 0]


def test_without_embeddings_it_says_so_and_with_them_it_does_not(caplog):
    LEAP(encoder="han", hidden_dim=8)
    [warning] = caplog.messages
    assert "not the published method. Give model.label_embeddings=FILE" in warning
    caplog.clear()
    LEAP(encoder="han", hidden_dim=8, label_embeddings=torch.ones(25, 4))
    assert not caplog.messages


def test_made_up_embeddings_are_the_same_every_time_and_tell_classes_apart():
    table = label_table(None, 25)
    assert torch.equal(table, label_table(None, 25))
    assert torch.equal(table[:4], label_table(None, 4))  # a class more changes none of the others
    cosines = torch.nn.functional.normalize(table) @ torch.nn.functional.normalize(table).T
    assert (cosines - torch.eye(25)).abs().max() < 0.5
    assert 4 < table.norm(dim=-1).mean() < 8


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((4, 5)), r"holds float64 of shape \(4, 5\). Expected a float embedding for each of 3 classes"),
        (np.zeros(3), r"of shape \(3,\)"),
        (np.zeros((3, 5), dtype=int), "holds int64"),
        (np.array([["a"], ["b"], ["c"]]), "holds <U1"),
        (np.zeros((3, 5), dtype=">f4"), "holds >f4"),
        (np.array([None, 1, 2]), "is pickled"),
        (b"glove", "no proper .npy header"),
        (b"", "the file is empty"),
    ],
)
def test_a_file_without_an_embedding_per_class_is_refused(content, said, tmp_path):
    file = tmp_path / "glove.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content, allow_pickle=True)
    with pytest.raises(UserError, match=said):
        label_table(file, 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"no file .*glove.npy. Expected label embeddings"):
        label_table(tmp_path / "glove.npy", 3)


def test_both_rules_for_the_video_decide_alike_and_one_has_a_gradient():
    batch = small_videos(5, 3)
    by_or, by_max = (small(LEAP, 5, 3, encoder="han", video=rule) for rule in ("thresholded_or", "max"))
    hard, soft = parse(by_or, batch), parse(by_max, batch)
    assert set(hard.video_prob.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(hard.video_prob == 1, (hard.audio_prob >= 0.5) | (hard.visual_prob >= 0.5))
    assert torch.equal(soft.video_prob, torch.maximum(soft.audio_prob, soft.visual_prob))
    for ours, theirs in zip(
        decode_output(hard, gate="video/video"), decode_output(soft, gate="video/video"), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert not hard.video_prob.requires_grad
    assert soft.video_prob.requires_grad


def test_no_label_token_sees_another_one():
    network, batch = small(LEAP, 5, 3, encoder="han"), small_videos(5, 3)
    before = parse(network, batch)
    network.label_embeddings[1] += 1
    after = parse(network, batch)
    for name in ("segment_logits", "audio_prob", "visual_prob"):
        changed = getattr(after, name) != getattr(before, name)
        assert changed[..., 1].any()
        assert not changed[..., [0, 2]].any()


def test_segment_logits_are_scores_of_the_updated_query_averaged_over_heads():
    network, batch = small(LEAP, 5, 3, encoder="han", num_heads=2, num_layers=2), small_videos(5, 3)
    out = parse(network, batch)
    decoder, segments = network.audio_decoder, out.encoded[:, :, 0]
    labels = network.label_projection(network.label_embeddings).expand(3, -1, -1)
    labels = decoder.layers[0](labels, segments)
    last = decoder.last
    query = last.attend(labels, segments)
    expected = torch.zeros(3, 5, 3).double()
    for head in (slice(0, 4), slice(4, 8)):
        q, k = last.attention.query(query)[..., head], last.attention.key(segments)[..., head]
        expected += torch.einsum("bkd,btd->btk", q, k) / 2 / 2  # sqrt(4), and two heads
    torch.testing.assert_close(out.segment_logits[:, :, 0], expected)


def literal_leap(state, batch, layers, heads):
    """LEAP on HAN's encoder as its description reads: logits (B, T, K) and probabilities (B, K) of each modality."""

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    def products(x, y):
        """Scaled products of queries and keys, of each head."""
        parts = [slice(h * dim // heads, (h + 1) * dim // heads) for h in range(heads)]
        return [(x[..., part] @ y[..., part].mT / (dim / heads) ** 0.5, part) for part in parts]

    frames = linear("fc_v", batch.visual).unflatten(1, (batch.motion.shape[1], -1)).mean(dim=2)
    x_audio = linear("fc_a", batch.audio)
    x_visual = linear("fc_fusion", torch.cat((frames, linear("fc_st", batch.motion)), dim=-1))
    dim, inner = x_audio.shape[-1], len(state["MMP.hat_encoder.layers.0.linear1.bias"])
    layer, prefix = LiteralHybridLayer(dim, 1, inner, "post").double(), "MMP.hat_encoder.layers.0."
    layer.load_state_dict({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})
    found = {}
    for m, o in (("a", layer(x_audio, x_visual)), ("v", layer(x_visual, x_audio))):
        labels, scores = linear("fc_l", state["labels"]).expand(len(o), -1, -1), None
        for i in range(layers):
            name = f"AVL.l{m}_cma_network.{i}"
            wq, wk, wv, wo = (f"{name}.self_attn.linears.{n}" for n in range(4))
            key, value = linear(wk, o), linear(wv, o)
            heads_of = products(linear(wq, norm(f"{name}.sublayer.0.norm", labels)), key)
            q = labels + linear(wo, torch.cat([x.softmax(dim=-1) @ value[..., part] for x, part in heads_of], dim=-1))
            # the same projections once more, of the updated query as it is
            scores = sum(x for x, _ in products(linear(wq, q), key)) / heads
            hidden = linear(f"{name}.feed_forward.w_1", norm(f"{name}.sublayer.1.norm", q)).relu()
            labels = q + linear(f"{name}.feed_forward.w_2", hidden)
        found[m] = scores.mT, linear(f"fc_l{m}", labels)[..., 0].sigmoid()
    return found


@pytest.mark.parametrize(("layers", "segments"), [(1, 10), (1, 7), (2, 10), (3, 4)])
def test_on_hans_encoder_it_agrees_with_the_literal_implementation(layers, segments):
    table = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).double()
    network = seeded(
        LEAP(6, 7, 5, 4, segments, hidden_dim=8, encoder="han", num_layers=layers, num_heads=2, label_embeddings=table)
    )
    batch = small_videos(segments, 4)
    out = parse(network, batch)
    found = literal_leap(to_reference_state(network) | {"labels": table}, batch, layers, heads=2)
    for index, (m, prob) in enumerate((("a", out.audio_prob), ("v", out.visual_prob))):
        torch.testing.assert_close(out.segment_logits[:, :, index], found[m][0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(prob, found[m][1], rtol=1e-9, atol=1e-12)


def test_both_decoders_start_from_one_template():
    network = small(LEAP, 5, 3, encoder="han", num_layers=3)
    layers = [
        layer
        for decoder in (network.audio_decoder, network.visual_decoder)
        for layer in (*decoder.layers, decoder.last)
    ]
    first = layers[0].state_dict()
    assert len(layers) == 6
    assert all(torch.equal(tensor, first[name]) for layer in layers for name, tensor in layer.state_dict().items())
