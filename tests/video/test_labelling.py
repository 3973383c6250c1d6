"""Pseudo labels on disk, from stored embeddings and teachers that are made up."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from layout_files import write_table
from mmcse import cli
from mmcse.data.npy import DamagedFileError
from mmcse.errors import MissingFileError, UserError
from mmcse.video import labelling
from mmcse.video.pseudo_labels import ByModality
from mmcse.video.recipe import Questions, Recipe

CLASSES = ("Dog", "Cat")
T, WIDTHS = 3, {"audio": 4, "visual": 5}
NAMES = {"train": ("one", "two"), "val": ("three", "four"), "test": ("five",)}


def vectors(words, width):
    """A direction for every word."""
    seeds = ([ord(letter) for letter in word] for word in words)
    return np.stack([np.random.default_rng(seed).standard_normal(width) for seed in seeds]).astype(np.float32)


def teacher(width, scale):
    return SimpleNamespace(text_embeddings=lambda prompts: vectors(prompts, width), logit_scale=scale)


TEACHERS = SimpleNamespace(
    window=T,
    audio=teacher(WIDTHS["audio"], 10.0),
    visual=teacher(WIDTHS["visual"], 100.0),
    report_name="segment_embeddings.json",
    settings={"window": T, "encoders": {"CLAP": "1234"}},
)
RECIPE = Recipe(
    CLASSES, Questions(("a dog barks", "a cat"), np.array([1.0, -1.0])), Questions(("a dog", "cats"), np.zeros(2))
)


@pytest.fixture
def folders(tmp_path):
    """Features with embeddings of all videos, and their annotations."""
    features, annotations = tmp_path / "features", tmp_path / "labels"
    annotations.mkdir()
    weak, dense = ("filename", "event_labels"), ("filename", "onset", "offset", "event_labels")
    for split, file in (("train", "AVVP_train.csv"), ("val", "AVVP_val_pd.csv"), ("test", "AVVP_test_pd.csv")):
        write_table(annotations / file, weak, list(zip(NAMES[split], ("Dog,Cat", "Dog"), strict=False)))
    rows = [("three", 0, 2, "Dog"), ("four", 1, 3, "Dog"), ("five", 0, 1, "Cat")]
    for modality in ("audio", "visual"):
        write_table(annotations / f"AVVP_eval_{modality}.csv", dense, rows)
    for stream in labelling.STREAMS:
        (features / stream.folder).mkdir(parents=True)
        for number, name in enumerate(name for names in NAMES.values() for name in names):
            array = np.random.default_rng(number).standard_normal((T, WIDTHS[stream.name]), dtype=np.float32)
            np.save(features / stream.folder / f"{name}.npy", array)
    return features, annotations


def label(folders, recipe=RECIPE, splits=None, **options):
    features, annotations = folders
    labels = labelling.read_splits(annotations, recipe, splits, T)
    return labelling.segment_logits(features, labels, recipe, TEACHERS, **options)


def test_logits_are_those_of_each_video_and_modality(folders):
    train, val, test = label(folders)
    assert [split.labels.split for split in (train, val, test)] == ["train", "val", "test"]
    stored = np.load(folders[0] / "CLIP/segment_embeddings/four.npy")
    prompts = vectors(RECIPE.visual.prompts, 5)
    cosines = stored @ prompts.T / np.linalg.norm(stored, axis=1)[:, None] / np.linalg.norm(prompts, axis=1)
    np.testing.assert_allclose(val.logits.visual[1], 100 * cosines, rtol=1e-4)
    assert train.truth is None
    assert test.truth.audio.shape == (1, T, 2)


def test_labels_are_written_as_the_layout_wants_them(folders):
    features, _ = folders
    splits = label(folders)
    report = labelling.write_labels(features, RECIPE, splits)
    marked = splits[0].marked(RECIPE)
    written = np.load(features / "CLAP/segment_pseudo_labels/one.npy")
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, marked.audio[0])
    np.testing.assert_array_equal(written, (splits[0].logits.audio[0] > [1, -1]) & [True, True])
    assert len(list((features / "CLIP/segment_pseudo_labels").iterdir())) == 5
    assert report["splits"]["train"]["marked"]["audio"] == marked.audio.sum()
    saved = json.loads((features / labelling.REPORT).read_text())
    assert saved["recipe"]["audio"]["prompts"] == list(RECIPE.audio.prompts)
    assert "quality" in saved["splits"]["val"]


class TestCalibration:
    def test_looks_at_validation_alone(self, folders):
        splits = label(folders)
        calibrated = labelling.calibrate(RECIPE, splits)
        others = [labelling.LabelledSplit(s.labels, ByModality(s.logits.audio + 9, s.logits.visual - 9))
                  if s.labels.split != "val" else s for s in splits]  # fmt: skip
        np.testing.assert_array_equal(labelling.calibrate(RECIPE, others).audio.thresholds, calibrated.audio.thresholds)
        _, val, _ = splits
        before, after = (labelling.describe(val, recipe)["quality"] for recipe in (RECIPE, calibrated))
        for modality in ("audio", "visual"):
            assert after[modality]["F"][0] >= before[modality]["F"][0]
        assert calibrated.audio.thresholds[1] == RECIPE.audio.thresholds[1]  # no annotated Cat

    def test_needs_validation(self, folders):
        splits = label(folders, splits=["train", "test"])
        with pytest.raises(UserError, match=r"AVVP_val_pd.csv is not among the splits \(train, test\)"):
            labelling.calibrate(RECIPE, splits)


class TestMistakes:
    def test_train_alone_is_enough(self, folders):
        (folders[1] / "AVVP_val_pd.csv").unlink()
        (folders[1] / "AVVP_test_pd.csv").unlink()
        assert len(label(folders)) == 1

    def test_no_annotation(self, folders, tmp_path):
        with pytest.raises(MissingFileError, match=r"There is none of AVVP_train.csv"):
            label((folders[0], tmp_path))

    def test_missing_embeddings_are_counted(self, folders):
        (folders[0] / "CLAP/segment_embeddings/two.npy").unlink()
        (folders[0] / "CLIP/segment_embeddings/five.npy").unlink()
        with pytest.raises(MissingFileError, match=r"2 of 5 annotated videos have no embeddings in .*: two, five"):
            label(folders)

    def test_videos_without_embeddings_can_be_left_out(self, folders):
        whole = label(folders)
        (folders[0] / "CLAP/segment_embeddings/three.npy").unlink()
        train, val, test = label(folders, skip_missing=True)
        assert val.labels.ids == ("four",)
        np.testing.assert_array_equal(val.truth.audio, whole[1].truth.audio[1:])
        np.testing.assert_array_equal(val.marked(RECIPE).visual, whole[1].marked(RECIPE).visual[1:])
        assert (len(train.labels.ids), len(test.labels.ids)) == (2, 1)
        (folders[0] / "CLAP/segment_embeddings/five.npy").unlink()
        with pytest.raises(MissingFileError, match="2 of 5"):  # nothing is left of test
            label(folders, skip_missing=True)

    def test_embeddings_of_other_weights(self, folders):
        settings = TEACHERS.settings | {"encoders": {"CLAP": "5678"}}
        (folders[0] / TEACHERS.report_name).write_text(json.dumps({"settings": settings}))
        with pytest.raises(UserError, match="another encoders"):
            label(folders)

    def test_embeddings_of_other_windows(self, folders):
        np.save(folders[0] / "CLAP/segment_embeddings/two.npy", np.zeros((10, 4), np.float32))
        with pytest.raises(DamagedFileError, match=r"found \(10, 4\), expected \(3, 4\)"):
            label(folders)

    def test_a_class_that_the_recipe_lacks(self, folders):
        recipe = Recipe(("Dog", "Cow"), RECIPE.audio, RECIPE.visual)
        with pytest.raises(UserError, match="line 2: unknown class 'Cat'"):
            label(folders, recipe)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--recipe", "valor_llp"], "unknown class 'Beep'"),
            (["--recipe", "nothing"], "There is no recipe 'nothing'"),
            (["--recipe", "RECIPE", "nowhere.mp4"], "There is no video nowhere.mp4"),
            (["--recipe", "RECIPE", "--calibrate", "x.yaml"], "AVVP_val_pd.csv is not among the splits"),
        ],
    )
    def test_are_said_before_weights_are_loaded(self, tmp_path, capsys, monkeypatch, words, message):
        def load(*_, **__):
            raise AssertionError("weights were loaded")

        monkeypatch.setattr(labelling, "SegmentEmbedder", load)
        write_table(tmp_path / "AVVP_train.csv", ("filename", "event_labels"), [("one", "Beep")])
        entry = "{prompt: a, threshold: 1}"
        (tmp_path / "own.yaml").write_text(f"classes: {{Beep: {{audio: {entry}, visual: {entry}}}}}")
        words = [str(tmp_path / "own.yaml") if word == "RECIPE" else word for word in words]
        assert cli.main(["pseudo-label", "--annotations", str(tmp_path), "--out", str(tmp_path / "f"), *words]) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert len(shown.splitlines()) == 1


def test_the_template_is_printed_without_any_other_option(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["pseudo-label", "--template"])
    assert stop.value.code == 0
    (tmp_path / "own.yaml").write_text(capsys.readouterr().out)
    assert Recipe.find(tmp_path / "own.yaml").classes == ("Dog", "Doorbell")
