import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_videos import grey, make_video, shapes, tone, truncate

from mmcse.errors import MissingFileError, UserError
from mmcse.video import VideoError, clips
from mmcse.video.windows import Track, spans

EXACT = ("libx264", "pcm_s16le")


def decode(path, **options):
    return list(clips(path, **{"sample_rates": [16000], **options}))


def times_shown(clip):
    return [grey(frame) for frame in clip.frames]


class TestWindows:
    def test_a_video_as_long_as_the_window(self, tmp_path):
        (clip,) = decode(make_video(tmp_path / "a.mp4"), sample_rates=[48000, 16000])
        assert clip.frames.shape == (80, 64, 96, 3)
        assert clip.frames.dtype == np.uint8
        assert {rate: (len(x), x.dtype) for rate, x in clip.audio.items()} == {
            48000: (480000, np.float32),
            16000: (160000, np.float32),
        }
        assert (clip.start, clip.duration, clip.num_segments) == (0, 10, 10)
        assert clip.has_audio
        assert clip.has_visual

    def test_a_short_one_is_padded_with_black_and_silence(self, tmp_path):
        (clip,) = decode(make_video(tmp_path / "a.mkv", 3.6, codecs=EXACT))
        assert clip.duration == pytest.approx(3.6, abs=2e-3)
        assert len(clip.frames) == 80
        assert clip.frames[28].any()
        assert not clip.frames[29:].any()
        assert np.abs(clip.audio[16000][57000:57600]).max() > 0.4
        assert not clip.audio[16000][57610:].any()

    def test_a_long_one_is_cut_into_consecutive_windows(self, tmp_path):
        cut = decode(make_video(tmp_path / "a.mkv", 11.6, codecs=EXACT), window=4)
        assert [clip.start for clip in cut] == [0, 4, 8]
        assert [clip.duration for clip in cut] == pytest.approx([4, 4, 3.6], abs=2e-3)
        sound = np.concatenate([clip.audio[16000] for clip in cut])[: round(11.6 * 16000)]
        np.testing.assert_allclose(sound[100:-100], tone(11.6, 16000)[100:-100], atol=2e-3)
        shown = np.concatenate([times_shown(clip) for clip in cut])[:93]
        np.testing.assert_allclose(shown, np.floor(np.arange(93) / 8 * 25 + 1e-6) / 25, atol=0.15)

    @pytest.mark.parametrize(("seconds", "starts"), [(8.9, [0, 4]), (9.1, [0, 4, 8]), (0.4, [0])])
    def test_what_is_shorter_than_a_segment_is_left_out(self, tmp_path, seconds, starts):
        assert [clip.start for clip in decode(make_video(tmp_path / "a.mp4", seconds), window=4)] == starts

    def test_windows_overlap(self, tmp_path):
        cut = decode(make_video(tmp_path / "a.mp4", 9), window=4, stride=2)
        assert [clip.start for clip in cut] == [0, 2, 4, 6]
        np.testing.assert_array_equal(cut[0].frames[16:], cut[1].frames[:16])
        np.testing.assert_array_equal(cut[1].audio[16000][32000:], cut[2].audio[16000][:32000])

    @pytest.mark.parametrize("options", [{"window": 0}, {"window": 2.5}, {"stride": -1}])
    def test_windows_that_cannot_be_cut(self, tmp_path, options):
        with pytest.raises(UserError, match="whole seconds"):
            decode(make_video(tmp_path / "a.mp4", 1), **options)

    def test_a_long_video_is_not_decoded_further_than_it_is_asked_for(self, tmp_path, monkeypatch):
        path = make_video(tmp_path / "a.mp4", 60, fps=10)
        pulled = []
        take = Track.decode
        monkeypatch.setattr(Track, "decode", lambda track, until: (take(track, until), pulled.append(track._stop)))
        generator = clips(path, sample_rates=[], window=4)
        next(generator)
        assert max(pulled) <= 5 * 8 + 1


