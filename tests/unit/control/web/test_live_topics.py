"""Fragments of pages that follow a topic: the browser is told to listen for it."""

import re
from itertools import chain

from towline.control.bus import PAGE_TOPICS
from towline.control.web import ROOT


def test_every_topic_that_a_fragment_follows_reaches_pages() -> None:
    pages = [page.read_text() for page in (ROOT / "templates").rglob("*.html")]
    found = chain.from_iterable(re.findall(r'data-live="([a-z ]+)"', page) for page in pages)
    assert {topic for words in found for topic in words.split()} <= {*PAGE_TOPICS}


def test_no_script_has_a_list_of_its_own() -> None:
    scripts = [script.read_text() for script in (ROOT / "static" / "js").glob("events*.js")]
    assert not [script for script in scripts if '"inventory"' in script]
