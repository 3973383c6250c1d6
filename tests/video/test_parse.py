"""Videos to events: windows, decoding, forms; with encoders that only make up features."""

import csv
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_checkpoints import make_checkpoint

from mmcse import cli
from mmcse.errors import MissingFileError, UserError
from mmcse.evaluate import read_checkpoint, rebuild
from mmcse.evaluation.decode import decode_output
from mmcse.video import events, parse
from mmcse.video.events import Parsing, events_document, timeline_text, write_events_csv, write_events_json
from mmcse.video.extractor import WindowFeatures

CLASSES = ("Dog", "Rain <b>&", "Speech")
SCHEMA = json.loads((Path(events.__file__).parent / "events.schema.json").read_text())


def parsing(present, prob=None, kind="real", duration=None, video="film.mp4"):
    present = np.array(present, dtype=bool)
    return Parsing(
        Path(video),
        float(len(present)) if duration is None else duration,
        (True, True),
        CLASSES[: present.shape[-1]],
        np.full(present.shape, 0.5, np.float32) if prob is None else np.array(prob, np.float32),
        present,
        kind,
        {"network": "MMCSE", "checkpoint": "best.ckpt", "features": "clip_clap", "gate": "none", "threshold": 0.5},
    )


@pytest.fixture
def two_tracks():
    """Three and a half seconds; Dog is heard in 0-2 and seen in 1-3.5, Rain is seen in 0-1."""
    present, prob = np.zeros((4, 2, 2), bool), np.full((4, 2, 2), 0.1)
    present[:2, 0, 0] = present[1:, 1, 0] = present[0, 1, 1] = True
    prob[:2, 0, 0], prob[1:, 1, 0], prob[0, 1, 1] = (0.6, 0.8), (0.7, 0.8, 0.9), 1.0
    return parsing(present, prob, duration=3.5)


class TestEvents:
    def test_are_runs_of_segments_with_mean_probability(self, two_tracks):
        assert [(e.label, e.modality, e.onset, e.offset) for e in two_tracks.events] == [
            ("Dog", "audio", 0, 2),
            ("Rain <b>&", "visual", 0, 1),
            ("Dog", "visual", 1, 3.5),
            ("Dog", "both", 1, 2),
        ]
        assert [e.confidence for e in two_tracks.events] == pytest.approx([0.7, 1.0, 0.8, 0.7])

    @given(st.integers(1, 12).flatmap(lambda S: st.lists(st.booleans(), min_size=6 * S, max_size=6 * S)))
    def test_say_what_the_decisions_say(self, bits):
        one = parsing(np.reshape(bits, (-1, 2, 3)))
        said = np.zeros_like(one.present)
        both = np.zeros((len(said), 3), bool)
        for event in one.events:
            k, span = CLASSES.index(event.label), slice(int(event.onset), int(event.offset))
            target = both if event.modality == "both" else said[:, ("audio", "visual").index(event.modality)]
            assert not target[span, k].any()
            target[span, k] = True
        np.testing.assert_array_equal(said, one.present)
        np.testing.assert_array_equal(both, one.present.all(axis=1))

    def test_json_fits_its_schema(self, two_tracks, tmp_path):
        write_events_json(tmp_path / "events.json", two_tracks)
        document = json.loads((tmp_path / "events.json").read_text())
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        jsonschema.validate(document, SCHEMA)
        assert document["events"][2] == {
            "label": "Dog", "modality": "visual", "onset": 1.0, "offset": 3.5, "confidence": 0.8
        }  # fmt: skip
        assert np.shape(document["probabilities"]["audio"]) == (4, 2)
        assert document["format"] == SCHEMA["properties"]["format"]["const"] == events.FORMAT

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("format",), 2),
            (("data_kind",), "made up"),
            (("events", 0, "modality"), "smell"),
            (("events", 0, "confidence"), 1.5),
            (("events", 0, "offset"), "2"),
            (("probabilities",), {"audio": []}),
            (("classes",), ["Dog", "Dog"]),
            (("video", "duration"), 0),
        ],
    )
    def test_the_schema_refuses_other_things(self, two_tracks, tmp_path, place, value):
        write_events_json(tmp_path / "events.json", two_tracks)
        document = json.loads((tmp_path / "events.json").read_text())
        *way, last = place
        target = document
        for step in way:
            target = target[step]
        target[last] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)

    def test_csv_has_a_row_per_event(self, two_tracks, tmp_path):
        write_events_csv(tmp_path / "events.csv", two_tracks)
        rows = list(csv.DictReader((tmp_path / "events.csv").open()))
        assert rows[1] == {"video": "film.mp4", "label": "Rain <b>&", "modality": "visual", "onset": "0.0",
                           "offset": "1.0", "confidence": "1.0", "data_kind": "real"}  # fmt: skip
        assert len(rows) == 4

    def test_text_draws_the_tracks(self, two_tracks):
        drawn = timeline_text(two_tracks).splitlines()
        assert drawn[0] == "film.mp4 · 3.5 s · MMCSE"
        assert drawn[2:6] == ["  Dog       heard ██··", "            seen  ·███", "  Rain <b>& heard ····",
                              "            seen  █···"]  # fmt: skip
        assert "Dog       heard and seen     1.0 to 2.0     0.70" in drawn[-1]

    def test_text_of_a_long_video_stays_narrow_and_keeps_short_events(self):
        present = np.zeros((1000, 2, 1), bool)
        present[999, 1, 0] = True
        drawn = timeline_text(parsing(present)).splitlines()
        assert max(map(len, drawn)) < 100
        assert drawn[3].endswith("·█")
        assert "17 seconds" in drawn[1]

    def test_nothing_found_and_nothing_meant(self):
        text = timeline_text(parsing(np.zeros((3, 2, 2)), kind="simulated"))
        assert text.splitlines()[-1] == "  no event"
        assert "SIMULATED" in text


