"""The authors' checkpoints in and out: their parameter names, and how each of our tensors is made of theirs.

Our networks hold in one tensor what the reference code holds in many (a linear layer per class, for instance). Every
such tensor is a concatenation of theirs along the rows, so one table of names per network is all it takes, for both
directions. A network that is not listed here registers its table in its own module.
"""

import math
from collections.abc import Mapping
from functools import singledispatch

import torch
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.decoupling import ClassAwareDecoupling
from mmcse.models.hybrid import HAN, VALOR
from mmcse.models.mmcse import MMCSE
from mmcse.models.recognition import FRONT_END_SIZES, HYBRID_MARKS, HYBRID_SIZES, known_by

Names = dict[str, tuple[str, ...]]
"""Our parameter or buffer -> the reference tensors whose rows it concatenates, in blocks of equal size.

A name that repeats holds that many blocks of the concatenation.
"""


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


@singledispatch
def repeated_reference_names(network: nn.Module) -> Mapping[str, str]:
    """Second names under which a reference state holds a tensor once more -> its first name.

    Where a state has both, the second name wins, as it does when the reference code loads it.
    """
    return {}


def load_reference_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a reference implementation's state dict into our network.

    Args:
        network: one of the suite's networks, built with the sizes of the checkpoint.
        state: the authors' names and tensors.

    Raises:
        UserError: a parameter is missing, unknown or of another shape; the message lists all of them.
    """
    names, own = reference_names(network), network.state_dict()
    repeated = repeated_reference_names(network)
    state = {n: t for n, t in state.items() if n not in repeated} | {
        first: state[second] for second, first in repeated.items() if second in state
    }
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
            pieces = [state[n].reshape(-1) for n in dict.fromkeys(theirs)]
            own[ours].copy_(torch.cat(pieces).reshape(own[ours].shape))


def to_reference_state(network: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The network's parameters and buffers under the authors' names, so that they can be used in the reference code.

    Args:
        network: one of the suite's networks.
        tensors: what to rename instead: a tensor per parameter name, gradients for instance.
    """
    own = network.state_dict() if tensors is None else tensors
    state = {}
    for ours, theirs in reference_names(network).items():
        if ours in own:  # buffers have no gradients
            pieces = _pieces(own[ours].detach(), ours, theirs)
            blocks = own[ours].detach().reshape(-1).split([math.prod(shape) for _, shape in pieces])
            state |= {name: block.reshape(shape).clone() for (name, shape), block in zip(pieces, blocks, strict=True)}
    return state


def _is_vector(name: str) -> bool:
    """Whether a parameter is made of vectors in the reference: biases are, and the weights of norms."""
    return name.endswith("bias") or "norm" in name


