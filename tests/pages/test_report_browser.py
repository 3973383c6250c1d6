"""The report in a browser, from a file, as readers use it: by pointer, by keyboard, on a telephone, in the dark."""

import dataclasses

import numpy as np
import pytest
from made_up_pages import HOSTILE, page, run

from made_up_outputs import history, outputs
from mmcse.figures import training_curves
from mmcse.pages.drawings import drawing

pytestmark = pytest.mark.slow

CLASSES = ("Speech", "Frying_(food)", "Dog", HOSTILE)
DESKTOP, PHONE, NARROW = ({"width": w, "height": h} for w, h in ((1440, 900), (390, 844), (360, 740)))


@pytest.fixture(scope="module")
def said():
    """What two runs say of the same six videos; the second is wrong everywhere."""
    first = outputs(classes=CLASSES)
    wrong = dataclasses.replace(first, predicted=~first.true)
    return {"table3/full, seed 0": first, "table3/no_secm, seed 0": wrong}


@pytest.fixture(scope="module")
def file(said, tmp_path_factory):
    runs = [run(seed=seed) for seed in range(3)] + [run("table3/no_secm", seed=seed, avg=55.0) for seed in range(3)]
    drawings = [drawing(training_curves(history(), kind="simulated", title="Training"))]
    target = tmp_path_factory.mktemp("page") / "report.html"
    target.write_text(page(runs, said, drawings, notes=[HOSTILE]), encoding="utf-8")
    return target


class Reader:
    """A reader of the page, who notices what goes wrong in the browser."""

    def __init__(self, browser, file, **settings):
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("#explorer:not([hidden])")

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self, name):
        """An attribute of the focused element."""
        return self.page.evaluate("name => document.activeElement.getAttribute(name)", name)

    def widths(self):
        return self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")

    def cells(self, stream):
        """Marks of one timeline, by class: (rows, T)."""
        return self.page.evaluate(
            """stream => [...document.querySelectorAll("#timelines tbody")][stream].querySelectorAll("tr").values()
               .map(row => [row.dataset.class, [...row.querySelectorAll(".cell")].map(c => c.className)]).toArray()""",
            stream,
        )


@pytest.fixture
def reader(browser, file):
    reader = Reader(browser, file, viewport=DESKTOP)
    yield reader
    assert reader.complaints == []
    assert [url for url in reader.requests if not url.startswith(("file:", "data:"))] == []
    reader.context.close()


def test_every_mark_is_what_the_arrays_say(reader, said):
    output = said["table3/full, seed 0"]
    words = np.array(["cell none", "cell false", "cell missed", "cell correct"])
    expected = words[2 * output.true + output.predicted]  # (N, T, 2, K)
    reader.page.check("#all-classes")
    for n, video in enumerate(output.ids):
        reader.page.select_option("#list", str(n))
        assert reader.text("#video-name") == video
        for stream in range(2):
            for k, marks in reader.cells(stream):
                assert marks == expected[n, :, stream, int(k)].tolist()


def test_only_what_concerns_the_video_unless_asked(reader, said):
    output = said["table3/full, seed 0"]
    concerned = np.flatnonzero((output.true | output.predicted)[0].any(axis=(0, 1)))
    assert [int(k) for k, _ in reader.cells(0)] == concerned.tolist()
    reader.page.check("#all-classes")
    assert len(reader.cells(1)) == len(CLASSES)


def test_filter_by_class_and_by_outcome(reader, said):
    output = said["table3/full, seed 0"]
    reader.page.select_option("#event", "2")
    for outcome, where in {
        "any": output.true | output.predicted,
        "true": output.true,
        "correct": output.true & output.predicted,
        "missed": output.true & ~output.predicted,
        "false": ~output.true & output.predicted,
    }.items():
        reader.page.select_option("#outcome", outcome)
        found = reader.page.eval_on_selector_all("#list option", "options => options.map(o => Number(o.value))")
        assert found == np.flatnonzero(where[..., 2].any(axis=(1, 2))).tolist()
        assert reader.text("#found") == f"{len(found)} of {len(output.ids)} videos"


def test_search_and_finding_nothing(reader):
    reader.page.fill("#search", "EO000004")
    assert reader.text("#video-name") == "video000004"
    reader.page.fill("#search", "no such video")
    assert reader.text("#found") == "0 of 6 videos"
    assert reader.page.locator("#timelines td").count() == 0
    assert reader.page.is_disabled("#previous")
    assert reader.page.is_disabled("#next")
    reader.page.fill("#search", "")
    assert reader.page.locator("#timelines td").count() > 0


def test_sorted_by_score(reader):
    reader.page.select_option("#order", "low")
    scores = reader.page.eval_on_selector_all("#list option", "o => o.map(x => parseFloat(x.textContent))")
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    reader.page.select_option("#order", "high")
    assert reader.page.eval_on_selector("#list", "list => parseFloat(list.options[0].textContent)") == scores[-1]


def test_numbers_under_the_pointer_and_at_the_focus(reader, said):
    output = said["table3/full, seed 0"]
    reader.page.check("#all-classes")
    slot = reader.page.locator('#timelines td[data-stream="1"][data-class="2"][data-t="3"]')
    assert not reader.page.is_visible("#tip")
    slot.hover()
    told = reader.text("#tip").splitlines()
    assert told[0] == "Dog, visible, 3 to 4 s"
    assert told[1] == f"probability {output.segment_prob[0, 3, 1, 2]:.3f}"
    assert told[2] == f"whole video {output.visual_prob[0, 2]:.3f}"
    reader.page.locator("h1").hover()
    assert not reader.page.is_visible("#tip")
    slot.focus()
    assert reader.text("#tip").splitlines() == told
    assert told[1].split()[1] in slot.text_content()  # what a screen reader says at the focus
    reader.press("Escape")
    assert not reader.page.is_visible("#tip")