class TestMerging:
    def windows(self, W, T, K=2, seed=0):
        rng = torch.Generator().manual_seed(seed)
        shapes = (W, T, 2, K), (W, K), (W, K), (W, K)
        return parse.Probabilities(*(torch.rand(shape, generator=rng) for shape in shapes))

    @given(st.integers(1, 6), st.integers(1, 5), st.data())
    def test_averages_what_windows_say_of_a_segment(self, T, W, data):
        steps = [0, *data.draw(st.lists(st.integers(1, T), min_size=W - 1, max_size=W - 1))]
        starts = np.cumsum(steps).tolist()
        duration = data.draw(st.floats(starts[-1] + 0.01, starts[-1] + T))
        windows = self.windows(W, T)
        merged = parse.merge_windows(starts, windows, duration)
        assert len(merged.segment) == np.ceil(duration - 1e-3)
        for s in range(len(merged.segment)):
            covering = [w for w in range(W) if starts[w] <= s < starts[w] + T]
            expected = torch.stack([windows.segment[w, s - starts[w]] for w in covering]).mean(dim=0)
            torch.testing.assert_close(merged.segment[s], expected)
            for mean, of_windows in zip(merged[1:], windows[1:], strict=True):
                torch.testing.assert_close(mean[s], of_windows[covering].mean(dim=0))

    def test_padding_is_left_out(self):
        assert len(parse.merge_windows([0], self.windows(1, 10), 3.2).segment) == 4
        assert len(parse.merge_windows([0], self.windows(1, 10), 0.0005).segment) == 1


class MadeUpExtractor:
    """Takes the place of `FeatureExtractor`: a video is a file that says its length, and features are random."""

    def __init__(self, features, *, window, stride, batch_size=4, **options):
        assert features == "clip_clap"
        self.window, self.stride, self.batch_size, self.options = window, stride, batch_size, options
        self.encoders = [SimpleNamespace(dim=dim) for dim in (768, 768, 512)]

    def clips(self, path):
        if "broken" in str(path):
            raise UserError(f"{path} is not a video.")
        if not Path(path).is_file():
            raise MissingFileError(f"There is no video {path}.")
        duration, start = float(Path(path).read_text()), 0.0
        while not start or start - self.stride + self.window < duration:
            yield SimpleNamespace(start=start, duration=min(self.window, duration - start),
                                  has_audio="silent" not in str(path), has_visual=True)  # fmt: skip
            start += self.stride

    def encode(self, clips):
        T, found = round(self.window), []
        for clip in clips:
            rng = np.random.default_rng(int(clip.start))
            streams = (rng.standard_normal(shape, np.float32) for shape in ((64, 768), (T, 768), (T, 512)))
            found.append(WindowFeatures(clip.start, clip.duration, *streams))
        return found


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(parse, "FeatureExtractor", MadeUpExtractor)
    monkeypatch.setattr(parse, "declared_duration", lambda video: None)


