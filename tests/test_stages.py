"""Methods of several stages: one command, a run for each stage, nothing done twice, nothing lost in between."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

import mmcse.artefacts
import mmcse.parser
import tiny
from mmcse.configuration import compose_config
from mmcse.data import AVVPDataModule
from mmcse.data.label_changes import RemovedLabels, read_label_changes, write_label_changes
from mmcse.errors import UserError
from mmcse.objectives.denoising import NoiseRatios, read_noise_ratios, write_noise_ratios
from mmcse.runs.record import read_record
from mmcse.stages import run_stages, stage_config
from mmcse.train import train
from mmcse.vocabulary import LLP_CLASSES

pytestmark = pytest.mark.slow

METHODS = {
    "jomold": ("noise_estimator", "objective.noise_ratios", "noise_ratios-*.json"),
    "ma": ("ma_base", "data.label_changes", "label_changes-*.tsv"),
    "dhhn_retrain": ("ma_base", "data.label_changes", "label_changes-*.tsv"),
}


def config(bank, root, method, *overrides):
    chosen = (f"model={method}", *tiny.data(bank), *tiny.TRAINING)
    return compose_config("train", [*chosen, *tiny.method(*chosen), f"run.root={root}", *overrides])


def only(folder, pattern):
    [found] = folder.glob(pattern)
    return found


@pytest.fixture(scope="module", params=METHODS)
def trained(request, smoke_bank, tmp_path_factory):
    """A method, where its runs lie, and its last run."""
    root = tmp_path_factory.mktemp("runs")
    return request.param, root, train(config(smoke_bank, root, request.param))


def test_every_stage_is_a_run_of_its_own_and_its_file_counts(trained, smoke_bank):
    method, root, run = trained
    stage, key, pattern = METHODS[method]
    earlier = only(root / method / stage, "*-seed*")
    assert read_record(earlier)["status"] == run.record["status"] == "ok"
    assert read_record(earlier)["name"] == f"{method}/{stage}"
    assert read_record(earlier)["config"]["stages"] is None
    file = only(earlier, pattern)
    assert OmegaConf.select(OmegaConf.create(run.record["config"]), key) == str(file)
    assert list(run.record["files"]) == [key]
    bank = AVVPDataModule(smoke_bank).bank
    if method == "jomold":
        ratios = read_noise_ratios(file)
        assert ratios.audio.shape == (len(bank.classes),)
        assert ratios.visual.any()  # what an estimator finds after an epoch is mostly noise
    else:
        videos = bank.split("train")
        removed = read_label_changes(file, videos.ids, bank.classes, videos.arrays["weak"] > 0)
        batch = AVVPDataModule(smoke_bank, label_changes=str(file)).train_dataloader().dataset[np.arange(len(videos))]
        assert np.array_equal(batch.weak_audio.numpy(), (batch.weak.numpy() > 0) & ~removed.audio)
        assert np.array_equal(batch.weak_visual.numpy(), (batch.weak.numpy() > 0) & ~removed.visual)


def test_what_is_finished_is_not_repeated_and_moving_it_changes_no_identity(trained, smoke_bank, tmp_path, monkeypatch):
    method, root, run = trained

    def never(*_):
        raise AssertionError("this was done before")

    monkeypatch.setattr(mmcse.parser.VideoParser, "training_step", never)
    monkeypatch.setattr(mmcse.artefacts, "_weak", never)  # both makers read the weak labels
    assert train(config(smoke_bank, root, method)).folder == run.folder
    root.rename(tmp_path / "moved")
    assert train(config(smoke_bank, tmp_path / "moved", method)).folder.name == run.folder.name
    (tmp_path / "moved").rename(root)


@pytest.mark.parametrize("stopped_in", ["first stage", "making the file", "last stage"])
def test_a_method_that_was_stopped_goes_on_to_the_same_bits(trained, smoke_bank, tmp_path, monkeypatch, stopped_in):
    method, _, whole = trained
    step = mmcse.parser.VideoParser.training_step

    def stopping(self, batch, batch_idx):
        first = batch.weak_audio is None and getattr(self.objective, "mean_over_videos", True)
        if first == (stopped_in == "first stage") and self.current_epoch == (0 if first else 1):
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if stopped_in == "making the file":
            patch.setattr(mmcse.artefacts, "_weak", stopped)
        else:
            patch.setattr(mmcse.parser.VideoParser, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(config(smoke_bank, tmp_path, method))
    resumed = train(config(smoke_bank, tmp_path, method))
    assert resumed.folder.name == whole.folder.name
    assert resumed.record["scores"] == whole.record["scores"]
    assert (resumed.folder / "history.csv").read_bytes() == (whole.folder / "history.csv").read_bytes()


def test_other_settings_of_a_maker_make_another_file_from_the_same_training(trained, smoke_bank, caplog):
    method, root, run = trained
    stage, _, pattern = METHODS[method]
    settings = {"noise_estimator": "visual_threshold=0.1", "ma_base": "threshold=0.9"}[stage]
    other = train(config(smoke_bank, root, method, f"stages.{stage}.makes.{settings}"))
    assert other.folder != run.folder
    assert other.record["files"] != run.record["files"]
    assert ("Label changes: of 209 labels, audio loses" in caplog.text) == (stage == "ma_base")
    earlier = only(root / method / stage, "*-seed*")
    assert len(list(earlier.glob(pattern))) == 2
    next(file for file in earlier.glob(pattern) if str(file) in json.dumps(other.record["config"])).unlink()


def test_a_file_is_made_on_batches_of_its_stage(smoke_bank, tmp_path, monkeypatch):
    sizes = []

    def shown(videos, size, description):
        sizes.append(size)
        return videos.batches(size)

    monkeypatch.setattr(mmcse.artefacts, "_shown", shown)
    whole = config(smoke_bank, tmp_path, "jomold", "data.batch_size=5")
    train(whole)
    assert sizes == [stage_config(whole, "noise_estimator").data.batch_size] == [64]


@pytest.mark.parametrize("method", ["ma", "cvcms", "dhhn_retrain"])
def test_the_first_stage_of_ma_is_its_authors_recipe(method):
    staged = stage_config(compose_config("train", [f"model={method}"]), "ma_base")
    OmegaConf.resolve(staged)
    assert staged.model == {"_target_": "mmcse.models.MA"}
    assert staged.objective == {
        "_target_": "mmcse.objectives.MAObjective",
        "contrast": 1.0,
        "visual_smoothing": 0.1,
        "video_target": "audio",
        "temperature": 0.2,
        "contrast_smoothing": 0.1,
    }
    assert (staged.trainer.max_epochs, staged.trainer.gradient_clip_val, staged.data.batch_size) == (12, None, 16)
    optimizer = instantiate(staged.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"], staged.rates) == (3e-4, 0, None)
    scheduler = instantiate(staged.scheduler)(optimizer)
    assert type(scheduler) is torch.optim.lr_scheduler.StepLR
    assert (scheduler.step_size, scheduler.gamma) == (10, 0.1)
    kept = ("select", "select_on_test", "gate", "threshold", "gate_threshold", "search_thresholds", "test_pair")
    assert [staged.evaluation[key] for key in kept] == ["last", False, "audio/visual", 0.5, None, None, None]
    assert staged.data.label_changes is None


def test_a_stage_replaces_parts_and_merges_the_rest():
    chosen = compose_config(
        "train", ["model=cmpae", "data=bank", "data.bank=x", "trainer.accelerator=cpu", "rates={a: 1}"]
    )
    staged = stage_config(chosen, "noise_estimator")
    assert staged.model == {"_target_": "mmcse.models.JoMoLD", "cross_attention": False}
    assert (staged.data.bank, staged.data.batch_size, staged.trainer.accelerator) == ("x", 128, "cpu")
    assert (staged.evaluation.threshold, staged.evaluation.gate_threshold) == (0.5, None)
    assert staged.rates is None
    assert staged.stages is None
    assert chosen.model._target_ == "mmcse.models.CMPAE"


def test_a_stage_sees_weak_labels_and_never_ends_early_whatever_the_whole_is_given():
    given = ["data.label_changes=x", "data.segment_labels=y", "evaluation.patience=3", *tiny.data("bank")]
    for method, stage in (("jomold", "noise_estimator"), ("cvcms", "ma_base")):
        staged = stage_config(compose_config("train", [f"model={method}", *given]), stage)
        assert (staged.data.label_changes, staged.data.segment_labels, staged.evaluation.patience) == (None, None, None)


@pytest.mark.parametrize("method", ["jomold", "cmpae"])
def test_the_contrast_of_the_estimator_is_the_method_s_and_its_own_words_come_first(method):
    switched = ["objective.contrast=0", "objective.contrast_form=cross_entropy", "objective.temperature=0.3"]
    own = "stages.noise_estimator.changes.objective.contrast_smoothing=0.4"
    chosen = compose_config("train", [f"model={method}", *switched, own, "objective.visual=0.7", *tiny.data("bank")])
    objective = stage_config(chosen, "noise_estimator").objective
    assert (objective.contrast, objective.contrast_form, objective.temperature) == (0, "cross_entropy", 0.3)
    assert (objective.contrast_smoothing, objective.audio, objective.visual) == (0.4, 1, 1)


def test_a_stage_s_schedule_is_as_long_as_the_stage():
    changed = ["scheduler@stages.noise_estimator.changes.scheduler=warmup_cosine", *tiny.data("bank")]
    chosen = compose_config("train", ["experiment=baselines/jomold", "trainer.max_epochs=7", *changed])
    assert stage_config(chosen, "noise_estimator").scheduler.max_epochs == 10


@pytest.fixture
def given(smoke_bank, tmp_path):
    """Files that a user may have, in place of what a stage would leave."""
    bank = AVVPDataModule(smoke_bank).bank
    ratios, changes = tmp_path / "ratios.json", tmp_path / "changes.tsv"
    write_noise_ratios(ratios, NoiseRatios(*torch.full((2, len(bank.classes)), 0.5)), bank.classes)
    videos = bank.split("train")
    removed = RemovedLabels(videos.arrays["weak"] > 0, videos.arrays["weak"] < 0)
    write_label_changes(changes, removed, videos.ids, bank.classes)
    return {"objective.noise_ratios": ratios, "data.label_changes": changes}


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("jomold", "objective.noise_ratios"),
        ("cmpae", "objective.noise_ratios"),
        ("ma", "data.label_changes"),
        ("cvcms", "data.label_changes"),
    ],
)
def test_a_stage_whose_file_is_given_is_left_out_with_a_word(method, key, given, smoke_bank, tmp_path, caplog):
    run = train(config(smoke_bank, tmp_path / "runs", method, f"{key}={given[key]}", "trainer.max_epochs=1"))
    [stage] = compose_config("train", [f"model={method}"]).stages
    assert f"Stage {stage} is left out: {key} is given, as {given[key]}" in caplog.text
    assert [folder.name for folder in (tmp_path / "runs" / method).iterdir() if folder.is_dir()] == [run.folder.name]
    assert OmegaConf.select(OmegaConf.create(run.record["config"]), key) == str(given[key])
    assert run.record["config"]["stages"] is None
    assert list(run.record["files"]) == [key]
    alone = compose_config("train", [f"model={method}", "stages=none", *tiny.data(smoke_bank)])
    usual = compose_config("train", [f"model={method}", f"{key}={given[key]}", *tiny.data(smoke_bank)])
    assert run_stages(usual, lambda config: pytest.fail("a stage was run")).stages == alone.stages


@pytest.mark.parametrize("chosen", ["model=jomold", "model=cmpae", "experiment=table1/cmpae"])
def test_the_released_noise_ratios_are_at_hand(chosen):
    released = compose_config("train", [chosen, "stages=released_ratios", *tiny.data("bank")])
    assert released.stages is None
    file = released.objective.noise_ratios
    content, ratios = json.loads(Path(file).read_text()), read_noise_ratios(file)
    assert content["classes"] == list(LLP_CLASSES)
    assert (float(ratios.visual[0]), float(ratios.audio[0])) == (0.994, 0.0646)
    assert (float(ratios.visual[-1]), float(ratios.audio[-1])) == (0.2561, 0.0488)
    assert (round(float(ratios.visual.sum()), 4), round(float(ratios.audio.sum()), 4)) == (3.4186, 1.0629)
    mine = compose_config("train", [chosen, "stages=released_ratios", "objective.noise_ratios=x", *tiny.data("bank")])
    assert mine.objective.noise_ratios == "x"


def test_table_1_trains_cmpae_on_the_released_ratios_from_the_script_s_seed():
    shipped = compose_config("train", ["experiment=table1/cmpae", *tiny.data("bank")])
    assert shipped.objective.noise_ratios.endswith("released_ratios.json")
    assert (shipped.stages, shipped.seed, compose_config("train", ["model=cmpae"]).seed) == (None, 0, 1)
    made = compose_config("train", ["experiment=table1/cmpae", "stages=noise_estimator", *tiny.data("bank")])
    assert made.objective.noise_ratios is None
    assert list(made.stages) == ["noise_estimator"]


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("{base: {changes: {}}}", r"stages.base has \['changes'\]; expected changes, feeds, file, makes"),
        ("{base: 3}", "stages.base is 3; expected"),
        ("{base: {changes: {}, makes: {}, file: x, feeds: model.hidden_dim}}", "feeds is 'model.hidden_dim'; expected"),
    ],
)
def test_a_stage_that_is_none_is_refused(smoke_bank, tmp_path, stages, said):
    with pytest.raises(UserError, match=said):
        train(tiny.config(smoke_bank, tmp_path, f"++stages={stages}"))
