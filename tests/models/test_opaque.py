"""What a compiler is told of the functions that it only calls."""

import pytest
import torch

import mmcse.models  # noqa: F401 - whose import makes the operators
from mmcse.models.opaque import opaque

PRODUCT = torch.randn(2, 4, 2, 5, 8 * 6)
PARTS = torch.randn(3, 2, 2, 4, 2, 3, 5, 2), *torch.randn(2, 2, 4, 2, 5, 6).unbind()
SAMPLES = {
    "cpu_mask": (torch.randn(3, 5), 0.3),
    "relu_dropped": (torch.randn(5, 3).T, 0.3),
    "where_positive": (torch.randn(5, 3).T, torch.randn(3, 5)),
    "split_reading": (PRODUCT, 6, 3),
    "join_reading": PARTS,
}


def operators():
    return {
        name.removeprefix("mmcse::") for name in torch._C._dispatch_get_all_op_names() if name.startswith("mmcse::")
    }


def test_there_is_a_sample_of_every_operator():
    assert operators() - {"of_a_test"} == SAMPLES.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SAMPLES)
def test_shapes_and_types_are_those_that_are_announced(name, dtype):
    sample = [x.to(dtype) if isinstance(x, torch.Tensor) else x for x in SAMPLES[name]]
    utilities = ("test_schema", "test_faketensor")  # not autograd: gradients are by hand, outside of the operators
    torch.library.opcheck(getattr(torch.ops.mmcse, name).default, sample, test_utils=utilities)


def test_reading_is_split_and_joined_without_loss():
    split = torch.ops.mmcse.split_reading(PRODUCT, 6, 3)
    assert torch.equal(torch.ops.mmcse.join_reading(*split), PRODUCT)


def test_a_function_is_called_as_it_is_where_nothing_compiles():
    calls = []

    @opaque(lambda x: torch.empty_like(x))
    def of_a_test(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return x * 2

    x = torch.ones(2)
    assert torch.equal(of_a_test(x), torch.full((2,), 2.0))
    assert calls[0] is x
