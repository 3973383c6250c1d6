"""The page that plays a video with its events, as a browser shows it."""

import html.parser
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcse.errors import UserError
from mmcse.video import page
from mmcse.video.events import Parsing
from mmcse.video.page import write_events_page
from mmcse.video.parse import FileParser
from mmcse.vocabulary import LLP_CLASSES

CLASSES = ("Dog", "<script>alert('x')</script>", '"quoted" & more', "Speech")
SECONDS = 12


def parsing(video, kind="simulated", seconds=SECONDS):
    present = np.zeros((seconds, 2, len(CLASSES)), bool)
    present[2:5, 0, 0] = present[3:9, 1, 0] = present[7:, 0, 1] = present[0, 1, 2] = present[10:12, 1, 2] = True
    origin = {"network": "MMCSE", "checkpoint": "<b>best</b>.ckpt", "features": "clip_clap", "gate": "none",
              "threshold": 0.5}  # fmt: skip
    prob = np.where(present, 0.75, 0.1).astype(np.float32)
    return Parsing(video, float(seconds), (True, True), CLASSES, prob, present, kind, origin)


class Elements(html.parser.HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag, **attributes):
        return [a for t, a in self.found if t == tag and attributes.items() <= a.items()]


class TestFile:
    pytest.importorskip("jinja2")

    def written(self, tmp_path, kind="simulated", video="film.mp4", **options):
        write_events_page(tmp_path / "pages" / "a.html", parsing(tmp_path / video, kind), **options)
        return Elements((tmp_path / "pages" / "a.html").read_text())

    def test_places_events_on_two_tracks(self, tmp_path):
        events = self.written(tmp_path).of("button", **{"class": "event"})
        assert [(e["data-label"], e["data-onset"], e["data-offset"]) for e in events] == [
            ("Dog", "2.0", "5.0"), (CLASSES[1], "7.0", "12.0"),
            ("Dog", "3.0", "9.0"), (CLASSES[2], "0.0", "1.0"), (CLASSES[2], "10.0", "12.0"),
        ]  # fmt: skip
        assert events[2]["style"] == "left: 25.0%; width: 50.0%"

    def test_lists_events_of_both_modalities_too(self, tmp_path):
        assert "heard and seen" in self.written(tmp_path).text

    def test_names_are_text(self, tmp_path):
        elements = self.written(tmp_path, video='<i>"x" & y.mp4')
        assert not elements.of("i")
        assert not elements.of("b")
        assert all("alert" not in attributes.get("src", "") for attributes in elements.of("script"))
        assert '<i>"x" & y.mp4' in elements.text

    def test_what_means_nothing_says_so(self, tmp_path):
        assert "SIMULATED features: these events mean nothing" in self.written(tmp_path).text
        assert "mean nothing" not in self.written(tmp_path, kind="real").text

    def test_tells_which_track_is_missing(self, tmp_path):
        found = replace(parsing(tmp_path / "film.mp4"), tracks=(False, True))
        write_events_page(tmp_path / "a.html", found)
        assert "it has no sound" in (text := Elements((tmp_path / "a.html").read_text()).text)
        assert "it has no pictures" not in text

    def test_refers_to_the_video_from_where_the_page_is(self, tmp_path):
        [video] = self.written(tmp_path, video="a b#1?%.mp4").of("video")
        assert video["src"] == "../a%20b%231%3F%25.mp4"

    def test_a_name_is_never_a_scheme(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_events_page("a.html", parsing(Path("javascript:alert(1).mp4")))
        [video] = Elements(Path("a.html").read_text()).of("video")
        assert ":" not in video["src"]

    def test_embeds_a_small_video_only(self, tmp_path, monkeypatch):
        (tmp_path / "film.mp4").write_bytes(b"abc")
        [video] = self.written(tmp_path, embed=True).of("video")
        assert video["src"] == "data:video/mp4;base64,YWJj"
        monkeypatch.setattr(page, "EMBED_LIMIT", 2)
        with pytest.raises(UserError, match="without --embed"):
            self.written(tmp_path, embed=True)

    def test_loads_nothing_from_a_network(self, tmp_path):
        elements = self.written(tmp_path)
        addresses = [a[name] for _, a in elements.found for name in ("src", "href") if name in a]
        assert not [address for address in addresses if "//" in address]
        assert elements.of("meta", **{"http-equiv": "Content-Security-Policy"})


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    from made_videos import make_video

    return make_video(tmp_path_factory.mktemp("films") / "a film #1.webm", SECONDS, codecs=("libvpx", "libopus"),
                      rate=48000)  # fmt: skip


@pytest.fixture
def opened(browser, film, tmp_path):
    """The page in a browser; whatever the browser complains about fails the test."""
    complaints = []
    contexts = []

    def open_page(video=film, width=1280, **options):
        file = film.parent / f"{tmp_path.name}.html"
        write_events_page(file, parsing(video), **options)
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}))
        shown = contexts[-1].new_page()
        shown.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.goto(file.as_uri())
        return shown

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


VIDEO = "document.getElementById('video')"


def wait_until(shown, expression, seconds=10):
    """Poll from outside: the page's policy does not let Playwright's own waiting run in it."""
    deadline = time.monotonic() + seconds
    while not shown.evaluate(expression):
        assert time.monotonic() < deadline, f"never became true: {expression}"
        time.sleep(0.02)


