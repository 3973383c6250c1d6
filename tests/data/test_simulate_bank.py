from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmcse.data import BankWriter, FeatureBank, check_bank, prepare_bank
from mmcse.data.simllp import PRESETS, simulate, simulated_bank, write_valor_layout
from mmcse.data.simllp.simulate import SimLLP
from mmcse.errors import UserError
from mmcse.vocabulary import LLP_CLASSES

SIZE = {"train": 30, "val": 8, "test": 12, "audio_dim": 24, "visual_dim": 16, "motion_dim": 12}
LABELS = ("weak", "true_audio", "true_visual", "pseudo_audio", "pseudo_visual")
FEATURES = ("audio", "visual", "motion")


def simulated(folder, **overrides) -> FeatureBank:
    return simulated_bank(folder, preset="smoke", progress=False, **{**SIZE, **overrides})


def test_bank_holds_what_simulate_gives(tmp_path):
    bank = simulated(tmp_path / "bank", world=2)
    data = simulate(PRESETS["smoke"].but(**SIZE), world=2)
    assert bank.kind == "simulated"
    assert bank.classes == LLP_CLASSES
    assert bank.num_segments == 10
    for split in ("train", "val", "test"):
        stored = bank.split(split)
        assert stored.ids == tuple(data[split].ids.tolist())
        for name in (*LABELS, *FEATURES):
            np.testing.assert_array_equal(stored.arrays[name], getattr(data[split], name), err_msg=name)


def test_source_says_where_the_bank_is_from(tmp_path):
    source = simulated(tmp_path / "bank", world=2, rho=0.3).source
    assert source["generator"] == "SimLLP"
    assert (source["version"], source["world"], source["rho"], source["train"]) == (1, 2, 0.3, 30)


def test_bank_of_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("mmcse.data.simllp.features.CHUNK", 7)
    bank = simulated(tmp_path / "bank")
    data = simulate(PRESETS["smoke"].but(**SIZE))
    for name in (*LABELS, *FEATURES):
        np.testing.assert_array_equal(bank.split("train").arrays[name], getattr(data["train"], name))


def test_bank_is_built_once(tmp_path, monkeypatch):
    first = simulated(tmp_path / "bank")
    monkeypatch.setattr(BankWriter, "__init__", lambda *_, **__: pytest.fail("built again"))
    assert simulated(tmp_path / "bank").digest == first.digest


def test_several_at_once_build_it_once(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        banks = list(pool.map(lambda _: simulated(tmp_path / "bank"), range(3)))
    assert len({bank.digest for bank in banks}) == 1


def test_other_settings_are_refused(tmp_path):
    simulated(tmp_path / "bank")
    with pytest.raises(UserError, match=r"world: 0 there, 5 wanted.*remove this one"):
        simulated(tmp_path / "bank", world=5)


def test_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="already holds something"):
        simulated(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_unknown_preset_and_setting_are_named(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'small'"):
        simulated_bank(tmp_path / "bank", preset="smal")
    with pytest.raises(UserError, match="Did you mean 'noise'"):
        simulated(tmp_path / "bank", nois=1)
    assert not list(tmp_path.iterdir())


def test_interrupted_build_is_continued(tmp_path, monkeypatch):
    monkeypatch.setattr("mmcse.data.simllp.features.CHUNK", 7)
    whole = simulated(tmp_path / "whole")

    features = SimLLP.features

    def interrupted(self, labels):
        for number, piece in enumerate(features(self, labels)):
            if number == 2:
                raise KeyboardInterrupt
            yield piece

    with monkeypatch.context() as patch:
        patch.setattr(SimLLP, "features", interrupted)
        with pytest.raises(KeyboardInterrupt):
            simulated(tmp_path / "bank")
    assert not (tmp_path / "bank").exists()
    assert simulated(tmp_path / "bank").manifest.splits == whole.manifest.splits


def test_bank_passes_the_check(tmp_path):
    simulated(tmp_path / "bank")
    assert check_bank(tmp_path / "bank").ok


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layout")
    write_valor_layout(folder, preset="smoke", progress=False, **SIZE)
    return folder


def test_layout_has_valors_folders_and_shapes(layout):
    video = simulate(PRESETS["smoke"].but(**SIZE))["val"].ids[0]
    shapes = {
        "CLAP/features": (64, 24),
        "CLIP/features": (10, 16),
        "feats/r2plus1d_18": (10, 12),
        "CLAP/segment_pseudo_labels": (10, 25),
        "CLIP/segment_pseudo_labels": (10, 25),
    }
    for place, shape in shapes.items():
        assert np.load(layout / place / f"{video}.npy", allow_pickle=False).shape == shape
        assert len(list((layout / place).glob("*.npy"))) == 50


def test_layout_says_that_it_is_simulated(layout):
    assert "simulated" in (layout / "SIMULATED.txt").read_text()


def test_layout_prepared_is_the_bank(layout, tmp_path):
    annotations = layout / "annotations"
    prepared = prepare_bank(
        layout, annotations, tmp_path / "prepared", layout="valor", kind="simulated", progress=False
    )
    bank = simulated(tmp_path / "bank")
    for split in ("train", "val", "test"):
        a, b = prepared.split(split), bank.split(split)
        assert a.ids == b.ids
        for name in LABELS if split != "train" else ("weak", "pseudo_audio", "pseudo_visual"):
            np.testing.assert_array_equal(a.arrays[name], b.arrays[name], err_msg=name)
        for name in FEATURES:
            np.testing.assert_allclose(a.arrays[name], b.arrays[name], atol=1e-5, err_msg=name)


def test_layout_goes_on_where_it_is_the_same_and_nowhere_else(layout, tmp_path):
    write_valor_layout(layout, preset="smoke", progress=False, **SIZE)
    with pytest.raises(UserError, match="already holds something else"):
        write_valor_layout(layout, preset="smoke", world=1, progress=False, **SIZE)
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="already holds something else"):
        write_valor_layout(tmp_path, preset="smoke", progress=False, **SIZE)
