"""Web pages in one file each: templates, styles and scripts, put together so that nothing is fetched from anywhere.

A template extends `base.html` (theme, header, footer) and fills its blocks `title`, `banner`, `head`, `main` and
`scripts`. Styles and scripts are files beside it, named in calls of `style` and `script`. Every value is escaped; the
page's Content-Security-Policy forbids every request to a network, and every script that is not a file of this package.
"""

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from mmcse import __version__
from mmcse.errors import UserError
from mmcse.runs.render import HEADLINES

try:
    import jinja2
    from markupsafe import Markup
except ImportError:
    raise UserError("Pages need jinja2: pip install 'mmcse[report]'.") from None

FOLDER = resources.files(__name__) / "templates"


def render_page(template: str, **values: Any) -> str:
    """Put a page together.

    Args:
        template: name of a template, such as "report.html".
        values: what the template shows; every page needs `kind`, what the data are. Text is escaped, wherever it
            comes from; data for a script go through the filter `tojson`, which leaves nothing in them that could end
            the script element.

    Returns:
        A whole HTML document that needs no other file.

    Raises:
        jinja2.UndefinedError: the template needs a value that was not given.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    environment.globals |= {
        "mmcse_version": __version__,
        "headlines": HEADLINES,
        "style": _style,
        "script": _script,
        "script_hashes": _script_hashes(),
    }
    return environment


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _style(name: str) -> Markup:
    """A style sheet of this package as an element."""
    return _element("style", name)


def _script(name: str) -> Markup:
    """A script of this package as an element."""
    return _element("script", name)


def _element(tag: str, name: str) -> Markup:
    # a file of this package, nobody else's text
    return Markup(f"<{tag}>{_text(name)}</{tag}>")  # nosec B704


def _script_hashes() -> str:
    """Every script of this package, as a Content-Security-Policy names what may run."""
    files = sorted(file.name for file in FOLDER.iterdir() if file.name.endswith(".js"))
    digests = (base64.b64encode(hashlib.sha256(_text(name).encode()).digest()).decode() for name in files)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