def film(folder, seconds, name="film.mp4"):
    (folder / name).write_text(str(seconds))
    return folder / name


@pytest.mark.usefixtures("made_up")
class TestFileParser:
    def test_a_single_window_is_decoded_as_in_an_evaluation(self, tmp_path):
        checkpoint = make_checkpoint(tmp_path / "best.ckpt", CLASSES, threshold=0.49)
        parser = parse.FileParser(checkpoint)
        found = parser.parse(film(tmp_path, 10.0))
        extractor = MadeUpExtractor("clip_clap", window=10, stride=5)
        [window] = extractor.encode(extractor.clips(tmp_path / "film.mp4"))
        network = rebuild(*read_checkpoint(checkpoint)).eval()
        with torch.inference_mode():
            out = network(*(torch.from_numpy(a)[None] for a in (window.audio, window.visual, window.motion)))
        audio, visual = decode_output(out, gate="video/visual", threshold=0.49, gate_threshold=0.49)
        assert found.present.any()
        assert not found.present.all()
        np.testing.assert_array_equal(found.present, torch.stack((audio[0], visual[0]), dim=1))
        np.testing.assert_allclose(found.segment_prob, out.segment_prob[0], atol=1e-6)

    def test_scores_beyond_one_fit_the_schema(self, tmp_path, monkeypatch):
        parser = parse.FileParser(make_checkpoint(tmp_path / "best.ckpt", CLASSES))
        run = parser._run
        monkeypatch.setattr(parser, "_run", lambda windows: parse.Probabilities(*(2.5 * p for p in run(windows))))
        found = parser.parse(film(tmp_path, 10.0))
        assert found.segment_prob.max() == 1  # as those of MGN may be
        assert max(event.confidence for event in found.events) == 1

    @pytest.mark.parametrize(("num_segments", "overlap", "stride"), [(10, 0.5, 5), (10, 0.0, 10), (3, 0.9, 1)])
    def test_windows_are_those_of_the_network(self, tmp_path, num_segments, overlap, stride):
        checkpoint = make_checkpoint(tmp_path / "best.ckpt", CLASSES, num_segments=num_segments)
        parser = parse.FileParser(checkpoint, overlap=overlap, device="cpu")
        assert (parser.extractor.window, parser.extractor.stride) == (num_segments, stride)
        assert parser.extractor.options == {"device": "cpu"}
        assert parser.parse(film(tmp_path, 23.4)).segment_prob.shape == (24, 2, 3)

    def test_batches_make_no_difference(self, tmp_path):
        checkpoint, video = make_checkpoint(tmp_path / "best.ckpt", CLASSES), film(tmp_path, 61.5)
        one, four = (parse.FileParser(checkpoint, batch_size=size).parse(video) for size in (1, 4))
        assert (one.duration, len(one.present)) == (61.5, 62)
        np.testing.assert_allclose(one.segment_prob, four.segment_prob, atol=1e-6)

    def test_nothing_is_heard_without_a_sound_track(self, tmp_path):
        parser = parse.FileParser(make_checkpoint(tmp_path / "best.ckpt", CLASSES), threshold=0.1)
        assert {event.modality for event in parser.parse(film(tmp_path, 4)).events} == {"audio", "visual", "both"}
        silent = parser.parse(film(tmp_path, 4, "silent.mp4"))
        assert {event.modality for event in silent.events} == {"visual"}
        assert "· no sound" in timeline_text(silent)
        assert events_document(silent)["video"]["audio"] is False

    def test_a_network_of_simulated_features_says_so(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING):
            parser = parse.FileParser(make_checkpoint(tmp_path / "best.ckpt", CLASSES, kind="simulated"))
        assert "SIMULATED" in caplog.text
        assert "mean nothing" in caplog.text
        document = events_document(parser.parse(film(tmp_path, 4)))
        assert document["data_kind"] == "simulated"

    def test_widths_that_no_encoder_gives(self, tmp_path):
        with pytest.raises(UserError, match=r"takes 6 \(audio\), 5 \(visual\), 4.*clip_clap gives 768"):
            parse.FileParser(make_checkpoint(tmp_path / "best.ckpt", CLASSES, widths=(6, 5, 4)))

    def test_encoders_that_give_other_widths(self, tmp_path):
        checkpoint = make_checkpoint(tmp_path / "best.ckpt", CLASSES, widths=(6, 5, 4))
        with pytest.raises(UserError, match=r"takes 6 \(audio\).* and the encoders of clip_clap give 768"):
            parse.FileParser(checkpoint, features="clip_clap")

    @pytest.mark.parametrize("options", [{"overlap": 1.0}, {"overlap": -0.1}, {"threshold": 1.5}])
    def test_options_out_of_range(self, tmp_path, options):
        with pytest.raises(UserError, match=next(iter(options))):
            parse.FileParser(make_checkpoint(tmp_path / "best.ckpt", CLASSES), **options)