def time_of(shown):
    wait_until(shown, f"!{VIDEO}.seeking")
    return shown.evaluate(f"{VIDEO}.currentTime")


def playable(shown):
    wait_until(shown, f"{VIDEO}.readyState >= 1")


@pytest.mark.slow
class TestInABrowser:
    @pytest.mark.parametrize("embed", [False, True])
    def test_a_click_on_an_event_takes_the_video_there(self, opened, embed):
        shown = opened(embed=embed)
        playable(shown)
        shown.locator(".heard .event[data-label='Dog']").click()
        assert time_of(shown) == pytest.approx(2, abs=0.05)
        assert shown.locator("#present").inner_text() == "Dog (heard)"
        shown.locator(".seen .event[data-label='Dog']").focus()
        shown.keyboard.press("Enter")
        assert time_of(shown) == pytest.approx(3, abs=0.05)
        assert shown.locator("#present").inner_text() == "Dog (heard), Dog (seen)"
        assert shown.locator("[aria-current]").count() == 2
        box = shown.locator("#timeline").bounding_box()
        shown.mouse.click(box["x"] + 0.9 * box["width"], shown.locator(".seen .lane").first.bounding_box()["y"] + 5)
        assert time_of(shown) == pytest.approx(0.9 * SECONDS, abs=0.1)

    def test_the_tracks_follow_the_video(self, opened):
        shown = opened()
        playable(shown)
        shown.evaluate(f"{VIDEO}.muted = true; {VIDEO}.playbackRate = 4; {VIDEO}.play()")
        wait_until(shown, f"{VIDEO}.currentTime > 2.2")
        wait_until(shown, "document.getElementById('present').textContent.includes('Dog (heard)')")
        assert float(shown.locator("#playhead").evaluate("e => parseFloat(e.style.left)")) > 100 * 2 / SECONDS

    def test_keys(self, opened):
        shown = opened()
        playable(shown)
        for key, expected in (("n", 2), ("n", 3), ("ArrowRight", 4), ("p", 3), ("ArrowLeft", 2)):
            shown.keyboard.press(key)
            assert time_of(shown) == pytest.approx(expected, abs=0.05)
        shown.keyboard.press(" ")
        assert not shown.evaluate(f"{VIDEO}.paused")
        shown.keyboard.press(" ")
        assert shown.evaluate(f"{VIDEO}.paused")

    def test_from_the_list(self, opened):
        shown = opened()
        playable(shown)
        shown.get_by_role("button", name="Go to 10.0 s").click()
        assert time_of(shown) == pytest.approx(10, abs=0.05)

    @pytest.mark.parametrize("width", [360, 1280])
    def test_fits_the_screen(self, opened, width):
        shown = opened(width=width)
        playable(shown)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        lanes = shown.locator(".lane").all()
        assert len({round(lane.bounding_box()["width"]) for lane in lanes}) == 1

    def test_a_video_that_is_gone(self, browser, tmp_path):
        """The browser complains of a missing file, so this page is opened without the fixture."""
        write_events_page(tmp_path / "a.html", parsing(tmp_path / "gone.mp4"))
        shown = browser.new_page()
        shown.goto((tmp_path / "a.html").as_uri())
        shown.locator("#unplayable").wait_for(state="visible")
        shown.locator(".heard .event[data-label='Dog']").click()
        assert shown.locator("#clock").inner_text() == "2.0 s"
        shown.close()

    def test_a_real_video_is_parsed_and_played(self, shared, browser, tmp_path):
        """With encoders and a network that know nothing, but are the real ones in everything else."""
        pytest.importorskip("transformers", reason="CLIP and CLAP need mmcse[video]")
        from made_checkpoints import make_checkpoint
        from tiny_encoders import DIMS, write_tiny_weights

        video = tmp_path / "videos" / "BjCEufrlXm4.mp4"
        video.parent.mkdir()
        shutil.copy(shared / "llp" / video.name, video)
        widths = DIMS["clap"], DIMS["clip"], DIMS["r2plus1d"]
        checkpoint = make_checkpoint(tmp_path / "best.ckpt", LLP_CLASSES, widths=widths, kind="fixture", gate="none")
        parser = FileParser(checkpoint, features="clip_clap", weights=write_tiny_weights(tmp_path / "weights"),
                            device="cpu")  # fmt: skip
        parser.threshold = float(np.median(parser.parse(video).segment_prob))  # so that there are events
        found = parser.parse(video)
        assert found.segment_prob.shape == (10, 2, len(LLP_CLASSES))
        event = next(e for e in found.events if e.modality == "audio" and e.onset > 0)

        write_events_page(tmp_path / "pages" / "a.html", found)
        shown = browser.new_page()
        shown.goto((tmp_path / "pages" / "a.html").as_uri())
        playable(shown)
        assert shown.evaluate(f"{VIDEO}.duration") == pytest.approx(10.03, abs=0.05)
        shown.locator(f".heard .event[data-label='{event.label}'][data-onset='{event.onset}']").click()
        assert time_of(shown) == pytest.approx(event.onset, abs=0.05)
        assert event.label in shown.locator("#present").inner_text()
        shown.close()