class TestTime:
    def test_variable_frame_rate(self, tmp_path):
        times = [0, 0.3, 0.32, 0.9, 1.6, 1.61, 2.5, 3.2]
        (clip,) = decode(make_video(tmp_path / "a.mp4", 4, times=times), window=4)
        expected = [max(t for t in times if t <= tick / 8) for tick in range(26)]
        np.testing.assert_allclose(times_shown(clip)[:26], expected, atol=0.12)

    @pytest.mark.parametrize("container", ["mkv", "mp4"])
    def test_a_frame_stays_until_the_next_one_comes(self, tmp_path, container):
        """Whatever the duration that the file gives it."""
        times = [0, 0.5, 1.0, 3.5]
        path = make_video(tmp_path / f"a.{container}", 4, times=times)
        (clip,) = decode(path, window=4)
        np.testing.assert_allclose(times_shown(clip)[4:28], [0.5] * 4 + [1.0] * 20, atol=0.12)

    def test_more_frames_a_second_than_the_video_has(self, tmp_path):
        (clip,) = decode(make_video(tmp_path / "a.mp4", 2, fps=2), window=2)
        np.testing.assert_allclose(times_shown(clip), np.repeat([0, 0.5, 1, 1.5], 4), atol=0.1)

    @pytest.mark.parametrize("container", ["ts", "mkv", "mp4"])
    def test_time_begins_with_the_file(self, tmp_path, container):
        """Transport streams begin at any time stamp."""
        (clip,) = decode(make_video(tmp_path / f"a.{container}", 2), window=2)
        assert clip.duration == pytest.approx(2, abs=0.1)
        np.testing.assert_allclose(times_shown(clip)[::4], [0, 0.5, 1, 1.5], atol=0.12)

    def test_sound_that_begins_later_is_silent_until_then(self, tmp_path):
        path = make_video(tmp_path / "a.mkv", 3, sound_start=1.25, codecs=EXACT)
        (clip,) = decode(path, window=3)
        assert np.abs(clip.audio[16000][:19980]).max() < 1e-3
        np.testing.assert_allclose(clip.audio[16000][20050:47900], tone(1.75, 16000)[50:27900], atol=2e-3)

    def test_pictures_that_end_before_the_sound_stay(self, tmp_path):
        path = make_video(tmp_path / "a.mkv", 3, times=[0, 0.5], codecs=EXACT)
        (clip,) = decode(path, window=4)
        assert clip.frames[23].any()
        assert not clip.frames[24:].any()

    def test_the_sound_of_several_channels_is_their_mean(self, tmp_path):
        left, right = tone(2, frequency=300, level=0.8), tone(2, frequency=700, level=0.4)
        path = make_video(tmp_path / "a.mkv", 2, sound=np.stack([left, right]), codecs=EXACT)
        (clip,) = decode(path, window=2, sample_rates=[44100])
        np.testing.assert_allclose(clip.audio[44100], (left + right) / 2, atol=1e-4)

    def test_peaks_are_clipped(self, tmp_path):
        path = make_video(tmp_path / "a.mkv", 1, sound=tone(1, level=1.5), codecs=("libx264", "pcm_f32le"))
        (clip,) = decode(path, window=1)
        assert np.abs(clip.audio[16000]).max() == 1

    @pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s32le", "pcm_f64le", "flac", "libopus", "libmp3lame"])
    def test_formats_of_sound(self, tmp_path, codec):
        path = make_video(tmp_path / "a.mkv", 2, rate=48000, codecs=("libx264", codec))
        (clip,) = decode(path, window=2, sample_rates=[48000])
        error = np.abs(clip.audio[48000] - tone(2, 48000))[5000:-5000].max()
        assert error < (0.03 if codec in ("libopus", "libmp3lame", "pcm_u8") else 1e-3)


class TestPictures:
    @pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (0, 1)), (180, (1, 1)), (270, (1, 0))])
    def test_rotation_flags_are_applied(self, tmp_path, rotation, corner):
        """The red square is at the top left, before the picture is turned."""
        frame = np.full((1, 64, 96, 3), 40, np.uint8)
        frame[0, :24, :24] = (255, 0, 0)
        path = make_video(tmp_path / "a.mp4", 1, fps=8, frames=np.repeat(frame, 8, 0), rotation=rotation)
        (clip,) = decode(path, window=1)
        assert clip.frames.shape[1:3] == ((64, 96) if rotation % 180 == 0 else (96, 64))
        red = np.argwhere(clip.frames[0, ..., 0].astype(int) - clip.frames[0, ..., 1] > 100).mean(axis=0)
        assert tuple(red > np.array(clip.frames.shape[1:3]) / 2) == tuple(map(bool, corner))

    @pytest.mark.parametrize(("limit", "shape"), [(None, (64, 96)), (32, (32, 48)), (100, (64, 96))])
    def test_frames_are_scaled_down_never_up(self, tmp_path, limit, shape):
        (clip,) = decode(make_video(tmp_path / "a.mp4", 1), window=1, size=limit)
        assert clip.frames.shape[1:3] == shape


class TestMissingTracks:
    def test_no_sound(self, tmp_path, caplog):
        (clip,) = decode(make_video(tmp_path / "a.mp4", 2, audio=False), window=2)
        assert not clip.has_audio
        assert not clip.audio[16000].any()
        assert clip.has_visual
        assert [record.message for record in caplog.records] == [
            f"{tmp_path / 'a.mp4'} has no sound track: it is taken as silent."
        ]

    def test_no_pictures(self, tmp_path, caplog):
        cut = decode(make_video(tmp_path / "a.m4a", 5, visual=False), window=2)
        assert [clip.has_visual for clip in cut] == [False] * 3
        assert not any(clip.frames.any() for clip in cut)
        assert cut[0].frames.shape[0] == 16
        assert cut[0].audio[16000].any()
        assert len(caplog.records) == 1

    def test_no_sound_is_asked_for(self, tmp_path):
        (clip,) = decode(make_video(tmp_path / "a.mp4", 2), window=2, sample_rates=[])
        assert clip.audio == {}


