"""One's own videos, weak labels and classes, all the way to the events of a video."""

import json
import pickle
import re
import shlex
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import tiny
from layout_files import write_layout, write_table
from mmcse import cli
from mmcse.configuration import compose_config
from mmcse.data import FeatureBank, prepare_bank, read_annotations
from mmcse.data.label_changes import read_label_changes
from mmcse.errors import MissingFileError, UserError
from mmcse.video import events
from mmcse.video.recipe import Recipe
from mmcse.vocabulary import LLP_CLASSES, read_vocabulary

WEAK, DENSE = ("filename", "event_labels"), ("filename", "onset", "offset", "event_labels")
CLASSES = ("Beep", "Red square", "Hum")
T = 4
NAMES = {
    "train": ("garden 01", "garden 02", "kitchen", "a-very-long-name-of-a-video", "talk_0", "talk_4"),
    "val": ("val one", "val two", "val three"),
    "test": ("test one", "test two"),
}
RECIPE = """\
classes:
  Beep:
    audio: {prompt: This is a sound of a beep, threshold: 0}
    visual: {prompt: A photo of a loudspeaker., threshold: 0}
  Red square:
    audio: {prompt: This is a sound of a square, threshold: 0}
    visual: {prompt: A photo of a red square., threshold: 0}
  Hum:
    audio: {prompt: This is a sound of a hum, threshold: 0}
    visual: {prompt: A photo of a refrigerator., threshold: 0}
"""


def write_annotations(folder: Path) -> Path:
    folder.mkdir()
    for split, file in (("train", "AVVP_train.csv"), ("val", "AVVP_val_pd.csv"), ("test", "AVVP_test_pd.csv")):
        labels = ["Beep", "Red square,Beep", "Hum,Beep", "Red square", "Beep", "Hum,Red square"]
        write_table(folder / file, WEAK, list(zip(NAMES[split], labels, strict=False)))
    heard = [(name, 0, 3, "Beep") for name in (*NAMES["val"], *NAMES["test"])]
    seen = [(name, 1, 4, "Red square") for name in (NAMES["val"][1], NAMES["test"][1])]
    write_table(folder / "AVVP_eval_audio.csv", DENSE, heard)
    write_table(folder / "AVVP_eval_visual.csv", DENSE, seen)
    return folder


class TestVocabulary:
    @pytest.mark.parametrize("text", ["classes: [Dog, Red square]", "classes: {Dog: , Red square: {audio: 1}}"])
    def test_is_a_list_or_a_mapping(self, tmp_path, text):
        (tmp_path / "own.yaml").write_text(text)
        assert list(read_vocabulary(tmp_path / "own.yaml")) == ["Dog", "Red square"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has no classes"),
            ("[Dog, Cat]", "has no classes"),
            ("classes: Dog", "has no classes"),
            ("classes: []", "has no classes"),
            ("classes: [Dog, Dog]", "'Dog' stands there twice"),
            ("classes: {Dog: 1, Dog: 2}", "duplicate key"),
            ("classes: [yes, Cat]", "True cannot be the name of a class"),
            ("classes: ['Dog, Cat']", "'Dog, Cat' cannot be the name"),
            ("classes: [' Dog']", "' Dog' cannot be the name"),
            ("classes: [Dog", "not a yaml file"),
            ("classes: ${nothing}", "has no classes"),
        ],
    )
    def test_mistakes_are_one_line(self, tmp_path, text, message):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            read_vocabulary(tmp_path / "own.yaml")
        assert "\n" not in str(caught.value)

    def test_no_file_and_no_text(self, tmp_path):
        with pytest.raises(MissingFileError, match="There is no file"):
            read_vocabulary(tmp_path / "own.yaml")
        (tmp_path / "film.mp4").write_bytes(bytes(range(256)))
        with pytest.raises(UserError, match="not a yaml file"):
            read_vocabulary(tmp_path / "film.mp4")


class TestNames:
    def test_are_whole_unless_they_are_those_of_llp(self, tmp_path):
        labels = read_annotations(write_annotations(tmp_path / "labels"), "train", classes=CLASSES, num_segments=T)
        assert labels.ids == NAMES["train"]

    def test_an_unknown_class_is_named_with_its_line(self, tmp_path):
        folder = write_annotations(tmp_path / "labels")
        write_table(folder / "AVVP_train.csv", WEAK, [("garden 01", "Beep"), ("garden 02", "Beeep")])
        with pytest.raises(UserError, match=r"line 3: unknown class 'Beeep'. Did you mean 'Beep'"):
            read_annotations(folder, "train", classes=CLASSES, num_segments=T)


