"""An FGSE layer's work between its products as operators in C++, for CPUs: on request, and built where it is needed.

Their source, `kernels.cpp`, is compiled by `torch.utils.cpp_extension` when they are first asked for, into PyTorch's
cache, where they are found afterwards. They compute what `mmcse.models.merged` and `mmcse.models.feedforward` do in
PyTorch's operators, in fewer passes over memory; other random bits are drawn for dropout.
"""

import logging
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import flop_registry, register_flop_formula

from mmcse.errors import UserError, one_line
from mmcse.models.dropout import draw_seed

_NAME, _SOURCE = "mmcse_kernels", Path(__file__).with_name("kernels.cpp")
_TYPES = (torch.float32, torch.bfloat16, torch.float64)
_VECTORS = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"),
    "AVX2": ("-mavx2", "-mfma"),
}
"""What the compiler may make use of, by what PyTorch finds the processor capable of."""

log = logging.getLogger(__name__)


class _Switch:
    on = False


def use(wanted: bool) -> bool:
    """Compute with the operators from now on, or no longer.

    Args:
        wanted: use them, after building them where that has not been done, which takes half a minute. Where they cannot
            be built (without a C++ compiler, or ninja), a warning says why, and PyTorch's operators go on serving.

    Returns:
        Whether they are used.
    """
    _Switch.on = False
    if wanted:
        try:
            _build()
            _Switch.on = True
        except Exception as error:  # whatever a compiler, or PyTorch looking for one, may raise
            log.warning("kernels=true is left out, for they cannot be built: %s", _reason(error))
    return _Switch.on


@cache
def _build() -> None:
    from torch.utils.cpp_extension import load  # takes a while to import

    if not shutil.which(compiler := os.environ.get("CXX", "c++")):
        raise UserError(f"there is no C++ compiler ({compiler}).")
    folder, flags = _folder(), _VECTORS.get(torch.backends.cpu.get_cpu_capability(), ())
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / f"{_NAME}.so").is_file():
        log.warning("Building the operators in C++ that kernels=true asks for; once, in %s", folder)
    with FileLock(folder / "mmcse.lock"), _scripts_on_path():
        (folder / "lock").unlink(missing_ok=True)  # PyTorch's own, left by a process that was killed, is waited for
        load(
            _NAME,
            [str(_SOURCE)],
            extra_cflags=["-O3", "-fopenmp", *flags],
            build_directory=str(folder),
            is_python_module=False,
        )
    _count_operations()


def _count_operations() -> None:
    """Tell PyTorch's counter of operations (`FlopCounterMode`) what attention multiplies."""

    def formula(num_products: int) -> Callable[..., int]:
        def count(product: Sequence[int], dim: int, *args: Any, **kwargs: Any) -> int:
            *sets, n, _ = product
            return 2 * 2 * num_products * prod(sets) * n * n * dim  # of both modes

        return count

    operators = torch.ops.mmcse_kernels
    for operator, num_products in ((operators.attend, 2), (operators.attend_backward, 5)):
        if operator not in flop_registry:
            register_flop_formula(operator)(formula(num_products))


@contextmanager
def _scripts_on_path() -> Iterator[None]:
    """Ninja is found where pip has put it, though the environment be not activated."""
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), path))
    try:
        yield
    finally:
        os.environ["PATH"] = path


def _reason(error: Exception) -> str:
    """Why building failed: what the compiler found first, if it came so far."""
    return next((line for line in str(error).splitlines() if "error:" in line), one_line(error))


def _folder() -> Path:
    """Where the library is: for this PyTorch, this kind of processor, and this source."""
    capability, digest = torch.backends.cpu.get_cpu_capability().lower(), sha256(_SOURCE.read_bytes()).hexdigest()[:8]
    return Path(torch.hub.get_dir()).parent / "mmcse" / f"{torch.__version__}-{capability}-{digest}"


def serve(x: Tensor) -> bool:
    """Whether what follows is used for such a tensor."""
    return _Switch.on and x.device.type == "cpu" and x.dtype in _TYPES and not torch.compiler.is_compiling()


def attend(
    product: Tensor, dim: int, num_heads: int, rate: float, need_maps: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """As `mmcse.models.merged.attend`."""
    *tokens, maps = _Attend.apply(product.contiguous(), dim, num_heads, rate, need_maps)  # type: ignore[misc]
    return *tokens, maps if need_maps else None  # type: ignore[return-value]


def relu_mean(x: Tensor) -> Tensor:
    """As `mmcse.models.merged.relu_mean`."""
    return _ReluMean.apply(x)  # type: ignore[return-value]


def fuse(
    carried: Tensor, segment_1: Tensor, joint_q: Tensor, joint_a: Tensor, videos: list[Tensor], shares: list[Tensor]
) -> Tensor:
    """As `mmcse.models.merged.fuse`."""
    dense = (tensor.contiguous() for tensor in (joint_a, *videos, *shares))
    return _Fuse.apply(carried, segment_1.contiguous(), joint_q, *dense)  # type: ignore[return-value]


def relu_dropped(x: Tensor, rate: float) -> Tensor:
    """ReLU and dropout, without its scale and without a gradient."""
    return torch.ops.mmcse_kernels.relu_drop(x.contiguous(), rate, draw_seed())


class _Attend(Function):
    @staticmethod
    def forward(
        ctx: Any, product: Tensor, dim: int, num_heads: int, rate: float, need_maps: bool
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(product)
        ctx.arguments, ctx.need_maps = (dim, num_heads, rate, draw_seed() if rate else 0), need_maps
        intra, cross, maps = torch.ops.mmcse_kernels.attend(product, *ctx.arguments, need_maps)
        return intra, cross, *product[..., 6 * dim :].split(dim, dim=-1), maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (product,) = ctx.saved_tensors
        of_intra, of_cross, *of_others, of_maps = gradients
        of_product, dim = torch.empty_like(product), ctx.arguments[0]
        torch.ops.mmcse_kernels.attend_backward(
            product,
            *ctx.arguments,
            of_intra.contiguous(),
            of_cross.contiguous(),
            of_maps.contiguous() if ctx.need_maps else None,
            of_product,
        )
        for place, gradient in zip(of_product[..., 6 * dim :].split(dim, dim=-1), of_others, strict=True):
            place.copy_(gradient)
        return of_product, None, None, None, None


class _ReluMean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.ops.mmcse_kernels.relu_mean(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward((gradient / x.shape[1]).expand_as(x), x, 0)


class _Fuse(Function):
    @staticmethod
    def forward(ctx: Any, carried: Tensor, *others: Tensor) -> Tensor:
        ctx.save_for_backward(*others)
        return torch.ops.mmcse_kernels.fuse(carried, *others)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        of_segment_1, of_segment_2, *of_features = torch.ops.mmcse_kernels.fuse_backward(
            gradient.contiguous(), *ctx.saved_tensors
        )
        return gradient, of_segment_1, of_segment_2, of_segment_2, *of_features
