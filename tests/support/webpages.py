"""Report pages as a browser sees them."""

import html.parser
from pathlib import Path

VOID = ("meta", "link", "img", "source", "input", "br")


class Page(html.parser.HTMLParser):
    """A page on disk.

    Attributes:
        source: the file's text. tags: (name, attributes) of each element.
        text: what can be read, without line breaks, with x for the multiplication sign.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(self.source)
        assert self.open == [], "tags left open"
        self.text = " ".join(" ".join(self.words).split()).replace("\N{MULTIPLICATION SIGN}", "x")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]
