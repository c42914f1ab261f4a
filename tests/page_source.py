"""A page as tests read it without a browser: its tags, its text, its scripts."""

from html.parser import HTMLParser

VOID = {"img", "meta", "br", "rect", "input"}


class Page(HTMLParser):
    """Start tags with their attributes, and the text of everything but scripts and styles."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self.scripts, self.open = [], [], {}, []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag == "script":
            key = attributes.get("id", "")
            self.scripts[key] = self.scripts.get(key, "") + data
        elif tag != "style":
            self.text.append(data)

    def all(self, tag, **wanted):
        return [found for name, found in self.tags if name == tag and all(found.get(k) == v for k, v in wanted.items())]
