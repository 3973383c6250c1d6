"""LSLD's segment labels from a bank and texts: `mmcse segment-labels`."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import golden
import tiny
from golden_hybrids import zoo_numbers
from layout_files import write_layout, write_table
from mmcse import cli
from mmcse.configuration import compose_config
from mmcse.data import FeatureBank, prepare_bank
from mmcse.data.layouts import VALOR
from mmcse.data.segment_labels import ABOUT, FILES, read_segment_labels
from mmcse.errors import UserError
from mmcse.objectives.lsld import language_labels, required_texts
from mmcse.train import train
from mmcse.video import labelling
from mmcse.video.encoders.clap import Projection
from mmcse.video.language_labels import find_phrases
from mmcse.video.texts import EmbeddedTexts, TextEmbeddings
from mmcse.vocabulary import LLP_CLASSES, LSLD_PHRASES

SPACES = {"audio": 10, "visual": 12}
"""E of the tiny encoders; the features of CLAP's network have 64 dimensions."""


def run(*words, status=0):
    assert cli.main(["segment-labels", *map(str, words)]) == status


def labels_in(folder):
    return tuple(np.load(folder / name) for name in FILES)


def directions(texts, width):
    """An embedding of its own for each text."""
    return torch.from_numpy(
        np.stack([np.random.default_rng(list(text.encode())).standard_normal(width) for text in texts])
    ).float()


