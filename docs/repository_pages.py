"""Take the repository's own pages into the site, and lead links to them there.

A hook of MkDocs. The pages in `docs` link to files beside that folder, as Markdown on a git host
needs it. Such a file becomes a page or a file of the site, and the links to it follow.
"""

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# by their paths in the repository, those in the site
PLACES = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh-CN.md",
    **{name: f"project/{name}" for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")},
    "LICENSE": "project/LICENSE.txt",
    **{
        path.relative_to(ROOT).as_posix(): f"project/{path.relative_to(ROOT).as_posix()}"
        for path in sorted((ROOT / "configs").glob("*.*"))
    },
}
_LINK = re.compile(r"(?<=\]\()(?P<markdown>[^)\s]+)(?=\))|(?<= src=\")(?P<html>[^\"]+)(?=\")")
# a line break between Chinese letters or signs
_BREAK = re.compile(r"(?<=[\u3001\u3002\u4e00-\u9fff\uff08-\uff1b])\n(?=[\u4e00-\u9fff\uff08])")
_SCHEME = re.compile(r"[a-z]+:|#|/")


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the files of the repository that are beside the folder of pages."""
    from mkdocs.structure.files import File

    for path, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: "Page", **_: object) -> str:
    """Return a page whose links lead to places in the site."""
    return without_breaks(with_links_of_the_site(markdown, page.file.src_uri))


def without_breaks(markdown: str) -> str:
    """Return a page without line breaks between Chinese letters: they would show as spaces."""
    return _BREAK.sub("", markdown)


def with_links_of_the_site(markdown: str, place: str) -> str:
    """Return a page, by its place in the site, with links that lead to places in the site.

    A link to a file that is not in the site stays as it is, and MkDocs reports it.
    """
    home = posixpath.dirname(_path_in_repository(place))

    def lead(link: re.Match[str]) -> str:
        target, hash_sign, anchor = link[0].partition("#")
        if _SCHEME.match(link[0]):
            return link[0]
        led = _place_in_site(posixpath.normpath(posixpath.join(home, target)))
        if led is None:
            return link[0]
        return f"{posixpath.relpath(led, posixpath.dirname(place) or '.')}{hash_sign}{anchor}"

    return _LINK.sub(lead, markdown)


def _path_in_repository(place: str) -> str:
    found = [path for path, other in PLACES.items() if other == place]
    return found[0] if found else f"docs/{place}"


def _place_in_site(path: str) -> str | None:
    return path.removeprefix("docs/") if path.startswith("docs/") else PLACES.get(path)
