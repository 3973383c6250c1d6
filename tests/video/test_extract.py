import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from made_videos import make_video, truncate
from tiny_encoders import DIMS

from mmcse.cli import main
from mmcse.data.layouts import LLP, VALOR
from mmcse.errors import MissingFileError, UserError
from mmcse.video import FeatureExtractor, VideoError
from mmcse.video.extract import extract_features, find_videos
from mmcse.video.extractor import REPORT

pytestmark = pytest.mark.slow

WIDTHS = {
    "clip_clap": (DIMS["clap"], DIMS["clip"], DIMS["r2plus1d"]),
    "vggish_resnet": (DIMS["vggish"], DIMS["resnet"], DIMS["r2plus1d"]),
}


@pytest.fixture
def make_extractor(tiny_weights):
    def make(features="clip_clap", **options):
        return FeatureExtractor(features, **{"weights": tiny_weights, "device": "cpu", "window": 2, **options})

    return make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for number in range(3):
        make_video(folder / f"own{number}.mp4", 2, size=(48 + 16 * number, 32))
    make_video(folder / "long.mp4", 5.2, size=(48, 32))
    truncate(make_video(folder / "broken.mp4", 2), 0.5)
    return folder


@pytest.fixture
def videos(made, tmp_path):
    """Short ones, a long one, and a broken one, in a folder."""
    return Path(shutil.copytree(made, tmp_path / "videos"))


def extract(videos, folder, extractor, **options):
    return extract_features([videos], folder, extractor, **{"progress": False, **options})


def contents(folder, layout=VALOR):
    """All arrays of a folder, by stream and entry."""
    return {
        (stream.name, path.stem): np.load(path)
        for stream in layout.features
        for path in sorted((folder / stream.folder).glob("*.npy"))
    }


ENTRIES = ["long_0", "long_2", "long_4", "own0", "own1", "own2"]


class TestLayout:
    @pytest.mark.parametrize(
        ("features", "layout"), [("clip_clap", VALOR), pytest.param("vggish_resnet", LLP, marks=pytest.mark.slow)]
    )
    def test_ten_seconds_are_stored_as_published(self, make_extractor, tmp_path, features, layout):
        path = make_video(tmp_path / "BjCEufrlXm4_30_40.mp4", 10, size=(48, 32))
        extractor = make_extractor(features, window=10)
        report = extract_features([path], tmp_path / "out", extractor, progress=False)
        assert report.extracted == {"BjCEufrlXm4": 1}
        found = contents(tmp_path / "out", layout)
        assert {name: array.shape for (name, _), array in found.items()} == {
            stream.name: (stream.tokens or 10, width)
            for stream, width in zip(layout.features, WIDTHS[features], strict=True)
        }
        assert {entry for _, entry in found} == {"BjCEufrlXm4"}
        assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
        (window,) = extractor.extract(path)
        for (name, _), array in found.items():
            np.testing.assert_array_equal(array, getattr(window, name))

    def test_a_long_video_has_an_entry_for_each_window(self, make_extractor, tmp_path, videos):
        extractor = make_extractor()
        windows = extractor.extract(videos / "long.mp4")
        assert [(w.start, round(w.duration, 1)) for w in windows] == [(0, 2), (2, 2), (4, 1.2)]
        extract(videos / "long.mp4", tmp_path / "out", extractor)
        found = contents(tmp_path / "out")
        for window in windows:
            for stream in extractor.streams:
                stored = found[stream.name, f"long_{window.start:g}"]
                np.testing.assert_allclose(stored, getattr(window, stream.name), rtol=1e-4, atol=1e-5)

    def test_it_can_be_prepared(self, make_extractor, tmp_path, videos):
        """Without any conversion: names, shapes and dtypes are what `mmcse data prepare` reads."""
        from layout_files import write_table
        from mmcse.data import prepare_bank

        extract(videos, tmp_path / "out", make_extractor())
        write_table(tmp_path / "AVVP_train.csv", ("filename", "event_labels"), [(entry, "Dog") for entry in ENTRIES])
        bank = prepare_bank(
            tmp_path / "out", tmp_path, tmp_path / "bank", layout="valor", splits=("train",), num_segments=2
        )
        assert bank.split("train").ids == tuple(ENTRIES)
        np.testing.assert_array_equal(
            bank.split("train").arrays["visual"][4], contents(tmp_path / "out")["visual", "own1"]
        )


