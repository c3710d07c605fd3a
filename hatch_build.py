"""The README as a package's description: where it is shown there are no files beside it."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"!?\[([^\]]*)\]\((?!https:)([^)]*)\)")


def description(readme: str) -> str:
    """The Markdown with the text and the path of links and images in their place: the repository has no address that
    could be written here.

    >>> description("![a plot](docs/a.png) See [how](docs/how.md), [docs/b.md](docs/b.md) or [LiteRT](https://x).")
    'a plot (docs/a.png) See how (docs/how.md), docs/b.md or [LiteRT](https://x).'
    """
    return _LINK.sub(_said, readme)


def _said(link: re.Match[str]) -> str:
    text, path = link.groups()
    return path if text == path else f"{text} ({path})"


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        readme = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": description(readme)}
