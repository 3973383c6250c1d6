"""What a record says of the machine."""

import platform

import pytest

from mmcse.runs import record

CPUINFO = """processor\t: {0}
cpu family\t: 25
model\t\t: 17
model name\t: Abacus 3000
"""


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (CPUINFO.format(0) + "\n" + CPUINFO.format(1), "Abacus 3000 (family 25, model 17)"),
        ("processor\t: 0\nmodel name\t: Abacus: the second\n", "Abacus: the second"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "a part of the system's own name"),  # as ARM has it
        (None, "a part of the system's own name"),
    ],
)
def test_a_processor_is_named_as_precisely_as_the_system_does(tmp_path, monkeypatch, cpuinfo, name):
    monkeypatch.setattr(record, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "a part of the system's own name")
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert record.processor_name() == name
