"""Folders of weights, one file or shards with an index."""

from modswap.io.formats.folder.outline import folder_outline, folder_survey
from modswap.io.formats.folder.shards import is_folder
from modswap.io.formats.format import Format, Lazy

FOLDER = Format(
    name="folder",
    recognise=is_folder,
    load=Lazy(f"{__name__}.load:load"),
    outline=folder_outline,
    survey=folder_survey,
    contents=Lazy(f"{__name__}.contents:folder_contents"),
    rewrite=Lazy(f"{__name__}.load:rewrite"),
    weights_only=True,
    folder=True,
    known=Lazy(f"{__name__}.checksums:folder_checksums"),
)