def test_what_the_gate_holds_back_is_said(reader, said):
    output = said["table3/full, seed 0"]
    held = np.argwhere((output.segment_prob > output.threshold) & ~output.predicted)
    assert len(held)
    n, t, stream, k = held[0]
    reader.page.check("#all-classes")
    reader.page.select_option("#list", str(n))
    reader.page.locator(f'#timelines td[data-stream="{stream}"][data-class="{k}"][data-t="{t}"]').hover()
    assert "held back by the whole video" in reader.text("#tip")


def test_the_other_run_is_about_the_same_video(reader):
    reader.page.select_option("#list", "3")
    reader.page.select_option("#run", "1")
    reader.page.locator("#timelines .correct").first.wait_for(state="detached")
    assert reader.text("#video-name") == "video000003"
    assert reader.page.locator("#timelines .false").count() > 0


def test_by_keyboard_alone(reader):
    for _ in range(60):
        reader.press("Tab")
        if reader.focused("id") == "list":
            break
    assert reader.focused("id") == "list"
    reader.press("ArrowDown")
    assert reader.text("#video-name") == "video000001"
    for _ in range(10):
        reader.press("Tab")
        if reader.focused("data-t") is not None:
            break
    assert reader.focused("data-t") == "0"
    reader.press("ArrowRight", "ArrowRight")
    assert reader.focused("data-t") == "2"
    assert reader.page.is_visible("#tip")
    assert reader.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    first = reader.focused("data-class")
    reader.press("ArrowDown")
    assert reader.focused("data-class") != first or reader.focused("data-stream") == "1"
    reader.press("End")
    assert reader.focused("data-t") == "9"
    reader.press("ArrowRight")  # there is nothing further right
    assert reader.focused("data-t") == "9"
    reader.press("PageDown")
    assert reader.text("#video-name") == "video000002"
    assert reader.focused("data-t") == "9"
    reader.press("Home", "PageUp")
    assert reader.text("#video-name") == "video000001"
    tabbable = reader.page.locator("#timelines td[tabindex='0']")
    assert tabbable.count() == 1


def test_previous_and_next_end_where_the_list_does(reader):
    assert reader.page.is_disabled("#previous")
    for _ in range(5):
        reader.page.click("#next")
    assert reader.text("#video-name") == "video000005"
    assert reader.page.is_disabled("#next")
    reader.page.click("#previous")
    assert reader.text("#video-name") == "video000004"


def test_a_link_to_a_video_opens_it(reader, browser, file):
    reader.page.select_option("#list", "2")
    copied = reader.page.url
    assert copied.endswith("#video=video000002")
    other = browser.new_page()
    other.goto(copied)
    other.wait_for_selector("#explorer:not([hidden])")
    assert other.locator("#video-name").inner_text() == "video000002"
    other.close()


def test_theme_is_the_systems_until_another_is_chosen(browser, file):
    def paper(reader):
        return reader.page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark, light = (Reader(browser, file, viewport=DESKTOP, color_scheme=scheme) for scheme in ("dark", "light"))
    papers = paper(dark), paper(light)
    assert papers == ("rgb(21, 24, 29)", "rgb(255, 255, 255)")
    assert dark.text("#theme") == "Light theme"
    dark.page.click("#theme")
    assert paper(dark) == papers[1]
    dark.page.reload()
    dark.page.wait_for_selector("#explorer:not([hidden])")
    assert paper(dark) == papers[1]
    dark.page.click("#theme")
    assert paper(dark) == papers[0]
    assert dark.complaints == light.complaints == []
    for reader in (dark, light):
        reader.context.close()


@pytest.mark.parametrize("viewport", [NARROW, PHONE, DESKTOP], ids=["narrow", "phone", "desktop"])
def test_nothing_but_boxes_of_its_own_scrolls_sideways(browser, file, viewport):
    reader = Reader(browser, file, viewport=viewport)
    reader.page.check("#all-classes")
    reader.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    document, window = reader.widths()
    assert document <= window
    reader.context.close()


def test_without_scripts_everything_else_is_there(browser, file):
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(file.as_uri())
    assert plain.locator("table").count() > 2
    assert plain.locator("noscript").count() == 1
    assert not plain.is_visible("#explorer")
    context.close()


def test_the_browser_refuses_strangers_scripts_and_every_request(browser, file):
    reader = Reader(browser, file)
    reader.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'owned'";
            document.body.append(script);
            const image = new Image();
            image.src = "https://example.org/pixel.png";
            return fetch("https://example.org/").catch(() => null);
        }"""
    )
    assert reader.page.title() == "6 runs"
    refusals = " ".join(reader.complaints)
    assert all(rule in refusals for rule in ("script-src", "img-src", "default-src"))
    assert [url for url in reader.requests if url.startswith("http") and "pixel" not in url] == []
    reader.context.close()


def test_hostile_names_change_nothing(reader):
    reader.page.check("#all-classes")
    assert reader.page.title() == "6 runs"
    assert reader.page.locator("img").count() == 0
    assert any(
        HOSTILE.replace("_", " ") in name for name in reader.page.locator("#timelines tbody th").all_inner_texts()
    )


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_accessibility(browser, file, scheme, viewport):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    reader = Reader(browser, file, viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    reader.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    reader.page.check("#all-classes")
    found = axe.run(reader.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
    problems = [(v["id"], [node["html"][:200] for node in v["nodes"]][:3]) for v in found.response["violations"]]
    assert problems == []
    assert len(found.response["passes"]) > 20
    reader.context.close()
