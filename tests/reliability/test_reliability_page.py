"""docs/RELIABILITY.md is what the tests' counts say, and every test that counts is on it."""

import json

import page


def test_the_page_is_what_the_counts_say():
    assert page.PAGE.read_text() == page.page(json.loads(page.EVIDENCE.read_text()))


def test_every_test_that_counts_is_counted():
    counts = json.loads(page.EVIDENCE.read_text())["tests"]
    assert set(counts) == page.tests_with_evidence()
    assert {name.partition("::")[0] for name in counts} == set(page.SECTIONS)
    assert all(sum(row.values()) for row in counts.values())