class TestDamage:
    def refused(self, path, *words):
        with pytest.raises(VideoError) as caught:
            decode(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        assert all(word in str(caught.value) for word in words)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(MissingFileError, match="no video"):
            decode(tmp_path / "none.mp4")

    @pytest.mark.parametrize("content", [b"", b"hello", b"<html>quota exceeded</html>", bytes(10000)])
    def test_what_is_no_video(self, tmp_path, content):
        (tmp_path / "a.mp4").write_bytes(content)
        self.refused(tmp_path / "a.mp4", "cannot be read as a video")

    def test_text_is_not_taken_for_a_film(self, tmp_path):
        (tmp_path / "a.txt").write_text("hello\n" * 100)
        self.refused(tmp_path / "a.txt")

    def test_a_picture_is_not_taken_for_a_film(self, tmp_path):
        from PIL import Image

        Image.fromarray(shapes([0])[0]).save(tmp_path / "a.png")
        self.refused(tmp_path / "a.png", "not a video")

    def test_a_playlist_opens_nothing_else(self, tmp_path):
        (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
        self.refused(tmp_path / "a.m3u8")

    def test_a_folder(self, tmp_path):
        self.refused(tmp_path, "not a file")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, tmp_path):
        path = make_video(tmp_path / "a.mp4", 1)
        path.chmod(0)
        self.refused(path, "ermission")

    def test_an_mp4_without_its_end(self, tmp_path):
        """Its index stands at the end."""
        self.refused(truncate(make_video(tmp_path / "a.mp4", 2), 0.9), "complete")

    def test_what_is_left_of_a_video_is_used_with_a_warning(self, tmp_path, caplog):
        path = truncate(make_video(tmp_path / "a.mkv", 10, codecs=EXACT), 0.3)
        (clip,) = decode(path)
        assert 1 < clip.duration < 6
        assert clip.frames[4].any()
        assert "ends early" in caplog.text

    def test_damaged_packets_are_left_out_with_one_warning(self, tmp_path, caplog):
        path = make_video(tmp_path / "a.mp4", 4)
        data = bytearray(path.read_bytes())
        start = data.index(b"mdat") + 2000
        rng = np.random.default_rng(0)
        for position in range(start, start + 20000, 400):
            data[position : position + 40] = rng.bytes(40)
        path.write_bytes(data)
        (clip,) = decode(path, window=4)
        assert clip.frames.shape[0] == 32
        assert np.isfinite(clip.audio[16000]).all()
        assert sum("is damaged" in record.message for record in caplog.records) <= 2

    def test_pyav_is_not_installed(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "av", None)
        with pytest.raises(UserError, match=r"pip install 'mmcse\[video\]'"):
            decode(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a:b.mp4", "-i.mp4", "100%d.mp4", "ünï ?.mp4"])
def test_odd_names(tmp_path, name):
    (clip,) = decode(make_video(tmp_path / "a.mp4", 1).rename(tmp_path / name), window=1)
    assert clip.path.name == name


def test_a_real_clip_of_llp(shared, caplog):
    path = shared / "llp" / "BjCEufrlXm4.mp4"
    start = time.perf_counter()
    (clip,) = decode(path, sample_rates=[48000])
    assert time.perf_counter() - start < 10
    assert clip.frames.shape == (80, 240, 320, 3)
    assert clip.audio[48000].shape == (10 * 48000,)
    assert np.abs(clip.audio[48000]).max() <= 1
    assert clip.audio[48000].std() > 0.01
    assert clip.duration == 10
    assert not caplog.records
    (again,) = decode(path, sample_rates=[48000])
    np.testing.assert_array_equal(clip.frames, again.frames)
    np.testing.assert_array_equal(clip.audio[48000], again.audio[48000])


@settings(deadline=None, max_examples=200)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    pieces=st.integers(1, 17),
    window=st.integers(1, 8),
    stride=st.integers(1, 8),
)
def test_windows_show_what_the_tracks_hold(lengths, pieces, window, stride):
    """Whatever the sizes of the chunks, a window holds the items of its time and zeros after them."""
    rate = 4

    def chunks(length):
        items = np.arange(1, length + 1)
        for begin in range(0, length, pieces):
            part = items[begin : begin + pieces]
            yield part, (begin + len(part)) / rate

    tracks = [Track(chunks(length), rate) for length in lengths]
    found = []
    for begin, duration, material in spans(tracks, window, stride, 1.0):
        found.append(begin)
        assert 0 < duration <= window
        for track, length in zip(tracks, lengths, strict=True):
            items = track.take(begin, window * rate, material)
            first = round(begin * rate)
            expected = [n + 1 if n < length else 0 for n in range(first, first + window * rate)]
            assert items is None or items.tolist() == expected
            assert items is not None or length == 0
    total = max(lengths) / rate
    starts = [k * stride for k in range(100)]
    expected = [s for k, s in enumerate(starts) if (k == 0 and total) or total - max(s, s - stride + window) >= 1]
    assert found == [s for s in expected if s < total]
