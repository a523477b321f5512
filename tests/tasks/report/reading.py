"""A page as a browser would read it."""

from html.parser import HTMLParser


class Reading(HTMLParser):
    """What a browser would find in a page: its elements, the chips of its grid, the rows of its tables."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.chips: list[tuple[dict[str, str | None], str]] = []
        self.rows: list[tuple[str, list[str]]] = []
        self.blocks: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page.decode())
        assert self._open == [], "elements left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.elements.append((tag, named))
        if tag == "rect":
            self.chips.append((named, ""))
        if tag == "tr":
            self.rows.append((named.get("data-state") or "", []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")
        if tag not in ("meta", "br", "img"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-2:] == ["rect", "title"]:
            named, text = self.chips[-1]
            self.chips[-1] = (named, text + data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][1][-1] += data
        if self._open and self._open[-1] in ("style", "script"):
            self.blocks[self._open[-1]] = data

    def attributes(self, name: str) -> list[str]:
        return [named[name] or "" for _, named in self.elements if name in named]
