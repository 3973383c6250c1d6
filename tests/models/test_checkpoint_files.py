"""The authors' files in and out, our folders, and every kind of wrong file."""

import inspect
import json
import os
import re

import pytest
import torch
from torch import nn

from mmcse.errors import MissingFileError, UserError
from mmcse.models import HAN, MMCSE, VALOR
from mmcse.models.checkpoint_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    export_reference,
    import_checkpoint,
    load_network,
    read_reference_checkpoint,
    recognise,
    save_network,
)
from mmcse.models.reference import to_reference_state

WIDTHS = {"audio_dim": 6, "visual_dim": 7, "motion_dim": 5, "num_classes": 3, "hidden_dim": 8}
SMALL = {
    "mmcse": WIDTHS | {"class_dim": 4, "num_layers": 2, "num_heads": 2, "feedforward_dim": 6},
    "han": WIDTHS | {"num_layers": 1, "num_heads": 1, "feedforward_dim": 6},
    "valor": WIDTHS | {"num_layers": 3, "num_heads": 4, "feedforward_dim": 6},
}
BUILD = {"mmcse": MMCSE, "han": HAN, "valor": VALOR}
every_model = pytest.mark.parametrize("model", SMALL)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return state.keys() == one.state_dict().keys() and all(
        torch.equal(t, state[n]) for n, t in one.state_dict().items()
    )


@pytest.fixture
def checkpoint(tmp_path):
    """Writes the authors' checkpoint of a small network, and returns both."""

    def write(model: str, **changes) -> tuple[nn.Module, str]:
        network = BUILD[model](**SMALL[model] | changes)
        path = tmp_path / f"{model}.pth"
        export_reference(network, path)
        return network, path

    return write


@every_model
def test_import_export_import_keeps_every_tensor(checkpoint, tmp_path, model):
    original, path = checkpoint(model)
    first, arguments = import_checkpoint(path, model, num_heads=SMALL[model]["num_heads"])
    export_reference(first, tmp_path / "again.pth")
    second, _ = import_checkpoint(tmp_path / "again.pth", num_heads=SMALL[model]["num_heads"])
    assert same_weights(original, first)
    assert same_weights(first, second)
    before, after = torch.load(path), torch.load(tmp_path / "again.pth")
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not first.training
    assert {name: arguments[name] for name in SMALL[model]} == SMALL[model]
    assert set(arguments) == set(inspect.signature(BUILD[model]).parameters)


@every_model
def test_an_imported_network_computes_what_the_original_did(checkpoint, model):
    original, path = checkpoint(model)
    imported, _ = import_checkpoint(path, num_heads=SMALL[model]["num_heads"])
    features = [torch.randn(2, 10, width) for width in (6, 7, 5)]
    torch.testing.assert_close(imported(*features).segment_logits, original.eval()(*features).segment_logits)


@pytest.mark.parametrize(
    ("name", "model", "looks_like"),
    [
        ("mmcse_clip_clap", "mmcse", "MMCSE on CLAP/CLIP (hidden_dim 256, num_layers 4, num_classes 25)"),
        ("mmcse_vggish_resnet", "mmcse", "MMCSE on VGGish/ResNet-152 (hidden_dim 256, num_layers 4, num_classes 25)"),
        ("valor_h256_l4_vggish_resnet", "valor", "VALOR on VGGish/ResNet-152 (hidden_dim 256, num_layers 4,"),
        ("han", "han", "HAN on VGGish/ResNet-152 (hidden_dim 512, num_layers 1, num_classes 25)"),
    ],
)
def test_the_authors_states_are_recognised_imported_and_exported_with_all_their_names(
    shared, tmp_path, name, model, looks_like
):
    shapes = json.loads((shared / "golden" / "reference_state.json").read_text())[name]
    state = {key: torch.randn(shape) for key, shape in shapes.items()}
    assert looks_like in str(recognise(state))
    torch.save(state, tmp_path / "checkpoint_best.pth")
    network, arguments = import_checkpoint(tmp_path / "checkpoint_best.pth", model)
    export_reference(network, tmp_path / "ours.pth")
    exported = torch.load(tmp_path / "ours.pth")
    assert {key: list(tensor.shape) for key, tensor in exported.items()} == shapes
    used = to_reference_state(network)
    assert all(torch.equal(state[key], tensor) for key, tensor in used.items())
    defaults = {"mmcse": 8, "valor": 8, "han": 1}
    assert arguments["num_heads"] == defaults[model]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_wrapped_states_are_unwrapped(checkpoint, tmp_path, wrap):
    network, path = checkpoint("han")
    torch.save(wrap(torch.load(path)), tmp_path / "wrapped.pth")
    assert same_weights(import_checkpoint(tmp_path / "wrapped.pth")[0], network)