def made_up_texts(audio, visual, **parts):
    spaces = zip((audio, visual), SPACES.values(), strict=True)
    return TextEmbeddings(*(EmbeddedTexts(tuple(t), directions(t, width)) for t, width in spaces), **parts)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A bank with features as the tiny encoders make them, its annotations, and texts without encoders."""
    folder = tmp_path_factory.mktemp("data")
    layout = write_layout(folder, widths={"audio": 64, "visual": 12, "motion": 4})
    bank = prepare_bank(*layout, folder / "bank", layout="valor", kind="fixture", progress=False)
    weak = torch.from_numpy(bank.split("train").arrays["weak"] > 0)
    generator = torch.Generator().manual_seed(0)
    shapes = ((10, 64), (10,), (10, 10), (10,))
    projection = Projection(*(torch.randn(shape, generator=generator) for shape in shapes))
    texts = made_up_texts(*required_texts(weak, LSLD_PHRASES, LLP_CLASSES), projection=projection)
    texts.write(folder / "texts.npz")
    return SimpleNamespace(bank=bank, annotations=layout.annotations, weak=weak, texts=texts, file=folder / "texts.npz")


@pytest.fixture
def without_encoders(monkeypatch):
    def load(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(labelling, "SegmentEmbedder", load)


def test_reference_numbers_by_way_of_feature_files(shared, tmp_path, without_encoders):
    """Frames in files, packed, labelled by the command. Files are float32, the reference numbers float64."""
    numbers = zoo_numbers(shared, "lsld")
    weak = numbers["denoise.y"]

    def texts(phrases):
        return np.stack([golden.value("text:" + phrase, (512,)) for phrase in phrases])

    heard = golden.value("denoise.audio", (96, 10, 512))
    seen = golden.value("denoise.visual", (96, 80, 512)) + 0.12 * (weak @ texts(LLP_CLASSES))[:, None]
    seen += 0.1 * golden.value("denoise.common", (512,))
    ids = [f"video {number}" for number in range(len(weak))]
    for stream, arrays in {"vggish": heard, "res152": seen, "r2plus1d_18": np.zeros((96, 10, 1))}.items():
        (tmp_path / "feats" / stream).mkdir(parents=True)
        for video, array in zip(ids, arrays, strict=True):
            np.save(tmp_path / "feats" / stream / f"{video}.npy", array.astype(np.float32))
    rows = [(i, ",".join(np.array(LLP_CLASSES)[y > 0])) for i, y in zip(ids, weak, strict=True)]
    write_table(tmp_path / "AVVP_train.csv", ("filename", "event_labels"), rows)
    bank = tmp_path / "bank"
    prepare_bank(tmp_path, tmp_path, bank, layout="llp", splits=("train",), kind="fixture", progress=False)
    asked = required_texts(torch.from_numpy(weak), LSLD_PHRASES, LLP_CLASSES)
    spaces = (EmbeddedTexts(tuple(some), torch.from_numpy(texts(some)).float()) for some in asked)
    TextEmbeddings(*spaces).write(tmp_path / "texts.npz")
    for rule, words in {"prompt": ["--hard"], "reweight": []}.items():
        run(bank, "--texts", tmp_path / "texts.npz", "--out", tmp_path / rule, *words)
        audio, visual = labels_in(tmp_path / rule)
        assert np.array_equal(audio, numbers[f"denoise.{rule}_audio"])
        np.testing.assert_allclose(visual, numbers[f"denoise.{rule}_visual"], rtol=0, atol=1e-6)


class TestLabels:
    def test_are_those_of_the_rule_on_projected_features(self, data, tmp_path, capsys, caplog):
        run(data.bank.folder, "--texts", data.file, "--out", tmp_path / "labels", "--event-ratio", 3)
        batch = data.bank.split("train").gather(np.arange(7))
        w1, b1, w2, b2 = data.texts.projection
        heard = torch.relu(batch.audio @ w1.T + b1) @ w2.T + b2
        expected = language_labels(
            batch.weak, heard, batch.visual, LSLD_PHRASES, LLP_CLASSES, data.texts.audio, data.texts.visual,
            event_ratio=3.0,
        )  # fmt: skip
        for ours, theirs in zip(labels_in(tmp_path / "labels"), expected, strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        about = json.loads((tmp_path / "labels" / ABOUT).read_text())
        assert about["ids"] == list(data.bank.split("train").ids)
        assert about["made"]["event_ratio"] == 3
        shown = capsys.readouterr().out
        count = int(data.weak.sum()) * 10
        assert f"FIXTURE, 7 training videos; their weak labels, in every segment, are {count} labels" in shown
        assert f"visual: {int((expected[1] == 1).sum())} labels of 1" in shown
        assert "are FIXTURE, and texts tell nothing about them" in caplog.text

    def test_of_all_tokens_of_the_files_are_those_of_their_segments(self, tmp_path):
        """A bank for CMPAE holds 80 frames a video; CLAP's map has 64 tokens."""
        rng, folders = np.random.default_rng(0), write_layout(tmp_path, widths={"audio": 10, "visual": 12, "motion": 4})
        for file in (folders.features / "CLIP/features").glob("*.npy"):
            np.save(file, rng.standard_normal((80, 12), dtype=np.float32))
        layout = replace(VALOR, features=(VALOR.features[0], replace(VALOR.features[1], tokens=80), VALOR.features[2]))
        banks = [
            prepare_bank(*folders, tmp_path / tokens, layout=layout, tokens=tokens, kind="fixture", progress=False)
            for tokens in ("segments", "stored")
        ]
        shapes = [[bank.split("train").arrays[name].shape[1] for name in ("audio", "visual")] for bank in banks]
        assert shapes == [[10, 10], [64, 80]]
        weak = torch.from_numpy(banks[0].split("train").arrays["weak"] > 0)
        made_up_texts(*required_texts(weak, LSLD_PHRASES, LLP_CLASSES)).write(tmp_path / "texts.npz")
        for bank in banks:
            run(bank.folder, "--texts", tmp_path / "texts.npz", "--out", bank.folder / "labels")
        for ours, theirs in zip(*(labels_in(bank.folder / "labels") for bank in banks), strict=True):
            assert ours.shape == (7, 10, 25)
            np.testing.assert_allclose(ours, theirs, atol=1e-6)

    def test_without_softening_are_0_or_1(self, data, tmp_path):
        run(data.bank.folder, "--texts", data.file, "--out", tmp_path, "--hard")
        assert set(np.unique(labels_in(tmp_path))) == {0, 1}
        assert json.loads((tmp_path / ABOUT).read_text())["made"]["noise_ratio"] is None

    def test_are_replaced_by_other_ones_and_the_same_by_the_same_bytes(self, data, tmp_path):
        contents = []
        for words in ([], ["--hard"], []):
            run(data.bank.folder, "--texts", data.file, "--out", tmp_path / "labels", *words)
            contents.append([(tmp_path / "labels" / name).read_bytes() for name in (*FILES, ABOUT)])
        assert contents[0] == contents[2] != contents[1]

    def test_train_a_network(self, data, tmp_path):
        run(data.bank.folder, "--texts", data.file, "--out", tmp_path / "labels")
        chosen = ["model=lsld", *tiny.data(data.bank.folder), *tiny.TRAINING, "trainer.max_epochs=1"]
        own = f"data.segment_labels={tmp_path / 'labels'}"
        words = [*chosen, *tiny.method(*chosen), f"run.root={tmp_path}", "data.audio_truth=corrected"]
        losses = [train(compose_config("train", [*words, *more])).record["losses"] for more in ([own], [])]
        assert losses[0]["segment_visual"] != losses[1]["segment_visual"]
        assert all(np.isfinite(list(terms.values())).all() for terms in losses)