class TestManyVideos:
    @pytest.mark.parametrize(
        ("workers", "batch_size"), [(3, 4), *(pytest.param(*n, marks=pytest.mark.slow) for n in ((1, 1), (2, 64)))]
    )
    def test_threads_and_batches_change_nothing(self, make_extractor, tmp_path, videos, workers, batch_size):
        report = extract(videos, tmp_path / "out", make_extractor(batch_size=batch_size), workers=workers)
        assert report.extracted == {"long": 3, "own0": 1, "own1": 1, "own2": 1}
        found = contents(tmp_path / "out")
        assert sorted({entry for _, entry in found}) == ENTRIES
        alone = make_extractor(batch_size=1)
        for entry in ("own0", "own2"):
            (window,) = alone.extract(videos / f"{entry}.mp4")
            np.testing.assert_allclose(found["visual", entry], window.visual, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found["audio", entry], window.audio, rtol=1e-3, atol=1e-4)

    def test_one_that_fails_does_not_stop_the_others(self, make_extractor, tmp_path, videos):
        report = extract(videos, tmp_path / "out", make_extractor())
        path = str(videos / "broken.mp4")
        assert not report.ok
        assert list(report.failures) == [path]
        assert report.failures[path].startswith(f"{path} cannot be read as a video")
        written = json.loads((tmp_path / "out" / REPORT).read_text())
        assert written["failures"] == report.failures
        assert written["extracted"] == report.extracted
        assert f"failed: {report.failures[path]}" in report.lines()
        assert report.lines()[0].endswith("5 videos: 4 extracted, 0 there before, 1 failed")

    def test_whatever_goes_wrong_in_a_file_is_its_own(self, make_extractor, tmp_path, videos, monkeypatch):
        extractor = make_extractor()
        decode = extractor.clips

        def clips(path):
            windows = decode(path)
            if path.stem == "long":
                yield next(windows)
                raise MemoryError("frames of 4 GB")
            yield from windows

        monkeypatch.setattr(extractor, "clips", clips)
        report = extract(videos, tmp_path / "out", extractor)
        assert report.failures[str(videos / "long.mp4")].endswith("long.mp4: MemoryError: frames of 4 GB")
        assert sorted(report.extracted) == ["own0", "own1", "own2"]
        assert not any(entry.startswith("long") for _, entry in contents(tmp_path / "out"))

    def test_videos_without_a_track_are_named(self, make_extractor, tmp_path):
        make_video(tmp_path / "in" / "mute.mp4", 2, audio=False, size=(48, 32))
        make_video(tmp_path / "in" / "radio.m4a", 2, visual=False)
        report = extract(tmp_path / "in", tmp_path / "out", make_extractor())
        assert report.ok
        assert (report.without_sound, report.without_pictures) == (["mute"], ["radio"])
        assert "1 videos have no sound: mute" in report.lines()

    def test_features_of_non_finite_weights_are_not_hidden(self, make_extractor, tmp_path, videos):
        extractor = make_extractor()
        extractor.visual.network.visual_projection.weight.data.fill_(float("nan"))
        with pytest.raises(UserError, match="not finite"):
            extract(videos, tmp_path / "out", extractor)
        assert contents(tmp_path / "out") == {}


