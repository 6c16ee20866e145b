"""The frame of all pages: styles, script, and the policy that lets nothing else run."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from modswap.core.version import __version__
from modswap.core.words.printable import tame, without_commands

GENERATOR = "modswap"
SHOWN_CHARACTERS = 160  # of a name; a longer one is cut in its middle


def framed(template: str, *, title: str, language: str = "en", **context: Any) -> str:
    """Return a page: a template of this folder with its context, in the frame of all pages.

    Texts of the context are escaped where the template shows them.
    """
    made = _environment().get_template(template)
    style, script = _own("style.css"), _own("script.js")
    text = made.render(
        context,
        title=tame(title),
        language=language,
        generator=GENERATOR,
        version=__version__,
        style=Markup(style),  # noqa: S704 - a file of this package, without values
        script=Markup(script),  # noqa: S704 - a file of this package, without values
        policy=_policy(style, script),
    )
    return without_commands(text)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("modswap.report.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"short": short, "sharp": anchored}
    return made


@cache
def _own(name: str) -> str:
    """Return a style or a script of this package."""
    text = files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
    return without_commands(text)


def _policy(style: str, script: str) -> str:
    """Return the content security policy: this style and this script, and no network."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'"


def short(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """Return a text from a file on one line, a long one cut in its middle."""
    shown = tame(str(text))
    if len(shown) <= most:
        return shown
    end = most // 3
    return f"{shown[: most - end - 1]}…{shown[-end:]}"


def anchored(path: str) -> str:
    """Return the name by which a page links to a site: `site=encoder.attn`."""
    return f"site={short(path)}".replace(" ", "_")