class TestThePage:
    """docs/own-data.md: what it tells a reader to write can be read, and what to run can be run."""

    text = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text()

    def written(self, folder):
        for block in re.findall(r"```(?:tsv|yaml|python)\n# (.*?)```", self.text, re.DOTALL):
            name, _, content = block.partition("\n")
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
        return folder

    def test_recipe_and_labels(self, tmp_path):
        recipe = Recipe.find(self.written(tmp_path) / "recipe.yaml")
        train = read_annotations(tmp_path / "labels", "train", classes=recipe.classes)
        assert train.ids == ("garden-01", "garden-02", "talk_0", "talk_10")
        write_table(tmp_path / "labels/AVVP_val_pd.csv", WEAK, [("porch-01", "Dog,Doorbell")])
        shutil.copy(tmp_path / "labels/AVVP_eval_audio.csv", tmp_path / "labels/AVVP_eval_visual.csv")
        val = read_annotations(tmp_path / "labels", "val", classes=recipe.classes)
        assert val.true_audio.sum(axis=1).tolist() == [[4, 1]]

    def test_label_changes(self, tmp_path):
        classes, ids = ("Dog", "Doorbell"), ("garden-01", "garden-02", "talk_0")
        weak = np.array([[1, 0], [1, 1], [0, 1]])
        removed = read_label_changes(self.written(tmp_path) / "changes.tsv", ids, classes, weak)
        assert removed.audio.tolist() == [[0, 0], [1, 1], [0, 0]]
        assert removed.visual.tolist() == [[1, 0], [0, 1], [0, 0]]

    def test_lists_of_row_numbers_become_label_changes(self, tmp_path, monkeypatch):
        names = [f"{letter * 11}_0_10" for letter in "abc"]
        (self.written(tmp_path) / "annotations").mkdir()
        write_table(tmp_path / "annotations/AVVP_train.csv", WEAK, [(name, "Speech,Dog") for name in names])
        rows = [[] for _ in LLP_CLASSES]
        visual, audio = [[0, 2], *rows[1:]], [*rows[:3], [1], *rows[4:]]
        (tmp_path / "lists.pkl").write_bytes(pickle.dumps([visual, audio]))
        monkeypatch.chdir(tmp_path)
        exec((tmp_path / "lists.py").read_text(), {})
        lines = (tmp_path / "changes.tsv").read_text().splitlines()[1:]
        assert lines == [11 * "a" + "\t\tSpeech", 11 * "b" + "\tDog\t", 11 * "c" + "\t\tSpeech"]

    def test_features_without_motion_make_a_bank_for_lsld(self, tmp_path, monkeypatch):
        folders = write_layout(tmp_path, "llp", widths={"audio": 6, "visual": 6, "motion": 4})
        shutil.rmtree(folders.features / "feats/r2plus1d_18")
        monkeypatch.chdir(self.written(tmp_path))
        exec((tmp_path / "motion.py").read_text(), {})
        bank = prepare_bank(*folders, tmp_path / "bank", layout="llp", kind="fixture", progress=False)
        assert bank.dims == {"audio": 6, "visual": 6, "motion": 1}

    def test_commands(self):
        lines = [
            line for block in re.findall(r"```bash\n(.*?)```", self.text, re.DOTALL) for line in block.splitlines()
        ]
        words = [shlex.split(line) for line in lines]
        known = {"extract", "pseudo-label", "segment-labels", "data", "train", "eval", "parse"}
        assert {line[1] for line in words} == known
        for program, command, *rest in words:
            assert program == "mmcse"
            if command in ("train", "eval"):
                compose_config(command, rest)
            else:
                cli._parser().parse_args([command, *rest])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    pytest.importorskip("transformers", reason="CLIP and CLAP need mmcse[video]")
    from tiny_encoders import write_tiny_weights

    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Films of four seconds, one of eight, one without sound."""
    from made_videos import make_video, shapes, tone

    folder = tmp_path_factory.mktemp("videos")
    names = [name for split in NAMES.values() for name in split if not name.startswith("talk")]
    for number, name in enumerate(names):
        sound = tone(T, frequency=200.0 * (1 + number)) * (np.arange(44100 * T) < 44100 * 3)
        frames = np.roll(shapes(np.arange(10 * T) / 10), 8 * number, axis=2)
        make_video(folder / f"{name}.mp4", T, fps=10, frames=frames, sound=sound.astype(np.float32),
                   audio=name != "kitchen")  # fmt: skip
    make_video(folder / "talk.mp4", 2 * T, fps=10)
    return folder


@pytest.mark.slow
def test_from_videos_to_events(videos, weights, tmp_path, capsys):
    """Extract, pseudo-label, calibrate, prepare, check, train, evaluate, parse: the way of docs/own-data.md."""
    labels, features, bank = write_annotations(tmp_path / "labels"), tmp_path / "features", tmp_path / "bank"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    encoders = ("--weights", weights, "--window", T, "--device", "cpu", "--offline")

    def mmcse(*words, status=0):
        assert cli.main([str(word) for word in words]) == status, capsys.readouterr().err
        return capsys.readouterr().out

    assert "10 videos" in mmcse("extract", videos, "--features", "clip_clap", "--out", features, *encoders)

    label = ("pseudo-label", "--annotations", labels, "--out", features, *encoders, "--recipe")
    out = mmcse(*label, recipe, videos)
    assert "train" in out
    assert "pseudo labels against the annotation" in out
    report = json.loads((features / "pseudo_labels.json").read_text())
    assert report["splits"]["train"]["videos"] == 6
    assert "quality" not in report["splits"]["train"]
    marked = {name: np.load(features / "CLAP/segment_pseudo_labels" / f"{name}.npy") for name in NAMES["train"]}
    weak = read_annotations(labels, "train", classes=CLASSES, num_segments=T).weak
    for name, allowed in zip(NAMES["train"], weak, strict=True):
        assert marked[name].shape == (T, 3)
        assert not marked[name][:, ~allowed].any()
    assert not marked["kitchen"].any()  # which has no sound

    calibrated = tmp_path / "calibrated.yaml"
    out = mmcse(*label, recipe, "--calibrate", calibrated)  # no videos: what they were made of is kept
    assert "only test shows" in out
    before = report["splits"]["val"]["quality"]["audio"]["F"][0]
    mmcse(*label, calibrated)
    report = json.loads((features / "pseudo_labels.json").read_text())
    assert report["splits"]["val"]["quality"]["audio"]["F"][0] >= before

    options = ("--layout", "valor", "--annotations", labels, "--classes", recipe, "--window", T)
    assert "no problem" in mmcse("data", "check", features, *options)
    assert "2 test, 6 train, 3 val videos" in mmcse("data", "prepare", features, *options, "--out", bank)
    opened = FeatureBank.open(bank)
    assert (opened.classes, opened.num_segments) == (CLASSES, T)

    soft = (
        "segment-labels",
        bank,
        "--embeddings",
        features,
        "--texts",
        tmp_path / "texts.npz",
        "--out",
        tmp_path / "soft",
    )
    out = mmcse(*soft, "--weights", weights, "--device", "cpu", "--offline")
    assert "6 training videos" in out
    heard = np.load(tmp_path / "soft/segment_audio.npy")
    assert not heard[NAMES["train"].index("kitchen")].any()  # which has no sound
    assert heard.any()
    assert mmcse(*soft, "--weights", tmp_path) == out  # no weights are needed now

    training = (*tiny.data(bank), *tiny.NETWORK, *tiny.TRAINING, "data.audio_truth=corrected")
    assert "Avg" in mmcse("train", *training, f"run.root={tmp_path / 'runs'}", "evaluation.threshold=0.3")
    [checkpoint] = (tmp_path / "runs").rglob("best.ckpt")
    assert "Avg" in mmcse("eval", f"checkpoint={checkpoint}", "trainer.accelerator=cpu")

    document, page = tmp_path / "talk.json", tmp_path / "talk.html"
    shutil.copy(videos / "talk.mp4", tmp_path)
    encoders = ("--weights", weights, "--device", "cpu", "--offline", "--features", "clip_clap")
    parse = ("parse", tmp_path / "talk.mp4", "--checkpoint", checkpoint, *encoders, "--json")
    out = mmcse(*parse, document, "--html", page)
    assert "talk.mp4 · 8.0 s · MMCSE" in out
    parsed = json.loads(document.read_text())
    jsonschema.validate(parsed, json.loads((Path(events.__file__).parent / "events.schema.json").read_text()))
    assert parsed["classes"] == list(CLASSES)
    assert np.shape(parsed["probabilities"]["visual"]) == (2 * T, 3)
    assert 'src="talk.mp4"' in page.read_text()

    again = tmp_path / "again.json"
    mmcse(*parse, again)
    assert json.loads(again.read_text()) == parsed