class TestEncoders:
    def test_embed_texts_once(self, data, tiny_weights, tmp_path, monkeypatch):
        file = tmp_path / "texts.npz"
        encoders = ("--weights", tiny_weights, "--device", "cpu", "--offline")
        run("--annotations", data.annotations, "--texts", file, *encoders)
        content = file.read_bytes()
        run(data.bank.folder, "--texts", tmp_path / "others.npz", "--out", tmp_path / "a", *encoders)
        run(data.bank.folder, "--out", tmp_path / "b", *encoders)
        monkeypatch.setattr(labelling, "SegmentEmbedder", None)
        run(data.bank.folder, "--texts", file, "--out", tmp_path / "c")
        assert (tmp_path / "others.npz").read_bytes() == file.read_bytes() == content
        for a, b, c in zip(*(labels_in(tmp_path / name) for name in "abc"), strict=True):
            assert np.array_equal(a, b)
            assert np.array_equal(a, c)

    def test_texts_and_projection_are_those_of_the_networks(self, tiny_weights, tmp_path):
        teachers = labelling.SegmentEmbedder(tiny_weights, device="cpu")
        TextEmbeddings.encode(teachers, ["a", "b"], ["c"], progress=False).write(tmp_path / "texts.npz")
        texts = TextEmbeddings.read(tmp_path / "texts.npz")
        assert np.array_equal(texts.audio(["b", "a"]), teachers.audio.text_embeddings(["b", "a"]))
        assert np.array_equal(texts.visual(["c"]), teachers.visual.text_embeddings(["c"]))
        assert texts.encoders == teachers.settings["encoders"]
        pooled = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
        assert torch.equal(texts.projection(pooled), teachers.audio.network.audio_projection(pooled))

    def test_a_map_of_one_sound_leads_where_the_sound_is(self, tiny_weights):
        """The mean of CLAP's map, projected, is what CLAP makes of the ten seconds."""
        clap = labelling.SegmentEmbedder(tiny_weights, device="cpu").audio
        second = np.random.default_rng(0).standard_normal(clap.sample_rate).astype(np.float32) / 10
        clip = SimpleNamespace(audio={clap.sample_rate: np.tile(second, 10)}, num_segments=10)
        mean = torch.from_numpy(clap.encode([clip])[0]).mean(dim=0)
        projected = torch.nn.functional.normalize(clap.projection(mean), dim=-1)
        np.testing.assert_allclose(projected, clap.segment_embeddings([clip])[0, 4], atol=1e-5)


