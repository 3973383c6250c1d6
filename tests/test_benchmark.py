"""What `mmcse bench` measures with: turns, ratios, exponents, costs; and that all of it works at tiny sizes."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcse
from literal_loader import LiteralDataset, literal_loader, literal_scores, write_video_files
from mmcse.benchmark import machine, timing
from mmcse.benchmark.floor import OPTIMISER, REST, Costs, part_of, profile_step
from mmcse.benchmark.growth import map_bytes
from mmcse.benchmark.machine import was_busy
from mmcse.benchmark.memory import training_memory
from mmcse.benchmark.page import write_page
from mmcse.benchmark.timing import Quartiles, fit_power_law, ratio, take_turns
from mmcse.benchmark.ways import Sizes, build, inference, largest_difference, random_batch, recipe, training_step
from mmcse.cli import main
from mmcse.data import FeatureBank
from mmcse.data.datamodule import AVVPDataModule
from mmcse.errors import UserError
from mmcse.evaluation import parsing_scores

pytestmark = pytest.mark.slow

TINY = Sizes(videos=3, num_segments=4, num_classes=7, num_layers=2, micro_batch=2, widths=(6, 5, 4))


def test_ways_take_turns_and_warm_ups_do_not_count(monkeypatch):
    clock, calls = iter(range(100)), []
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(clock) ** 2))
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = take_turns(ways, repeats=2, warm_up=1)
    assert "".join(calls) == "abbaab"
    assert seconds == {"a": [7**2 - 6**2, 9**2 - 8**2], "b": [5**2 - 4**2, 11**2 - 10**2]}


def test_a_ratio_is_that_of_the_rounds():
    assert ratio([2, 40, 6], [1, 10, 3]) == Quartiles(2, 2, 3)
    assert Quartiles.of([1, 2, 3, 4, 5]) == (3, 2, 4)


@given(st.floats(-3, 3), st.floats(0.1, 10))
def test_a_power_law_is_found_again(exponent, constant):
    sizes = [1, 2, 4, 7, 30]
    fit = fit_power_law(sizes, [constant * size**exponent for size in sizes])
    assert fit.exponent == pytest.approx(exponent, abs=1e-9)
    assert fit.error == pytest.approx(0, abs=1e-6)


def test_the_error_of_an_exponent_is_that_of_a_regression():
    stats = pytest.importorskip("scipy.stats")
    sizes, costs = [1, 2, 4, 8, 16], [1.1, 3.5, 9.0, 42.0, 100.0]
    expected = stats.linregress(np.log(sizes), np.log(costs))
    assert fit_power_law(sizes, costs) == pytest.approx((expected.slope, expected.stderr))
    assert math.isnan(fit_power_law([1, 2], [3, 5]).error)


def test_both_ways_compute_the_same():
    assert largest_difference(TINY) < 1e-5


@pytest.mark.parametrize("way", ["ours", "literal"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_of_either_way_gives_every_parameter_a_gradient_and_learns_nothing(way, precision):
    network = build(way, TINY)
    before = {name: p.clone() for name, p in network.named_parameters()}
    training_step(network, random_batch(TINY), precision, TINY.micro_batch if way == "ours" else None)()
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is not None, name


def test_costs_are_counted_by_part():
    weight = torch.nn.Parameter(torch.randn(5, 4))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    x = torch.randn(3, 4)

    def step():
        optimizer.zero_grad()
        (torch.bmm(x.expand(2, 3, 4), torch.ones(2, 4, 6)).sum() + (x @ weight.T).softmax(dim=-1).sum()).backward()
        optimizer.step()

    with Costs() as costs:
        step()
    assert costs.multiply_adds["matrix products"] == 2 * 3 * 4 * 5  # forward, and the gradient of the weight
    assert costs.multiply_adds["attention products"] == 2 * 3 * 4 * 6
    assert costs.bytes["softmax"] == 4 * (2 * 15 + 3 * 15)  # in and out; gradient, output and what comes out
    assert costs.bytes[OPTIMISER] >= 4 * 2 * 20
    assert costs.shapes[(2, 3, 6)] == 1
    profiled = profile_step(step, repeats=2)
    assert all(part.seconds > 0 for part in profiled["parts"] if costs.bytes[part.part])
    assert profiled["outside"] > 0


@pytest.mark.parametrize(
    ("operation", "part"),
    [
        ("aten::mkldnn_convolution", "matrix products"),
        ("aten::addmm", "matrix products"),
        ("aten::_softmax_backward_data", "softmax"),
        ("aten::baddbmm", "attention products"),
        ("aten::ge", "dropout masks"),
        ("aten::gelu", REST),
        ("aten::linalg_vector_norm", REST),
        ("aten::_to_copy", "copies"),
        ("mmcse_kernels::attend_backward", "attention products"),
        ("mmcse_kernels::fuse", REST),
    ],
)
def test_operations_belong_to_parts(operation, part):
    assert part_of(operation) == part


def test_inference_makes_no_map_and_training_those_that_dropout_needs():
    sizes = replace(TINY, num_classes=40)  # of fewer, maps are small and faster made than avoided
    network, batch = build("ours", sizes), random_batch(sizes)
    a_map = (sizes.num_classes, sizes.num_classes)
    with Costs() as costs:
        inference(network, batch, "float32")()
    assert not any(shape[-2:] == a_map for shape in costs.shapes)
    with Costs() as costs:
        training_step(network, batch, "float32")()
    rows = sizes.videos * sizes.num_segments * 2
    assert (2 * rows * recipe().model.num_heads, *a_map) in costs.shapes  # of both modes at once


def test_what_maps_take_is_bounded_by_the_piece():
    sizes = Sizes(videos=64, num_segments=10, num_classes=25, num_layers=4, micro_batch=None)
    assert map_bytes(sizes, num_heads=8) == 2 * 2 * 4 * (64 * 10 * 2) * 8 * 25 * 25 * 4
    assert map_bytes(Sizes(micro_batch=16), 8) * 4 == map_bytes(sizes, 8)


@pytest.mark.slow
def test_memory_is_that_of_the_process_alone():
    large = bytearray(1 << 30)  # a process starts with the peak of the one that started it
    measured = training_memory("ours", "float32", sizes=TINY)
    assert 0 < measured["step"] < measured["peak"] < len(large)
    wide = training_memory("ours", "float32", sizes=Sizes(videos=16, num_layers=1, micro_batch=None))
    assert wide["step"] > measured["step"]


def test_the_literal_loader_and_scores_say_the_same(smoke_bank, tmp_path):
    bank = FeatureBank.open(smoke_bank)
    write_video_files(bank.split("test"), tmp_path / "test")
    dataset = LiteralDataset(tmp_path / "test", len(bank.classes))
    module = AVVPDataModule(bank, eval_batch_size=32)
    for literal, ours in zip(literal_loader(dataset, 32), module.test_dataloader(), strict=True):
        for name in ("audio", "visual", "motion", "weak", "pseudo_audio", "pseudo_visual", "true_audio", "true_visual"):
            assert torch.equal(literal[name], getattr(ours, name))
        expected = ours.pseudo_audio.unsqueeze(-1) * ours.pseudo_visual.unsqueeze(-2)
        assert torch.equal(literal["map_av"], expected)
        arrays = [
            literal[name].double().numpy() for name in ("pseudo_audio", "pseudo_visual", "true_audio", "true_visual")
        ]
        scores = parsing_scores(*(array > 0 for array in arrays))
        assert literal_scores(*arrays) == pytest.approx(list(scores.values())[:10], abs=1e-9)


def test_a_busy_machine_is_called_busy():
    about = {"environment": {"threads": 2}, "load_at_start": 0.1, "load_at_end": 2.2}
    assert not was_busy(about)
    assert was_busy(about | {"load_at_start": 1.0})
    assert was_busy(about | {"load_at_end": 3.0})


def test_a_benchmark_waits_until_the_load_has_fallen(monkeypatch, capsys):
    loads = iter([1.5, 1.5, 1.0, 0.7, 0.4, 0.4])
    monkeypatch.setattr(machine, "load_average", lambda: next(loads))
    assert machine.come_to_rest(pause=0)
    assert "its load is 1.5" in capsys.readouterr().err
    monkeypatch.setattr(machine, "load_average", lambda: 2.0)
    assert not machine.come_to_rest(patience=0)


def test_mistakes_are_named(tmp_path, monkeypatch, capsys):
    assert main(["bench", "--threads", "0"]) == 2
    assert "expected 1 or more" in capsys.readouterr().err
    (tmp_path / "ratios.json").write_text("{}")
    with pytest.raises(UserError, match=r"ratios\.json is not what `mmcse bench` writes"):
        write_page(tmp_path)
    monkeypatch.setattr(mmcse, "__file__", str(tmp_path / "lib" / "mmcse" / "__init__.py"))
    assert main(["bench", "--quick"]) == 2
    error = capsys.readouterr().err
    assert "run it in a checkout" in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ([], ("| training step | literal, float32 | ours, bfloat16 |", "| mmcse --help |", "## Floor")),
        (["--growth"], ("| L | 1 to 2 |", "growth.svg")),
        (["--full-preset"], ("| cold |", "128 training videos")),
        (["--streaming"], ("| second |", "## A bank larger than memory")),
        (["--jobs"], ("| 2 jobs x 1 thread |",)),
    ],
    ids=["ratios", "growth", "full-preset", "streaming", "jobs"],
)
def test_everything_works_at_tiny_sizes(option, said, tmp_path, capsys):
    assert main(["bench", "--quick", "--threads", "1", "--out", str(tmp_path), *option]) == 0
    page = (tmp_path / "README.md").read_text()
    for words in said:
        assert words in page
    assert "Tiny sizes" in page
    printed = capsys.readouterr().out
    assert all(line in page for line in printed.splitlines() if line.startswith("| "))
    [results] = (json.loads(file.read_text()) for file in tmp_path.glob("*.json"))
    assert results["quick"]
    assert results["machine"]["load_at_end"] > 0