def test_what_shapes_do_not_tell_can_be_given(checkpoint):
    _, path = checkpoint("valor", norm="pre", num_segments=6)
    network, arguments = import_checkpoint(path, "valor", norm="pre", num_segments=6, num_heads=2)
    assert isinstance(network.audio_norm, nn.LayerNorm)
    assert network.front_end.num_segments == 6
    assert (arguments["norm"], arguments["num_heads"], arguments["num_segments"]) == ("pre", 2, 6)
    with pytest.raises(UserError, match=r"no argument 'num_head'. Did you mean 'num_heads'"):
        import_checkpoint(path, num_head=2)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


@pytest.mark.parametrize("content", [{"a": RunsCode()}, {"state_dict": {"a": torch.zeros(2)}, "hook": RunsCode()}])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "evil.pth")
    with pytest.raises(UserError, match=r"more than tensors: it would load \w+\.mkdir"):
        import_checkpoint("evil.pth")
    assert not (tmp_path / "code-was-run").exists()


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(UserError, match=r"it would load torch\.nn\.modules\.linear\.Linear"):
        read_reference_checkpoint(tmp_path / "module.pth")


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"<html>404</html>", lambda b: b"hello"]
)
def test_a_damaged_file_is_told_from_a_wrong_one(checkpoint, tmp_path, damage):
    _, path = checkpoint("han")
    (tmp_path / "damaged.pth").write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"damaged .* or not a PyTorch checkpoint"):
        import_checkpoint(tmp_path / "damaged.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(3), "holds a Tensor"),
        ([torch.zeros(3)], "holds a list"),
        ({}, "holds a dict of 0 entries"),
        ({"epoch": 3, "fc_a.weight": torch.zeros(2)}, "a dict of 2 entries ('epoch': int, 'fc_a.weight': Tensor)"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path, content, said):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=re.escape(said)):
        read_reference_checkpoint(tmp_path / "other.pth")


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match="There is no file"):
        import_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize(("is_a", "taken_for"), [("valor", "mmcse"), ("han", "valor"), ("mmcse", "han")])
def test_another_model_than_expected_is_named(checkpoint, is_a, taken_for):
    _, path = checkpoint(is_a)
    looks_like = f"This looks like {BUILD[is_a].__name__} on features of 6 (audio) and 7 (visual) numbers (hidden_dim 8"
    with pytest.raises(UserError, match=re.escape(looks_like)) as error:
        import_checkpoint(path, taken_for)
    assert f"not like {BUILD[taken_for].__name__}. Use --model {is_a}." in str(error.value)


