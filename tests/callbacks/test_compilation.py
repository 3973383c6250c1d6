"""Compiled networks: the same results, or training without, and a message."""

import pytest
import torch
from torch import nn

import tiny
from mmcse.configuration import TrainSettings
from mmcse.train import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def eager(smoke_bank, tmp_path_factory):
    return train(tiny.config(smoke_bank, tmp_path_factory.mktemp("runs"), "trainer.max_epochs=1"))


def compiled(bank, root):
    return train(tiny.config(bank, root, "trainer.max_epochs=1", "compile=true"))


def same_run(run, other):
    assert run.folder.name == other.folder.name  # compiling is no part of what makes a run
    assert run.record["losses"] == other.record["losses"]
    assert run.record["scores"] == other.record["scores"]


def test_a_compiler_that_fails_is_reported_and_left_out(eager, smoke_bank, tmp_path, monkeypatch, caplog):
    def fail(*inputs):
        raise RuntimeError("no compiler here\nand a long trace")

    monkeypatch.setattr(nn.Module, "compile", lambda network, **_: setattr(network, "_compiled_call_impl", fail))
    run = compiled(smoke_bank, tmp_path)
    assert "trained without being compiled: no compiler here and a long trace" in caplog.text
    same_run(run, eager)


@pytest.mark.parametrize("mode", ["output", "gradient", "training"])
def test_results_that_differ_are_reported_and_left_out(eager, smoke_bank, tmp_path, monkeypatch, caplog, mode):
    wrong_by = {"output": 1.01, "gradient": 1.01, "training": float("nan")}[mode]

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, training):
            ctx.training = training
            return x * wrong_by if mode == "output" else x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * wrong_by if mode == "gradient" or (
                mode == "training" and ctx.training
            ) else gradient, None

    def miscompile(network, **_):
        head = network.head

        def call(*inputs, **options):
            hook = head.register_forward_pre_hook(lambda _, tokens: (Wrong.apply(tokens[0], network.training),))
            try:
                return network.forward(*inputs, **options)
            finally:
                hook.remove()

        network._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", miscompile)
    run = compiled(smoke_bank, tmp_path)
    said = {"output": "logits would differ by", "gradient": "the gradient of", "training": "in training"}
    assert said[mode] in caplog.text
    same_run(run, eager)


def test_a_network_that_stays_the_same_stays_compiled(eager, smoke_bank, tmp_path, monkeypatch, caplog):
    calls = []

    def compile_(network, **_):
        network._compiled_call_impl = lambda *inputs, **options: calls.append(network) or network.forward(*inputs)

    monkeypatch.setattr(nn.Module, "compile", compile_)
    run = compiled(smoke_bank, tmp_path)
    pieces = -(-64 // TrainSettings.micro_batch)  # of each of the two batches
    assert len(calls) == 2 + 2 * pieces  # to check, evaluating and training; then the steps, and no evaluation
    assert calls[0]._compiled_call_impl is None
    assert "without being compiled" not in caplog.text
    same_run(run, eager)


@pytest.mark.slow
def test_the_real_compiler(eager, smoke_bank, tmp_path, caplog):
    run = compiled(smoke_bank, tmp_path)
    assert "without being compiled" not in caplog.text
    assert run.record["losses"]["total"] == pytest.approx(eager.record["losses"]["total"], rel=0.05)
    state = torch.load(run.folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    expected = torch.load(eager.folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert state.keys() == expected.keys()
