"""Files and configurations that mean harm: nothing that lies in one is ever run."""

import ast
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from killable import narrow_bank
from omegaconf import OmegaConf

import mmcse
import tiny
from layout_files import write_layout
from mmcse import cli
from mmcse.callbacks.card import CARD
from mmcse.checkpoints import load_checkpoint
from mmcse.configuration import check_calls, compose_config
from mmcse.data import read_annotations
from mmcse.data.npy import read_array
from mmcse.errors import UserError
from mmcse.evaluate import evaluate
from mmcse.evaluation.predictions import score_predictions
from mmcse.models.checkpoint_files import import_checkpoint, load_network
from mmcse.train import train

SOURCE = Path(mmcse.__file__).parent

TARGETS = (
    "os.system", "os.popen", "subprocess.run", "subprocess.Popen", "builtins.eval", "builtins.exec",
    "builtins.__import__", "importlib.import_module", "pickle.loads", "shutil.rmtree", "pathlib.Path.unlink",
    "hydra.utils.get_class", "hydra.utils.get_method", "hydra.utils.instantiate", "hydra._internal.utils._locate",
    "omegaconf.OmegaConf.load", "joblib.load", "numpy.load", "webbrowser.open", "runpy.run_path", "code.interact",
    "torch.load", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "torch.ops.load_library",
    "torch.classes.load_library", "torch.package.PackageImporter", "torch.utils.cpp_extension.load",
    "torch.serialization.load", "torch.save", "torch.distributed.run.main", "torch.multiprocessing.spawn",
    "torch.nn.modules.module.os.system", "torch.optim.optimizer.functools.partial", "torch.optim.optimizer.partial",
    "lightning.pytorch.cli.LightningCLI", "lightning.pytorch.utilities.model_helpers.os.system",
    "lightning.fabric.utilities.cloud_io._load", "lightning.pytorch.loggers.wandb.os.remove",
    "mmcse.configuration.calls.import_module", "mmcse.train.instantiate", "mmcse.evaluate.instantiate",
    "mmcse.data.bank.shutil.rmtree", "mmcse.data.bank.FileLock", "mmcse.data.npy.os.system", "mmcse.data.npy.os",
    "mmcse.data.prepare.ThreadPoolExecutor", "mmcse.runs.folder.forget", "mmcse.files.atomic_write",
    "mmcse.models.reference.__builtins__", "mmcse.data", "mmcse", ".", "..os.system", "mmcse.data..os", "os", "a b.c",
)  # fmt: skip


@pytest.fixture
def evil(tmp_path):
    """An object that leaves a trace when it is unpickled, and the trace it would leave."""
    trace = tmp_path / "it was run"

    class Evil:
        def __reduce__(self):
            return Path.touch, (trace,)

    return Evil(), trace


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train(tiny.config(narrow_bank(folder / "bank"), folder / "runs", "trainer.max_epochs=1"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "place",
    [
        lambda call: {"model": call},
        lambda call: {"model": {"_target_": "mmcse.models.MMCSE", "hidden_dim": call}},
        lambda call: {"scheduler": {"_target_": "torch.optim.lr_scheduler.SequentialLR", "schedulers": [[call]]}},
        lambda call: {"model": {"_target_": "torch.nn.Sequential", "_args_": [call]}},
        lambda call: {"trainer": {"callbacks": [{"deep": [{"er": call}]}]}},
        lambda call: {"model": {**call, "_partial_": True}},
        lambda call: {"evil": call, "model": "${evil}"},
        lambda call: {"model": "${oc.create:" + str(OmegaConf.to_yaml(call, resolve=False)).strip() + "}"},
    ],
    ids=["node", "argument", "list", "args", "deep", "partial", "reference", "resolver"],
)
def test_targets_outside_the_lists_are_refused_wherever_they_stand(target, place, evidence):
    config = OmegaConf.create(place({"_target_": target}))
    with pytest.raises(UserError):
        check_calls(config)
    evidence(inputs=1)


def test_a_target_is_not_even_imported_before_it_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="outside the trusted packages"):
        check_calls(OmegaConf.create({"model": {"_target_": "evil_module.Network"}}))


