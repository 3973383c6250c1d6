"""How the authors' checkpoints are told apart, and what their shapes tell of a network's sizes.

Each network's module says by which modules a state of it is known, beside the names of its parameters.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from mmcse.errors import UserError

N = TypeVar("N", bound=nn.Module)
State = Mapping[str, Tensor]
Source = tuple[str, int] | str | Callable[[State], Any]
"""Where a state says a size: the axis of a tensor, the number of members of a module, or whatever a function finds."""

FRONT_END_SIZES = {
    "audio_dim": ("fc_a.weight", -1),
    "visual_dim": ("fc_v.weight", -1),
    "motion_dim": ("fc_st.weight", -1),
    "hidden_dim": ("fc_a.weight", 0),
}
HYBRID_MARKS = frozenset(("hat_encoder", "hat_encoder.norm1"))
HYBRID_SIZES: dict[str, Source] = FRONT_END_SIZES | {
    "num_classes": ("fc_frame_att.weight", 0),
    "num_layers": "hat_encoder.layers.",
    "feedforward_dim": ("hat_encoder.layers.0.linear1.weight", 0),
}


@dataclass(frozen=True)
class Reference:
    """A network that has a reference implementation."""

    network: type[nn.Module]
    marks: tuple[frozenset[str], ...]
    """Modules of a state, up to three levels deep; all of one of these sets are in each state of the network."""
    sizes: Mapping[str, Source]
    """What shapes tell of the network's arguments. The number of heads, for one, they do not."""
    method: str
    """The configuration in `conf/model` whose protocol it is evaluated by."""

    def sizes_of(self, state: State) -> dict[str, Any]:
        """The arguments that a state's shapes tell.

        Raises:
            UserError: a tensor that tells one is missing.
        """
        return {argument: self._read(state, source) for argument, source in self.sizes.items()}

    def _read(self, state: State, source: Source) -> Any:
        if callable(source):
            return source(state)
        if isinstance(source, str):
            return len({name.removeprefix(source).split(".")[0] for name in state if name.startswith(source)})
        name, axis = source
        if name not in state:
            raise UserError(f"This looks like {self.network.__name__}, but {name} is missing.")
        return state[name].shape[axis] if state[name].ndim else 0


REFERENCES: dict[str, Reference] = {}
"""The networks that have a reference implementation, under the names of the command line."""


def known_by(
    name: str, *marks: Collection[str], sizes: Mapping[str, Source], method: str | None = None
) -> Callable[[type[N]], type[N]]:
    """Make a network's checkpoints known.

    Args:
        name: of the network, on the command line.
        marks: see `Reference`; one set, or several.
        sizes: see `Reference`.
        method: see `Reference`; the name, if nothing is said.
    """

    def register(network: type[N]) -> type[N]:
        REFERENCES[name] = Reference(network, tuple(map(frozenset, marks)), sizes, method or name)
        return network

    return register


def candidates(state: State) -> list[str]:
    """The networks that a state may belong to: those whose marks it has, but for those with fewer marks than others."""
    modules = {".".join(name.split(".")[:depth]) for name in state for depth in (1, 2, 3)}
    found = [(name, marks) for name, known in REFERENCES.items() for marks in known.marks if marks <= modules]
    best = [name for name, marks in found if not any(marks < others for _, others in found)]
    return list(dict.fromkeys(best))
