"""Report pages of runs that never were, and what a page consists of."""

from html.parser import HTMLParser
from pathlib import Path

from made_up_outputs import outputs
from mmcse.pages.report import report_page, report_tables
from mmcse.runs.reported import ReportedRun
from runs_made_up import record

HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">'\"&amp;"


def run(label="table3/full", seed=0, folder="runs/made-up", **more):
    return ReportedRun(Path(folder), record(label, seed=seed, **more), label)


def page(runs=None, said=None, drawings=(), notes=(), reference=None):
    """The page of some runs, by default of one which parsed the test videos."""
    runs = [run()] if runs is None else runs
    said = {runs[0].name: outputs(kind=runs[0].record["data"]["kind"])} if said is None else said
    return report_page(runs, report_tables(runs, reference), said, drawings, notes)


class Parsed(HTMLParser):
    """The elements of a page, in order, checked for being closed in the order in which they were opened."""

    VOID = frozenset(("meta", "link", "br", "wbr", "input", "img", "hr"))

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], {}
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        last, _ = self.open.pop()
        assert last == tag, f"</{tag}> where <{last}> is open"
        if tag in ("th", "td"):
            self.handle_data(" ")

    def handle_data(self, data):
        for _, index in self.open:
            self.texts[index] = self.texts.get(index, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag):
        return [self.texts.get(i, "").strip() for i, (name, _) in enumerate(self.elements) if name == tag]
