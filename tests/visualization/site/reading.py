"""What a page of a site says and refers to, read without a browser."""

import re
from html.parser import HTMLParser
from urllib.parse import urlsplit


class Page(HTMLParser):
    """Start tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self._open = [], "", ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open not in ("script", "style"):
            self.text += data

    def all(self, tag, kind=""):
        return [found for name, found in self.tags if name == tag and kind in [*found.get("class", "").split(), ""]]


def said(path):
    """The text of a page, as it is read."""
    return " ".join(Page(path).text.split())


def referred(page):
    """Files that a page refers to, relative to it, in attributes and styles."""
    names = ("href", "src", "data-sound")
    found = [value for _, given in Page(page).tags for name, value in given.items() if name in names]
    text = page.read_text("utf-8")
    found += re.findall(r"url\(([^)]+)\)", text)
    return {urlsplit(address).path for address in found if not address.startswith(("data:", "#"))}
