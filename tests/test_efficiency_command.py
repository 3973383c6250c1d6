"""`mmcse efficiency`, and that the page it wrote for docs/ still says what the networks are."""

import pytest

from mmcse.cli import main
from mmcse.commands.efficiency import count_rows
from mmcse.configuration import config_folder
from mmcse.models.efficiency import RunTime

pytestmark = pytest.mark.slow

PAGE = config_folder().parent / "docs" / "efficiency.md"


def table_rows(text):
    return [tuple(cell.strip() for cell in line[1:-1].split("|")) for line in text.splitlines() if line[:2] == "| "]


def test_the_page_has_the_multiply_adds_of_the_networks_as_they_are():
    assert set(table_rows(PAGE.read_text())) >= set(count_rows())


def test_the_page_has_the_papers_numbers_beside_the_networks_that_have_its_parameters():
    found = {row[0]: row for row in table_rows(PAGE.read_text()) if row[-3:-1] in (("4.49", "0.80"), ("5.05", "0.45"))}
    assert set(found) == {"mmcse", "valor_plus, valor_plus_plus"}
    assert found["mmcse"][2] == "4.488"
    assert found["valor_plus, valor_plus_plus"][2] == "5.051"
    assert "cannot be compared" in PAGE.read_text()


def test_text_and_markdown_hold_the_same_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "mmcse.models.efficiency.measure_run_time", lambda *args, **kwargs: RunTime(0.064, 0.032, 0.128)
    )
    assert main(["efficiency", "--markdown", str(tmp_path / "page.md")]) == 0
    assert capsys.readouterr().out == ""
    assert main(["efficiency"]) == 0
    text, rows = capsys.readouterr().out, table_rows((tmp_path / "page.md").read_text())
    assert len(rows) > 20
    assert all(cell in text for row in rows for cell in row if set(cell) != {"-"})
    [probe] = [row for row in rows if row[:2] == ("probe", "CLAP/CLIP")]
    assert probe[5:7] == ("64.00 (32.00-128.00)", "1.00 (0.50-2.00)")  # per video, of batches of 1 and 64


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--repeats", "0"], "whole numbers of 1 or more"), (["--device", "abacus"], "--device abacus cannot be used")],
)
def test_mistakes_are_named(options, said, capsys):
    assert main(["efficiency", *options]) == 2
    assert said in capsys.readouterr().err