@pytest.mark.parametrize("part", ["model", "data"])
@pytest.mark.parametrize("target", ["os.system", "evil_module.Network", "torch.hub.load"])
def test_a_checkpoint_does_not_say_what_to_trust(run, tmp_path, monkeypatch, evidence, part, target):
    """A card that names code and trusts it: an own method's, too, is run only when the user says so."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    checkpoint = load_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    package = target.split(".")[0]
    checkpoint[CARD][part]["_target_"] = target
    checkpoint[CARD]["packages"] = [package]
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="outside the trusted packages"):
        evaluate(compose_config("eval", [f"checkpoint={tmp_path / 'evil.ckpt'}", "trainer.accelerator=cpu"]))
    evidence(inputs=1)


def test_sizes_that_only_a_card_claims_are_not_built(run, tmp_path, evidence):
    for name, size in {"num_layers": 10**9, "hidden_dim": 10**6, "num_classes": 4000, "feedforward_dim": 4096}.items():
        checkpoint = load_checkpoint(run.folder / "checkpoints" / "best.ckpt")
        checkpoint[CARD]["model"][name] = size
        torch.save(checkpoint, tmp_path / "evil.ckpt")
        with pytest.raises(UserError, match="checkpoint"):
            evaluate(compose_config("eval", [f"checkpoint={tmp_path / 'evil.ckpt'}", "trainer.accelerator=cpu"]))
        evidence(inputs=1)


def test_nothing_is_unpickled(evil, tmp_path, run, evidence):
    bomb, trace = evil
    file, layout = tmp_path / "file", write_layout(tmp_path / "layout")
    pickled, saved = pickle.dumps(bomb), io.BytesIO()
    torch.save({"state_dict": {"a": bomb}, CARD: bomb}, saved)
    arrays, archive = io.BytesIO(), io.BytesIO()
    np.save(arrays, np.array([bomb], dtype=object), allow_pickle=True)
    np.savez(archive, ids=np.array([bomb], dtype=object), audio=np.zeros(1), visual=np.zeros(1))
    readers = (
        load_checkpoint, import_checkpoint, read_array, lambda file: score_predictions(file, layout.annotations, "val"),
        lambda file: cli.main(["eval", f"checkpoint={file}"]) == 0 or refuse(),
        lambda file: load_network_of(file, run),
    )  # fmt: skip
    for content in (pickled, saved.getvalue(), arrays.getvalue(), archive.getvalue()):
        file.write_bytes(content)
        for read in readers:
            with pytest.raises(UserError):
                read(file)
            evidence(inputs=1)
    assert not trace.exists()
    pickle.loads(pickled)
    assert trace.exists(), "the object would leave no trace, and the test shows nothing"


def refuse():
    raise UserError("the command said so")


def load_network_of(file, run):
    folder = file.with_name("network")
    folder.mkdir(exist_ok=True)
    (folder / "network.json").write_text('{"network": "mmcse", "arguments": {"num_layers": 1}}')
    (folder / "network.safetensors").write_bytes(file.read_bytes())
    load_network(folder)


def test_archives_that_unpack_to_more_than_they_are_stay_packed(tmp_path, evidence):
    zeros = bytes(5_000_000)
    for suffix, entries in {
        ".ckpt": ["a/data.pkl", "a/data/0"],
        ".npz": ["ids.npy", "audio.npy", "visual.npy"],
    }.items():
        with zipfile.ZipFile(tmp_path / f"bomb{suffix}", "w", zipfile.ZIP_DEFLATED) as archive:
            for entry in entries:
                archive.writestr(entry, zeros)
    with pytest.raises(UserError, match="claim more than the file holds"):
        load_checkpoint(tmp_path / "bomb.ckpt")
    annotations = write_layout(tmp_path / "layout").annotations
    with pytest.raises(UserError, match="unpacks to 15 MB"):
        score_predictions(tmp_path / "bomb.npz", annotations, "val")
    evidence(inputs=2)


def test_names_in_a_bank_lead_nowhere_else(tmp_path, evidence):
    bank = narrow_bank(tmp_path / "bank")
    manifest = (bank / "manifest.json").read_text()
    for name in ("../../elsewhere", "/etc", "..", "a/b"):
        for old in ('"test":', '"pseudo_audio":'):
            (bank / "manifest.json").write_text(manifest.replace(old, f'"{name}":'))
            with pytest.raises(UserError, match="is no name of a"):
                mmcse.data.FeatureBank.open(bank)
            evidence(inputs=1)


def test_names_in_annotations_are_only_names(tmp_path):
    annotations = write_layout(tmp_path / "layout").annotations
    for file in annotations.iterdir():
        file.write_text(file.read_text().replace("va-video_00", "../../../et"))
    assert read_annotations(annotations, "val").names[0].startswith("../../../et")


def test_the_code_calls_no_shell_and_unpickles_nothing():
    """What bandit looks for, on every machine: bandit itself runs in `make audit`."""
    for file in SOURCE.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            name, words = ast.unparse(call.func), {word.arg: word.value for word in call.keywords}
            where = f"{file.name}, line {call.lineno}: {name}"
            assert "shell" not in words, where
            assert name not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads"), where
            if name == "torch.load":
                assert ast.unparse(words["weights_only"]) == "True", where
            if name in ("np.load", "numpy.load"):
                assert ast.unparse(words["allow_pickle"]) == "False", where
            assert not name.endswith((".extractall", "yaml.load")), where