class TestEmbeddings:
    """What `mmcse pseudo-label` keeps of videos, in place of the bank's features."""

    @pytest.fixture
    def folder(self, data, tmp_path):
        for number, stream in enumerate(labelling.STREAMS):
            (tmp_path / stream.folder).mkdir(parents=True)
            for row, video in enumerate(data.bank.split("train").ids):
                array = np.random.default_rng((number, row)).standard_normal((10, SPACES[stream.name]))
                array *= row > 0  # the first video has neither sound nor pictures
                np.save(labelling.file_of(tmp_path, stream, video), array.astype(np.float32))
        (tmp_path / "segment_embeddings.json").write_text(
            json.dumps({"settings": {"window": 10, "encoders": {"a": "1"}}})
        )
        return tmp_path

    def test_are_compared_with_the_texts(self, data, folder, without_encoders):
        run(data.bank.folder, "--embeddings", folder, "--texts", data.file, "--out", folder / "labels", "--hard")
        labels = labels_in(folder / "labels")
        assert not any(array[0].any() for array in labels)
        weak = data.weak.float()
        arrays = [
            torch.from_numpy(np.stack([np.load(labelling.file_of(folder, s, v)) for v in data.bank.split("train").ids]))
            for s in labelling.STREAMS
        ]
        spaces = data.texts.audio, data.texts.visual
        expected = language_labels(weak, *arrays, LSLD_PHRASES, LLP_CLASSES, *spaces, soft=False)
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(labels, expected, strict=True))

    def test_missing_ones_are_counted(self, data, folder, without_encoders, capsys):
        labelling.file_of(folder, labelling.STREAMS[1], data.bank.split("train").ids[3]).unlink()
        run(data.bank.folder, "--embeddings", folder, "--out", folder / "labels", status=2)
        assert "1 of 7 training videos have no embeddings" in capsys.readouterr().err

    def test_other_encoders_are_refused(self, data, folder, capsys):
        texts = made_up_texts(*required_texts(data.weak, LSLD_PHRASES, LLP_CLASSES), encoders={"a": "2"})
        texts.write(folder / "texts.npz")
        run(data.bank.folder, "--embeddings", folder, "--texts", folder / "texts.npz", "--out", folder / "l", status=2)
        assert "were made with other encoders than the texts" in capsys.readouterr().err
        assert not (folder / "l").exists()


class TestPhrases:
    def test_by_default(self):
        assert find_phrases(LLP_CLASSES) == LSLD_PHRASES
        assert find_phrases(("Red_square", "Hum")) == ("Red square", "Hum")

    def test_of_a_file(self, tmp_path):
        (tmp_path / "own.yaml").write_text("classes: {Hum: a low hum, Beep: beeping}")
        assert find_phrases(("Beep", "Hum"), tmp_path / "own.yaml") == ("beeping", "a low hum")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("classes: {Beep: beeping, Hmm: a}", "no class 'Hmm'. Did you mean 'Hum'"),
            ("classes: {Beep: beeping}", "no phrase for 'Hum'"),
            ("classes: {Beep: beeping, Hum: 3}", "no phrase for 'Hum'"),
            ("classes: [Beep, Hum]", "no phrase for 'Beep'"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, text, message):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            find_phrases(("Beep", "Hum"), tmp_path / "own.yaml")


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "Name either a bank"),
            (["BANK", "--annotations", "x"], "Name either a bank"),
            (["BANK"], "--out DIR"),
            (["BANK", "--out", "OUT", "--classes", "x"], "--classes goes with --annotations"),
            (["--annotations", "x"], "--texts FILE"),
            (["--annotations", "x", "--texts", "y", "--out", "OUT"], "need a bank"),
            (["BANK", "--out", "OUT", "--event-ratio", "0"], "event ratio is 0.0; expected a positive number"),
            (["BANK", "--out", "OUT", "--noise-ratio", "nan"], "noise ratio is nan"),
            (["nowhere", "--out", "OUT"], "There is no feature bank at nowhere"),
            (["BANK", "--out", "HERE"], "segment-labels` wrote: it holds text."),
            (["BANK", "--out", "HERE/text"], "is a file"),
            (["BANK", "--out", "OUT", "--phrases", "nowhere"], "There is no file nowhere"),
            (["BANK", "--out", "OUT", "--texts", "HERE/text"], "is not an .npz file"),
        ],
    )
    def test_are_said_before_weights_are_loaded(self, data, tmp_path, capsys, without_encoders, words, message):
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "text").write_text("mine")
        places = {"BANK": str(data.bank.folder), "OUT": str(tmp_path / "out"), "HERE": str(tmp_path / "here")}
        run(*(places.get(w, w).replace("HERE", places["HERE"]) for w in words), status=2)
        shown = capsys.readouterr().err
        assert message in shown
        assert len(shown.splitlines()) == 1
        assert (tmp_path / "here" / "text").read_text() == "mine"
        assert not (tmp_path / "out").exists()

    def test_features_of_another_space(self, tmp_path, capsys):
        layout = write_layout(tmp_path / "other")  # audio of 6, visual of 5
        bank = prepare_bank(*layout, tmp_path / "bank", layout="valor", kind="fixture", progress=False)
        weak = torch.from_numpy(bank.split("train").arrays["weak"] > 0)
        made_up_texts(*required_texts(weak, LSLD_PHRASES, LLP_CLASSES)).write(tmp_path / "texts.npz")
        run(bank.folder, "--texts", tmp_path / "texts.npz", "--out", tmp_path / "out", status=2)
        assert "audio features of" in (shown := capsys.readouterr().err)
        assert "have 6 dimensions, the embeddings of texts 10" in shown

    def test_texts_for_other_labels(self, tmp_path, data, capsys):
        audio, visual = required_texts(data.weak, LSLD_PHRASES, LLP_CLASSES)
        made_up_texts(audio[1:], visual[2:]).write(tmp_path / "texts.npz")
        run(data.bank.folder, "--texts", tmp_path / "texts.npz", "--out", tmp_path / "out", status=2)
        total = len(audio) + len(visual)
        assert f"lacks 3 of {total} texts: {audio[0]}, {visual[0]}, {visual[1]}" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"audio": np.zeros((2, 2))}, r"'audio' is float64 of shape \(2, 2\); expected finite numbers \(1, E\)"),
            ({"visual": np.full((1, 2), np.nan)}, "'visual' is float64"),
            ({"visual": np.array([["a"]])}, "'visual' is <U1"),
            ({"visual_texts": np.zeros(1)}, "'visual_texts' is float64"),
            ({"audio_texts": np.array(["x"], dtype=object)}, "Save plain arrays, not Python objects"),
            ({"projection_weight_1": np.zeros((2, 3))}, r"the projection is float64 \(2, 3\); expected four finite"),
            ({"encoders": np.array(["[]"])}, "no JSON of names and fingerprints"),
        ],
    )
    def test_damaged_texts(self, tmp_path, change, message):
        arrays = {f"{name}_texts": np.array(["x"]) for name in SPACES} | {name: np.ones((1, 2)) for name in SPACES}
        np.savez(tmp_path / "good.npz", **arrays)
        assert TextEmbeddings.read(tmp_path / "good.npz").projection is None
        np.savez(tmp_path / "bad.npz", **arrays | change)
        with pytest.raises(UserError, match=message):
            TextEmbeddings.read(tmp_path / "bad.npz")

    def test_an_archive_of_zeros_stays_packed(self, tmp_path):
        np.savez_compressed(tmp_path / "bomb.npz", audio=np.zeros((1000, 1000)))
        with pytest.raises(UserError, match="unpacks to 8 MB"):
            TextEmbeddings.read(tmp_path / "bomb.npz")