@pytest.mark.usefixtures("made_up")
class TestCommand:
    def run(self, *words):
        return cli.main(["parse", *map(str, words)])

    @pytest.fixture
    def checkpoint(self, tmp_path):
        return make_checkpoint(tmp_path / "best.ckpt", CLASSES, kind="fixture", threshold=0.4)

    def test_one_video(self, tmp_path, checkpoint, capsys):
        video = film(tmp_path, 12)
        files = {name: tmp_path / f"out/x.{name}" for name in ("json", "csv", "html")}
        options = [word for name, file in files.items() for word in (f"--{name}", file)]
        assert self.run(video, "--checkpoint", checkpoint, *options) == 0
        out = capsys.readouterr().out
        assert f"{video} · 12.0 s" in out
        assert "FIXTURE" in out
        assert all(file.is_file() and str(file) in out for file in files.values())
        jsonschema.validate(json.loads(files["json"].read_text()), SCHEMA)

    def test_picture(self, tmp_path, checkpoint):
        pytest.importorskip("matplotlib")
        assert self.run(film(tmp_path, 12), "--checkpoint", checkpoint, "--figure", tmp_path / "a.png") == 0
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

    def test_several_videos_and_one_that_fails(self, tmp_path, checkpoint, capsys):
        videos = [film(tmp_path, 3, "a.mp4"), film(tmp_path, 0, "broken.mp4"), film(tmp_path, 25, "b.mp4")]
        assert self.run(*videos, "--checkpoint", checkpoint, "--json", tmp_path / "events") == 1
        assert sorted(file.name for file in (tmp_path / "events").iterdir()) == ["a.json", "b.json"]
        shown = capsys.readouterr()
        assert "broken.mp4 is not a video" in shown.err
        assert "25.0 s" in shown.out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["nothing.mp4"], "There is no video nothing.mp4"),
            (["broken.mp4"], "broken.mp4 is not a video"),
            (["a/x.mp4", "b/x.mp4", "--json", "out"], "Several videos are called 'x'"),
            (["a/x.mp4", "b/y.mp4", "--json", __file__], "is a file. With 2 videos, expected a folder"),
            (["a.mp4", "--embed"], "give --html"),
            (["a.mp4", "--figure", "a.jpg"], "a.jpg: figures are written as svg, png, pdf"),
            (["empty"], "There is no video in empty"),
        ],
    )
    def test_mistakes(self, checkpoint, capsys, words, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("a", "b", "empty"):
            (tmp_path / name).mkdir()
        for name in ("broken.mp4", "a/x.mp4", "b/x.mp4", "b/y.mp4", "a.mp4"):
            film(tmp_path, 3, name)
        assert self.run(*words, "--checkpoint", checkpoint) == 2
        assert message in capsys.readouterr().err

    def test_a_checkpoint_that_is_none(self, tmp_path, capsys):
        assert self.run(film(tmp_path, 3), "--checkpoint", tmp_path / "film.mp4") == 2
        assert "cannot be read as a checkpoint" in capsys.readouterr().err
        assert self.run(film(tmp_path, 3), "--checkpoint", tmp_path / "no.ckpt") == 2
        assert "There is no checkpoint" in capsys.readouterr().err
