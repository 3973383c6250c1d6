"""How fast and how large the suite is on this machine, against the literal implementation of its tests.

`mmcse bench` runs it. What is measured lies in a JSON file of plain values with every single time; the page and the
figure are made from that alone.
"""