def test_labels_serve_a_bank_of_the_same_videos_in_another_order(data, tmp_path):
    run(data.bank.folder, "--texts", data.file, "--out", tmp_path / "labels")
    ids = data.bank.split("train").ids
    there = read_segment_labels(tmp_path / "labels", ids[::-1][:5], LLP_CLASSES, 10)
    for ours, stored in zip(there, labels_in(tmp_path / "labels"), strict=True):
        assert np.array_equal(ours, stored[::-1][:5])
    assert (
        FeatureBank.open(data.bank.folder).digest
        == json.loads((tmp_path / "labels" / ABOUT).read_text())["made"]["bank"]
    )


def test_nothing_is_left_where_writing_is_interrupted(data, tmp_path, monkeypatch):
    run(data.bank.folder, "--texts", data.file, "--out", tmp_path / "labels")
    saved = np.save

    def interrupted(handle, *arguments, **options):
        if "visual" in handle.name:
            raise KeyboardInterrupt
        saved(handle, *arguments, **options)

    monkeypatch.setattr(np, "save", interrupted)
    run(data.bank.folder, "--texts", data.file, "--out", tmp_path / "labels", "--hard", status=130)
    with pytest.raises(UserError, match=r"There is no file .*segment_visual"):
        read_segment_labels(tmp_path / "labels", data.bank.split("train").ids, LLP_CLASSES, 10)
    monkeypatch.undo()
    run(data.bank.folder, "--texts", data.file, "--out", tmp_path / "labels", "--hard")
    assert len(list((tmp_path / "labels").iterdir())) == 3
