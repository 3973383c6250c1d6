"""Commands that take options: a module each, with its parser in `add` and its work in `run`.

The modules import only what their parsers need; the work's imports stand in `run`, so that `mmcse --help` is quick and
no command pays for another.
"""
