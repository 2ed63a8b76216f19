"""The formats of a report. Apart from `render.py`, which needs jinja2."""

import enum


class Format(enum.Enum):
    """How a report is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"


SUFFIX = {Format.TEXT: ".txt", Format.MARKDOWN: ".md", Format.HTML: ".html"}