class TestRestart:
    def test_finished_videos_are_left_out_and_failed_ones_tried_again(
        self, make_extractor, tmp_path, videos, monkeypatch
    ):
        extractor = make_extractor()
        extract(videos, tmp_path / "out", extractor)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
        make_video(videos / "broken.mp4", 2, size=(48, 32))
        decoded = []
        decode = extractor.clips
        monkeypatch.setattr(extractor, "clips", lambda path: decoded.append(path.stem) or decode(path))
        report = extract(videos, tmp_path / "out", extractor)
        assert decoded == ["broken"]
        assert (report.already_there, report.extracted) == (4, {"broken": 1})
        assert before.items() <= {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}.items()

    @pytest.mark.parametrize("moment", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3, 5, 6))])
    def test_an_interrupted_run_goes_on(self, make_extractor, tmp_path, videos, monkeypatch, moment):
        """Ctrl-C at any batch: what is complete stays, no half video counts as one, and the threads end."""
        (videos / "broken.mp4").unlink()
        extractor = make_extractor(batch_size=1)
        encode, calls, threads = extractor.encode, [], threading.active_count()

        def interrupted(windows):
            calls.append(windows)
            if len(calls) == moment:
                raise KeyboardInterrupt
            return encode(windows)

        monkeypatch.setattr(extractor, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(videos, tmp_path / "out", extractor)
        assert threading.active_count() == threads
        assert not list((tmp_path / "out").rglob("*.tmp"))
        done = json.loads((tmp_path / "out" / REPORT).read_text())["extracted"]
        report = extract(videos, tmp_path / "out", extractor)
        assert done.keys().isdisjoint(report.extracted)
        assert sorted(done | report.extracted) == ["long", "own0", "own1", "own2"]
        undisturbed = make_extractor(batch_size=1)
        extract(videos, tmp_path / "again", undisturbed)
        found, expected = contents(tmp_path / "out"), contents(tmp_path / "again")
        assert found.keys() == expected.keys()
        for key in found:
            np.testing.assert_array_equal(found[key], expected[key])

    def test_a_long_video_is_complete_only_with_its_first_window(self, make_extractor, tmp_path, videos):
        extractor = make_extractor()
        extract(videos / "long.mp4", tmp_path / "out", extractor)
        (tmp_path / "out" / VALOR.features[2].folder / "long_0.npy").unlink()
        assert extract(videos / "long.mp4", tmp_path / "out", extractor).extracted == {"long": 3}

    @pytest.mark.parametrize(
        "change", [{"window": 3}, {"dtype": "bfloat16"}, {"features": "vggish_resnet"}, {"stride": 1}]
    )
    def test_features_made_otherwise_are_not_mixed(self, make_extractor, tmp_path, videos, change):
        extract(videos / "own0.mp4", tmp_path / "out", make_extractor())
        with pytest.raises(UserError, match=f"another.*{next(iter(change))}"):
            extract(videos, tmp_path / "out", make_extractor(**change))

    def test_other_weights_are_not_mixed(self, make_extractor, tmp_path, videos):
        extractor = make_extractor()
        extract(videos / "own0.mp4", tmp_path / "out", extractor)
        next(extractor.motion.network.parameters()).data.flatten()[0] += 1
        with pytest.raises(UserError, match="another encoders"):
            extract(videos, tmp_path / "out", extractor)

    def test_a_damaged_report(self, make_extractor, tmp_path, videos):
        (tmp_path / REPORT).write_text("{")
        with pytest.raises(UserError, match="is damaged"):
            extract(videos, tmp_path, make_extractor())


class TestNames:
    def test_videos_with_one_id(self, make_extractor, tmp_path):
        for name in ("BjCEufrlXm4_30_40.mp4", "BjCEufrlXm4.mkv"):
            make_video(tmp_path / "in" / name, 1, size=(48, 32))
        with pytest.raises(UserError, match=r"BjCEufrlXm4: .*rename"):
            extract(tmp_path / "in", tmp_path / "out", make_extractor())
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("names", [("a", "a_2"), ("abcdefghijk_5",)])
    def test_a_window_whose_name_is_taken(self, make_extractor, tmp_path, names):
        """By another video, or by the rule that shortens names of LLP."""
        for number, name in enumerate(names):
            make_video(tmp_path / "in" / f"{name}.mp4", 2 if number else 5, size=(48, 32))
        report = extract(tmp_path / "in", tmp_path / "out", make_extractor())
        assert list(report.failures) == [str(tmp_path / "in" / f"{names[0]}.mp4")]
        assert "would be taken for another video" in next(iter(report.failures.values()))
        assert sorted(report.extracted) == list(names[1:])

    def test_videos_are_found_in_folders(self, tmp_path, videos):
        (videos / "notes.txt").touch()
        (videos / ".hidden.mp4").touch()
        (videos / "SHOUT.MP4").touch()
        names = [path.name for path in find_videos([videos])]
        assert names == ["SHOUT.MP4", "broken.mp4", "long.mp4", "own0.mp4", "own1.mp4", "own2.mp4"]
        with pytest.raises(MissingFileError, match="no video"):
            find_videos([videos, tmp_path / "none.mp4"])
        (tmp_path / "empty").mkdir()
        with pytest.raises(MissingFileError, match="no video in"):
            find_videos([tmp_path / "empty"])


class TestExtractor:
    def test_options_that_cannot_be_used(self, make_extractor):
        with pytest.raises(UserError, match="Did you mean 'clip_clap'"):
            make_extractor("clip_clop")
        with pytest.raises(UserError, match="at least one"):
            make_extractor(batch_size=0)

    def test_streams_and_encoders(self, make_extractor):
        extractor = make_extractor("vggish_resnet")
        assert [stream.name for stream in extractor.streams] == [e.stream for e in extractor.encoders]
        assert [stream.folder for stream in extractor.streams] == ["feats/vggish", "feats/res152", "feats/r2plus1d_18"]

    def test_overlapping_windows(self, make_extractor, videos):
        windows = make_extractor(stride=1).extract(videos / "long.mp4")
        assert [window.start for window in windows] == [0, 1, 2, 3]

    def test_a_video_that_cannot_be_decoded(self, make_extractor, videos):
        with pytest.raises(VideoError):
            make_extractor().extract(videos / "broken.mp4")


class TestCommand:
    def test_the_whole_way(self, tiny_weights, tmp_path, videos, capsys):
        command = ["extract", str(videos), "--features", "vggish_resnet", "--out", str(tmp_path / "out")]
        options = ["--window", "2", "--weights", str(tiny_weights), "--device", "cpu", "--workers", "1", "--batch", "2"]
        assert main([*command, *options]) == 1
        out = capsys.readouterr().out
        assert "5 videos: 4 extracted, 0 there before, 1 failed" in out
        assert f"mmcse data prepare {tmp_path / 'out'} --layout llp" in out
        (videos / "broken.mp4").unlink()
        assert main([*command, *options]) == 0
        assert "4 videos: 0 extracted, 4 there before, 0 failed" in capsys.readouterr().out

    def test_mistakes_are_one_line(self, tmp_path, videos, capsys):
        command = ["extract", "--features", "clip_clap", "--out", str(tmp_path / "out")]
        for more, message in (
            ([str(tmp_path / "none.mp4")], "There is no video"),
            ([str(videos), "--weights", str(tmp_path)], "There is no clap-htsat-fused in"),
        ):
            assert main([*command, *more]) == 2
            error = capsys.readouterr().err
            assert message in error
            assert "Traceback" not in error

    def test_help_tells_the_weights(self, capsys):
        with pytest.raises(SystemExit):
            main(["extract", "--help"])
        out = " ".join(capsys.readouterr().out.split())
        for name in (
            "630k-fusion-best.pt",
            "r2plus1d_18-91a641e6.pth",
            "vggish-10086976.pth",
            "resnet152-b121ed2d.pth",
        ):
            assert name in out.replace("- ", "-")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("mmcse.video", "av transformers huggingface_hub"), ("mmcse.train", "av mmcse.video")],
)
def test_nothing_is_imported_before_it_is_used(module, unwanted):
    code = f"import sys, {module}; print(sorted(set('{unwanted}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