def _pieces(tensor: Tensor, ours: str, theirs: tuple[str, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the reference tensors that make up one of ours."""
    if len(theirs) == 1:
        return [(theirs[0], tuple(tensor.shape))]
    rows, *width = (tensor.numel(),) if _is_vector(ours) else (tensor.numel() // tensor.shape[-1], tensor.shape[-1])
    return [(name, (rows * theirs.count(name) // len(theirs), *width)) for name in dict.fromkeys(theirs)]


def linear_names(ours: str, *theirs: str) -> Names:
    """Weight and bias of our linear layer (norm, convolution), made of the weights and biases of theirs."""
    return {f"{ours}.{part}": tuple(f"{name}.{part}" for name in theirs) for part in ("weight", "bias")}


def linears_names(ours: str, theirs: str, table: Mapping[str, str]) -> Names:
    """Linear layers (norms, convolutions) inside of two modules, by a table of our names inside and theirs."""
    return {k: v for our, their in table.items() for k, v in linear_names(f"{ours}.{our}", f"{theirs}.{their}").items()}


def front_end_names() -> Names:
    """A `FrontEnd`."""
    return (
        linear_names("front_end.audio", "fc_a")
        | linear_names("front_end.visual", "fc_v")
        | linear_names("front_end.motion", "fc_st")
        | linear_names("front_end.fusion", "fc_fusion")
    )


def _decoupling(module: ClassAwareDecoupling, ours: str, m: str) -> Names:
    """CAFD of one modality; `m` is the reference's letter for it, "a" or "v"."""
    classes = range(module.num_features)
    names = linear_names(f"{ours}.first", *(f"{m}_unmix.{k}.1" for k in classes))
    if module.second is not None:
        names |= linear_names(f"{ours}.second", *(f"{m}_unmix.{k}.4" for k in classes))
    names |= linear_names(f"{ours}.blending.weight_mlp.1", f"alpha_{m}.model.1")
    names |= linear_names(f"{ours}.blending.weight_mlp.4", f"alpha_{m}.model.4")
    names |= linear_names(f"{ours}.blending.merge", f"reduce_{m}.0")
    first, second = ("a_recon.0", "a_recon.2") if m == "a" else ("v_recon.model.1", "v_recon.model.3")
    return names | linear_names(f"{ours}.decoder.first", first) | linear_names(f"{ours}.decoder.second", second)


def attention_names(ours: str, theirs: str) -> Names:
    """`theirs` is a module of PyTorch's own attention."""
    names = {f"{ours}.in_proj.{part}": (f"{theirs}.in_proj_{part}",) for part in ("weight", "bias")}
    return names | linear_names(f"{ours}.out_proj", f"{theirs}.out_proj")


def _fgse_layer(ours: str, theirs: str) -> Names:
    names: Names = {}
    for mode, index, projections in (
        ("intra", 1, {"segment": "glob1", "video": "glob2"}),
        ("cross", 2, {"segment": "glob"}),
    ):
        names |= attention_names(f"{ours}.{mode}.secm.attention", f"{theirs}.SECM_{index}.attn")
        for our_name, their_name in projections.items():
            names |= linear_names(f"{ours}.{mode}.lgsf.{our_name}", f"{theirs}.LGSF_{index}.{their_name}")
        names |= linear_names(f"{ours}.{mode}.projection", f"{theirs}.fc{index}")
    names |= linear_names(f"{ours}.norm", f"{theirs}.norm1")
    return (
        names
        | linear_names(f"{ours}.feedforward.0", f"{theirs}.linear1")
        | linear_names(f"{ours}.feedforward.3", f"{theirs}.linear2")
    )


known_by(
    "mmcse",
    {"a_unmix"},
    {"v_unmix"},
    {"av_enhance"},
    sizes=FRONT_END_SIZES
    | {
        "num_classes": "fc_prob.fc.",
        "num_layers": "av_enhance.layers.",
        "feedforward_dim": ("av_enhance.layers.0.linear1.weight", 0),
        "class_dim": ("a_unmix.0.1.weight", 0),
        "visual_decoupler_linears": "v_unmix.0.",
    },
)(MMCSE)
known_by("han", HYBRID_MARKS | {"fc_st", "audio_encoder"}, {"hat_encoder"}, sizes=HYBRID_SIZES)(HAN)
known_by("valor", {"hat_encoder", "hat_encoder.final_norm_a"}, {"hat_encoder"}, sizes=HYBRID_SIZES)(VALOR)


@reference_names.register
def _(network: MMCSE) -> Names:
    if not network.is_full:
        raise UserError("The reference checkpoints are of the full MM-CSE; this network is an ablation of it.")
    names = front_end_names()
    names |= _decoupling(network.audio_decoupling, "audio_decoupling", "a")
    names |= _decoupling(network.visual_decoupling, "visual_decoupling", "v")
    for index in range(len(network.layers)):
        names |= _fgse_layer(f"layers.{index}", f"av_enhance.layers.{index}")
    heads = ("fc_prob", "fc_frame_att", "fc_av_att")
    classes = range(len(network.head.linear.weight))
    return names | linear_names("head.linear", *(f"{head}.fc.{k}" for k in classes for head in heads))


@unused_reference_names.register
def _(network: MMCSE) -> Mapping[str, tuple[int, ...]]:
    shape = (network.head.linear.weight.shape[-1],)
    return {f"av_enhance.final_norm_{m}.{part}": shape for m in "av" for part in ("weight", "bias")}


def hybrid_layer_names(ours: str, theirs: str) -> Names:
    """A hybrid attention layer."""
    return (
        attention_names(f"{ours}.self_attention", f"{theirs}.self_attn")
        | attention_names(f"{ours}.cross_attention", f"{theirs}.cm_attn")
        | linear_names(f"{ours}.attention_norm", f"{theirs}.norm1")
        | linear_names(f"{ours}.feedforward.0", f"{theirs}.linear1")
        | linear_names(f"{ours}.feedforward.3", f"{theirs}.linear2")
        | linear_names(f"{ours}.feedforward_norm", f"{theirs}.norm2")
    )


def encoder_names(network: nn.Module) -> Names:
    """The hybrid attention layers of a network."""
    return {
        ours: theirs
        for index, _ in enumerate(network.get_submodule("layers").children())
        for ours, theirs in hybrid_layer_names(f"layers.{index}", f"hat_encoder.layers.{index}").items()
    }


def holistic_head_names() -> Names:
    """The three linear layers of a `HolisticHead`."""
    return (
        linear_names("head.event", "fc_prob")
        | linear_names("head.temporal", "fc_frame_att")
        | linear_names("head.modality", "fc_av_att")
    )


def hybrid_names(network: nn.Module) -> Names:
    """What HAN, VALOR and the methods on HAN's network have in common."""
    return front_end_names() | encoder_names(network) | holistic_head_names()


def norm_shapes(theirs: str, width: int) -> dict[str, tuple[int, ...]]:
    """The two layer norms of a layer, or those that the reference's encoders have and never apply."""
    return {f"{theirs}.norm{n}.{part}": (width,) for n in (1, 2) for part in ("weight", "bias")}


@reference_names.register
def _(network: HAN) -> Names:
    return hybrid_names(network)


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
    encoders = ("audio_encoder", "visual_encoder", "cmt_encoder")
    unused = {f"{e}.layers.0.{name}": shape for e in encoders for name, shape in layer.items()}
    for name in (*(f"{e}.layers.0" for e in encoders), "cmt_encoder", "hat_encoder"):
        unused |= norm_shapes(name, width)
    return unused


@reference_names.register
def _(network: VALOR) -> Names:
    names = hybrid_names(network)
    if isinstance(network.audio_norm, nn.LayerNorm):
        names |= linear_names("audio_norm", "hat_encoder.final_norm_a") | linear_names(
            "visual_norm", "hat_encoder.final_norm_v"
        )
    return names


@unused_reference_names.register
def _(network: VALOR) -> Mapping[str, tuple[int, ...]]:
    if isinstance(network.audio_norm, nn.LayerNorm):
        return {}
    shape = (network.front_end.audio.out_features,)
    return {f"hat_encoder.final_norm_{m}.{part}": shape for m in "av" for part in ("weight", "bias")}
