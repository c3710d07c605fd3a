"""Bars and lines of another process."""

import pytest

from kd2mobile import progress
from kd2mobile.progress import Done, Say, Stage


@pytest.fixture
def told(monkeypatch):
    """What is told while bars and lines go elsewhere, a message after the other."""
    messages = []
    monkeypatch.setattr(progress, "_tell", None)
    progress.tell_to(messages.append)
    yield messages
    progress._tell = None


def test_bars_and_lines_are_told(told, monkeypatch, capsys):
    monkeypatch.setattr(progress, "TELL_EVERY_S", 0.0)
    progress.say("one file")
    with progress.bar("timing", 3, "files") as advance:
        advance(1)
        advance(2)
    assert told[:2] == [Say("one file"), Stage("timing", 3, "files")]
    assert sum(message.count for message in told[2:]) == 3 and capsys.readouterr().err == ""


def test_not_every_image_is_a_message(told):
    with progress.bar("evaluating", 1000, "images") as advance:
        for _ in range(1000):
            advance(1)
    assert len(told) < 1000 and sum(message.count for message in told[1:]) == 1000


def test_what_is_told_is_shown_again(monkeypatch, capsys):
    seen = []

    class Bar:
        def __init__(self, *words):
            seen.append(words)

        def __enter__(self):
            return seen.append

        def __exit__(self, *_):
            seen.append("closed")

    monkeypatch.setattr(progress, "bar", Bar)
    with progress.retold() as show:
        show(Stage("timing", 2, "files"))
        show(Done(2))
        show(Say("a line"))
        show(Stage("evaluating", 5, "images"))
    assert seen == [("timing", 2, "files"), 2, "closed", ("evaluating", 5, "images"), "closed"]
    assert capsys.readouterr().err == "a line\n"