def test_a_state_of_something_else_is_no_checkpoint(tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(UserError, match=r"no checkpoint of a known method's authors; it has 2 tensors.* bias, weight"):
        import_checkpoint(tmp_path / "linear.pth")
    with pytest.raises(UserError, match=r"no model 'valour'. Did you mean 'valor'\?"):
        import_checkpoint(tmp_path / "linear.pth", "valour")


def test_without_the_unused_parameters_han_and_valor_look_the_same(tmp_path):
    network = HAN(**SMALL["han"])
    torch.save(to_reference_state(network), tmp_path / "bare.pth")
    with pytest.raises(UserError, match="may be han or valor"):
        import_checkpoint(tmp_path / "bare.pth")
    assert same_weights(import_checkpoint(tmp_path / "bare.pth", "han")[0], network)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("fc_fusion.bias"), ("looks like VALOR on", "missing: fc_fusion.bias (8,)")),
        (lambda s: s.pop("fc_st.weight"), ("looks like VALOR, but fc_st.weight is missing",)),
        (lambda s: s.update(extra=torch.zeros(2)), ("unknown: extra (2,)",)),
        (
            lambda s: s.update({"fc_fusion.weight": torch.zeros(8, 9)}),
            ("1 problems", "shape of fc_fusion.weight: found (8, 9), expected (8, 16)"),
        ),
    ],
)
def test_a_state_that_does_not_fit_says_what_it_looks_like_and_what_is_wrong(checkpoint, tmp_path, change, said):
    _, path = checkpoint("valor")
    state = torch.load(path)
    change(state)
    torch.save(state, tmp_path / "changed.pth")
    with pytest.raises(UserError) as error:
        import_checkpoint(tmp_path / "changed.pth", num_heads=4)
    assert all(words in str(error.value) for words in said)


def test_heads_that_do_not_divide_the_width_are_refused(checkpoint):
    _, path = checkpoint("valor")
    with pytest.raises(UserError, match=r"looks like VALOR .* must be a multiple of num_heads \(3\)"):
        import_checkpoint(path, num_heads=3)


@every_model
def test_a_saved_network_is_read_back_with_its_arguments(tmp_path, model):
    network = BUILD[model](**SMALL[model])
    save_network(tmp_path / "saved", network, SMALL[model], {"file": "checkpoint_best.pth"})
    loaded, arguments = load_network(tmp_path / "saved")
    assert type(loaded) is BUILD[model]
    assert same_weights(network, loaded)
    assert arguments == SMALL[model]
    assert not loaded.training
    config = json.loads((tmp_path / "saved" / CONFIG_FILE).read_text())
    assert config == {"network": model, "arguments": SMALL[model], "source": {"file": "checkpoint_best.pth"}}


def test_a_network_without_reference_is_not_saved_this_way(tmp_path):
    with pytest.raises(UserError, match="A Linear cannot be saved this way"):
        save_network(tmp_path, nn.Linear(2, 2), {})


def test_an_interrupted_save_leaves_no_mixture(tmp_path, monkeypatch):
    save_network(tmp_path, HAN(**SMALL["han"]), SMALL["han"])

    def full(*_):
        raise OSError("disk on fire")

    monkeypatch.setattr("mmcse.models.checkpoint_files.write_json", full)
    with pytest.raises(OSError, match="disk on fire"):
        save_network(tmp_path, VALOR(**SMALL["valor"]), SMALL["valor"])
    with pytest.raises(MissingFileError, match=f"no {CONFIG_FILE}"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        (CONFIG_FILE, lambda b: b[:10], "does not describe a network"),
        (CONFIG_FILE, lambda b: b.replace(b'"han"', b'"hen"'), "does not describe a network"),
        (CONFIG_FILE, lambda b: b.replace(b"hidden_dim", b"hidden"), "does not describe a network"),
        (CONFIG_FILE, lambda b: b"[]", "does not describe a network"),
        (CONFIG_FILE, lambda b: b.replace(b'"num_classes": 3', b'"num_classes": 4'), "size mismatch"),
        (WEIGHTS_FILE, lambda b: b[: len(b) // 2], "is damaged"),
        (WEIGHTS_FILE, lambda b: b"", "is damaged"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, file, damage, said):
    save_network(tmp_path, HAN(**SMALL["han"]), SMALL["han"])
    (tmp_path / file).write_bytes(damage((tmp_path / file).read_bytes()))
    with pytest.raises(UserError, match=said):
        load_network(tmp_path)
