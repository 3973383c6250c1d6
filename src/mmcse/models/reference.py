"""The authors' checkpoints in and out: their parameter names, and how each of our tensors is made of theirs.

Our networks hold in one tensor what the reference code holds in many (a linear layer per class, for instance). Every
such tensor is a concatenation of theirs along the rows, so one table of names per network is all it takes, for both
directions.
"""

from collections.abc import Mapping
from functools import singledispatch

import torch
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.decoupling import ClassAwareDecoupling
from mmcse.models.hybrid import HAN, VALOR
from mmcse.models.mmcse import MMCSE

Names = dict[str, tuple[str, ...]]
"""Our parameter -> the reference parameters whose rows it concatenates."""


@singledispatch
def reference_names(network: nn.Module) -> Names:
    """Our parameter names, each with the names of the reference parameters it is made of.

    Raises:
        UserError: no reference implementation is known for this network.
    """
    raise UserError(f"There is no reference checkpoint format for {type(network).__name__}.")


@singledispatch
def unused_reference_names(network: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Parameters, with their shapes, that a reference state holds although its forward pass never uses them."""
    return {}


def load_reference_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a reference implementation's state dict into our network.

    Args:
        network: one of the suite's networks, built with the sizes of the checkpoint.
        state: the authors' names and tensors.

    Raises:
        UserError: a parameter is missing, unknown or of another shape; the message lists all of them.
    """
    names, own = reference_names(network), dict(network.named_parameters())
    expected = {theirs: shape for ours in names for theirs, shape in _pieces(own[ours], ours, names[ours])}
    optional = unused_reference_names(network)
    problems = [f"missing: {n} {s}" for n, s in expected.items() if n not in state]
    problems += [f"unknown: {n} {tuple(t.shape)}" for n, t in state.items() if n not in expected and n not in optional]
    problems += [
        f"shape of {n}: found {tuple(t.shape)}, expected {shape}"
        for n, t in state.items()
        if (shape := expected.get(n, optional.get(n))) is not None and tuple(t.shape) != shape
    ]
    if problems:
        raise UserError(
            f"This state does not fit {type(network).__name__} as it was built ({len(problems)} problems):\n  "
            + "\n  ".join(problems)
        )
    with torch.no_grad():
        for ours, theirs in names.items():
            own[ours].copy_(torch.cat([state[n] for n in theirs]).reshape(own[ours].shape))


def to_reference_state(network: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The network's parameters under the authors' names, so that they can be used in the reference code.

    Args:
        network: one of the suite's networks.
        tensors: what to rename instead of the parameters: a tensor per parameter name, gradients for instance.
    """
    own = dict(network.named_parameters()) if tensors is None else tensors
    state = {}
    for ours, theirs in reference_names(network).items():
        rows = own[ours].detach().reshape(-1) if _is_vector(ours) else own[ours].detach().flatten(0, -2)
        state |= dict(zip(theirs, (piece.clone() for piece in rows.chunk(len(theirs))), strict=True))
    return state


def _is_vector(name: str) -> bool:
    """Whether a parameter is made of vectors in the reference: biases are, and the weights of norms."""
    return name.endswith("bias") or "norm" in name


def _pieces(tensor: Tensor, ours: str, theirs: tuple[str, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the reference parameters that make up one of ours."""
    shape = (tensor.numel(),) if _is_vector(ours) else (tensor.numel() // tensor.shape[-1], tensor.shape[-1])
    return [(name, (shape[0] // len(theirs), *shape[1:])) for name in theirs]


def _linear(ours: str, *theirs: str) -> Names:
    """Weight and bias of our linear layer, made of the weights and biases of theirs."""
    return {f"{ours}.{part}": tuple(f"{name}.{part}" for name in theirs) for part in ("weight", "bias")}


def _front_end() -> Names:
    return (
        _linear("front_end.audio", "fc_a")
        | _linear("front_end.visual", "fc_v")
        | _linear("front_end.motion", "fc_st")
        | _linear("front_end.fusion", "fc_fusion")
    )


def _decoupling(module: ClassAwareDecoupling, ours: str, m: str) -> Names:
    """CAFD of one modality; `m` is the reference's letter for it, "a" or "v"."""
    classes = range(module.num_features)
    names = _linear(f"{ours}.first", *(f"{m}_unmix.{k}.1" for k in classes))
    if module.second is not None:
        names |= _linear(f"{ours}.second", *(f"{m}_unmix.{k}.4" for k in classes))
    names |= _linear(f"{ours}.blending.weight_mlp.1", f"alpha_{m}.model.1")
    names |= _linear(f"{ours}.blending.weight_mlp.4", f"alpha_{m}.model.4")
    names |= _linear(f"{ours}.blending.merge", f"reduce_{m}.0")
    first, second = ("a_recon.0", "a_recon.2") if m == "a" else ("v_recon.model.1", "v_recon.model.3")
    return names | _linear(f"{ours}.decoder.first", first) | _linear(f"{ours}.decoder.second", second)


def _attention(ours: str, theirs: str) -> Names:
    """`theirs` is a module of PyTorch's own attention."""
    names = {f"{ours}.in_proj.{part}": (f"{theirs}.in_proj_{part}",) for part in ("weight", "bias")}
    return names | _linear(f"{ours}.out_proj", f"{theirs}.out_proj")


def _fgse_layer(ours: str, theirs: str) -> Names:
    names: Names = {}
    for mode, index, projections in (
        ("intra", 1, {"segment": "glob1", "video": "glob2"}),
        ("cross", 2, {"segment": "glob"}),
    ):
        names |= _attention(f"{ours}.{mode}.secm.attention", f"{theirs}.SECM_{index}.attn")
        for our_name, their_name in projections.items():
            names |= _linear(f"{ours}.{mode}.lgsf.{our_name}", f"{theirs}.LGSF_{index}.{their_name}")
        names |= _linear(f"{ours}.{mode}.projection", f"{theirs}.fc{index}")
    names |= _linear(f"{ours}.norm", f"{theirs}.norm1")
    return (
        names
        | _linear(f"{ours}.feedforward.0", f"{theirs}.linear1")
        | _linear(f"{ours}.feedforward.3", f"{theirs}.linear2")
    )


@reference_names.register
def _(network: MMCSE) -> Names:
    if not network.is_full:
        raise UserError("The reference checkpoints are of the full MM-CSE; this network is an ablation of it.")
    names = _front_end()
    names |= _decoupling(network.audio_decoupling, "audio_decoupling", "a")
    names |= _decoupling(network.visual_decoupling, "visual_decoupling", "v")
    for index in range(len(network.layers)):
        names |= _fgse_layer(f"layers.{index}", f"av_enhance.layers.{index}")
    heads = ("fc_prob", "fc_frame_att", "fc_av_att")
    classes = range(len(network.head.linear.weight))
    return names | _linear("head.linear", *(f"{head}.fc.{k}" for k in classes for head in heads))


@unused_reference_names.register
def _(network: MMCSE) -> Mapping[str, tuple[int, ...]]:
    shape = (network.head.linear.weight.shape[-1],)
    return {f"av_enhance.final_norm_{m}.{part}": shape for m in "av" for part in ("weight", "bias")}


def _hybrid(network: HAN | VALOR) -> Names:
    """The part that HAN and VALOR have in common."""
    names = _front_end()
    for index in range(len(network.layers)):
        ours, theirs = f"layers.{index}", f"hat_encoder.layers.{index}"
        names |= _attention(f"{ours}.self_attention", f"{theirs}.self_attn")
        names |= _attention(f"{ours}.cross_attention", f"{theirs}.cm_attn")
        names |= _linear(f"{ours}.attention_norm", f"{theirs}.norm1")
        names |= _linear(f"{ours}.feedforward.0", f"{theirs}.linear1")
        names |= _linear(f"{ours}.feedforward.3", f"{theirs}.linear2")
        names |= _linear(f"{ours}.feedforward_norm", f"{theirs}.norm2")
    return (
        names
        | _linear("head.event", "fc_prob")
        | _linear("head.temporal", "fc_frame_att")
        | _linear("head.modality", "fc_av_att")
    )


@reference_names.register
def _(network: HAN) -> Names:
    return _hybrid(network)


@unused_reference_names.register
def _(network: HAN) -> Mapping[str, tuple[int, ...]]:
    width = network.front_end.audio.out_features
    inner = len(network.get_parameter("layers.0.feedforward.0.bias"))
    layer = {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        "self_attn.out_proj.weight": (width, width),
        "self_attn.out_proj.bias": (width,),
        "linear1.weight": (inner, width),
        "linear1.bias": (inner,),
        "linear2.weight": (width, inner),
        "linear2.bias": (width,),
    }
    norms = {f"norm{n}.{part}": (width,) for n in (1, 2) for part in ("weight", "bias")}
    encoders = ("audio_encoder", "visual_encoder", "cmt_encoder")
    unused = {f"{e}.layers.0.{name}": shape for e in encoders for name, shape in (layer | norms).items()}
    return unused | {f"{e}.{name}": shape for e in ("cmt_encoder", "hat_encoder") for name, shape in norms.items()}


@reference_names.register
def _(network: VALOR) -> Names:
    names = _hybrid(network)
    if isinstance(network.audio_norm, nn.LayerNorm):
        names |= _linear("audio_norm", "hat_encoder.final_norm_a") | _linear("visual_norm", "hat_encoder.final_norm_v")
    return names


@unused_reference_names.register
def _(network: VALOR) -> Mapping[str, tuple[int, ...]]:
    if isinstance(network.audio_norm, nn.LayerNorm):
        return {}
    shape = (network.front_end.audio.out_features,)
    return {f"hat_encoder.final_norm_{m}.{part}": shape for m in "av" for part in ("weight", "bias")}
