"""Functions that a compiler should call, not look into: what it would make of them is slower."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def opaque(fake: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function of tensors and numbers that makes new tensors.

    Called by itself it is the function as it is; where PyTorch compiles, a call of an operator "mmcse::" and its name.

    Args:
        fake: gives tensors of the shapes and types of the function's own, from the same arguments.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = f"mmcse::{function.__name__.removeprefix('_')}"
        tags = (torch.Tag.nondeterministic_seeded,)  # two calls are not taken for one
        operator = torch.library.custom_op(name, function, mutates_args=(), tags=tags)
        operator.register_fake(fake)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return operator(*args, **kwargs) if torch.compiler.is_compiling() else function(*args, **kwargs)

        return call

    return decorate
