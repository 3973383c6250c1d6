"""The report as a page: what stands on it, that it is whole by itself, and that nothing given can become part of it."""

import base64
import hashlib
import json
import re
from functools import cache
from itertools import pairwise

import jinja2
import numpy as np
import pytest
from made_up_pages import HOSTILE, Parsed, page, run

from made_up_outputs import history, outputs
from mmcse.figures import class_scores, training_curves
from mmcse.pages import render_page
from mmcse.pages.drawings import drawing
from mmcse.runs.reported import ReportedRun

ADDRESSES = ("src", "href", "xlink:href", "action", "data", "poster", "srcset")


@cache
def drawings():
    return [
        drawing(training_curves(history(), kind="simulated", title="Training")),
        drawing(class_scores({"A": np.array([3.0, 5.0])}, ("Speech", "Dog"), kind="simulated", title="Classes")),
    ]


def grids(parsed):
    """The text of each table's cells, row by row."""
    inside = [text for text in parsed.text_of("tr") if text]
    return [" ".join(text.split()) for text in inside]


def video_data_of(text):
    [data] = re.findall(r'<script type="application/json" id="video-data">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


class TestWhole:
    def test_every_element_is_closed_and_named_once(self):
        parsed = Parsed(page(drawings=drawings()))
        ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = {attributes["for"] for attributes in parsed.all("label") if "for" in attributes}
        named |= {a for attributes in parsed.all("section") for a in attributes["aria-labelledby"].split()}
        named |= {attributes["href"][1:] for attributes in parsed.all("a")}
        assert named <= set(ids)

    def test_headings_leave_out_no_level(self):
        parsed = Parsed(page([run(seed=seed) for seed in range(3)]))
        levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_tables_have_captions_and_heads(self):
        parsed = Parsed(page([run(seed=seed) for seed in range(3)]))
        assert len(parsed.all("caption")) == len(parsed.all("table")) > 0
        assert all(parsed.text_of("caption"))
        assert {attributes.get("scope") for attributes in parsed.all("th")} == {"col", "row"}
        assert all(parsed.text_of("th"))

    def test_asks_no_other_computer_for_anything(self):
        text = page(drawings=drawings())
        parsed = Parsed(text)
        given = [a[name] for _, a in parsed.elements for name in ADDRESSES if a.get(name)]
        assert given
        assert all(re.match(r"#|data:", address) for address in given)
        styles = " ".join([*parsed.text_of("style"), *(a["style"] for _, a in parsed.elements if "style" in a)])
        assert not re.search(r"@import|url\((?!#)", styles)

    def test_forbids_every_request_and_every_script_but_its_own(self):
        parsed = Parsed(page())
        [policy] = [a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
        rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["media-src"] == ["'none'"]
        assert rules["img-src"] == ["data:"]
        assert "connect-src" not in rules
        run_here = [t for t, a in zip(parsed.text_of("script"), parsed.all("script"), strict=True) if "type" not in a]
        assert len(run_here) == 2
        raw = re.findall(r"<script>(.*?)</script>", page(), re.DOTALL)
        digests = {f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in raw}
        assert digests <= set(rules["script-src"])
        assert all(source.startswith("'sha256-") for source in rules["script-src"])

    def test_the_same_bytes_again(self):
        again = drawings.__wrapped__()
        assert again == drawings()
        assert page(drawings=again) == page(drawings=drawings())

    def test_a_forgotten_value_is_an_error(self):
        with pytest.raises(jinja2.UndefinedError, match="title"):
            render_page("report.html", kind="real")


class TestSays:
    @pytest.mark.parametrize(("kind", "loud"), [("simulated", "SIMULATED"), ("fixture", "FIXTURE"), ("real", None)])
    def test_what_the_data_are_before_anything_else_and_at_every_table(self, kind, loud):
        parsed = Parsed(page([run(kind=kind, seed=seed) for seed in range(2)]))
        banners = [
            text for text, a in zip(parsed.text_of("p"), parsed.all("p"), strict=True) if a.get("role") == "note"
        ]
        if loud is None:
            assert banners == []
            assert not re.search("SIMULATED|FIXTURE", " ".join(parsed.text_of("body")))
        else:
            assert len(banners) == 1
            assert banners[0].startswith(loud)
            assert all(loud in caption for caption in parsed.text_of("caption"))

    def test_who_a_run_is(self):
        made = run(seed=7, environment={
            "mmcse": "0.9", "git": {"commit": "f00dcafe1234567890", "dirty": True}, "python": "3", "versions": {},
            "threads": 1,
        }, started="2026-01-02T03:04:05+00:00", seconds={"total": 3725.0})  # fmt: skip
        parsed = Parsed(page([made]))
        facts = dict(zip(parsed.text_of("dt"), parsed.text_of("dd"), strict=True))
        assert parsed.text_of("h1") == ["table3/full, seed 7"]
        assert facts["Identity"] == made.record["identity"]
        assert facts["Commit"] == "f00dcafe12, changed since"
        assert facts["Started"] == "2026-01-02 03:04:05 UTC"
        assert facts["Took"] == "1 h 2 min"
        assert facts["Avg, the mean of the ten"] == "60.00"
        assert "num_layers: 4" in " ".join(parsed.text_of("pre"))

    def test_the_ten_scores_of_one_run(self):
        made = run()
        made.record["scores"]["test"] |= {"segment/A": 71.234, "event/Event": 50.5}
        rows = grids(Parsed(page([made])))
        assert "test, segment level 71.23 60.00 60.00 60.00 60.00" in rows
        assert "test, event level 60.00 60.00 60.00 60.00 50.50" in rows

    def test_scores_of_each_class_are_those_of_the_videos(self):
        made = run()
        said = outputs()
        rows = grids(Parsed(page([made], {made.name: said})))
        [row] = [row for row in rows if row.startswith("Frying (food) ")]
        assert row.split()[-2:] == [str(n) for n in said.true[..., 1].sum(axis=(0, 1))]

    def test_an_ablation_is_compared_in_pairs_and_judged(self):
        runs = [run(seed=s, avg=60 + s / 10) for s in range(3)]
        runs += [run("table3/no_secm", seed=s, avg=55 + s / 10 + (s == 1) / 50) for s in range(3)]
        parsed = Parsed(page(runs, {}))
        assert "Table 3. Ablation of the FGSE module" in parsed.text_of("h3")
        rows = grids(parsed)
        assert any(re.match(r"full 60\.1 ± 0\.1 .* 3$", row) for row in rows)
        assert any(re.match(r"w/o SECM 55\.11 .* -4\.99 .* lower$", row) for row in rows)

    def test_runs_that_are_in_no_table_get_one_and_a_reference(self):
        runs = [run(seed=s, avg=60 + s) for s in (0, 1)]
        runs += [
            ReportedRun(m.folder, {**m.record, "name": "mine"}, "mine") for m in (run(avg=50), run(seed=1, avg=51))
        ]
        parsed = Parsed(page(runs, {}, reference="table3/full"))
        assert "All rows" in parsed.text_of("h3")
        assert any(re.match(r"mine 50\.50 .* -10\.00 ", row) for row in grids(parsed))

    def test_real_data_stand_beside_the_paper(self):
        rows = grids(Parsed(page([run(kind="real")])))
        assert any(row.startswith("full paper 66.3") for row in rows)
        assert any(row.startswith("full ours 60.0") for row in rows)
        assert not any(" paper " in row for row in grids(Parsed(page([run(kind="simulated")]))))

    def test_what_failed_and_what_is_missing(self):
        runs = [run(), run(seed=1, status="failed", error="out of memory on GPU 0")]
        parsed = Parsed(page(runs, {}, notes=["There are no figures: because."]))
        said = " ".join(parsed.text_of("p"))
        assert "table3/full, seed 1 failed: out of memory on GPU 0" in said
        assert "There are no figures: because." in said
        assert "#videos" not in [a["href"] for a in parsed.all("a")]
        facts = dict(zip(parsed.text_of("dt"), parsed.text_of("dd"), strict=True))
        assert facts["Runs"] == "1 ok, 1 failed"

    def test_not_where_anything_lies_but_as_it_was_named(self):
        text = page([run(folder="runs/table3")])
        assert "/secret" not in text
        assert "runs/table3" in text

    def test_figures_as_drawings_with_words(self):
        parsed = Parsed(page(drawings=drawings()))
        assert [a["aria-label"] for a in parsed.all("svg")] == ["Training", "Classes"]
        assert "Training SIMULATED" in parsed.text_of("figcaption")
        assert any("validation scores" in text for text in parsed.text_of("text"))  # text stays text


class TestHostileNames:
    def test_are_only_shown(self):
        made = run(folder=HOSTILE)
        made = ReportedRun(made.folder, made.record | {"name": HOSTILE, "identity": HOSTILE, "error": HOSTILE}, HOSTILE)
        failed = ReportedRun(made.folder, made.record | {"status": "failed"}, HOSTILE)
        said = {made.name: outputs(classes=(HOSTILE, "a", "b"), ids=tuple(HOSTILE + str(i) for i in range(6)))}
        for runs in ([made], [made, failed]):
            text = page(runs, said, notes=[HOSTILE])
            parsed = Parsed(text)
            assert parsed.all("img") == []
            assert all(not name.startswith("on") for _, attributes in parsed.elements for name in attributes)
            own = [a for a in parsed.all("script") if "type" not in a]
            assert len(own) == 2
            data = video_data_of(text)
            assert data["ids"][0] == HOSTILE + "0"
            assert data["classes"][0] == HOSTILE.replace("_", " ")
            assert any(HOSTILE in heading for heading in (*parsed.text_of("h1"), *parsed.text_of("th")))

    def test_in_a_figure(self):
        made = drawing(class_scores({"A": np.array([3.0, 5.0])}, (HOSTILE, "$\\evil{"), kind="real", title=HOSTILE))
        parsed = Parsed(page(drawings=[made]))
        assert parsed.all("img") == []
        assert parsed.all("svg")[0]["aria-label"] == HOSTILE
        assert HOSTILE in " ".join(parsed.text_of("text"))
