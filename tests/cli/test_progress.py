"""Who may draw on the terminal, and when."""

import io
import sys

from clipsearch.cli.progress import Bars, Lines, make_progress


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self):
        return True


def test_the_bar_leaves_the_terminal_alone_while_an_encoder_is_fetched(monkeypatch):
    """A download draws its own bar with carriage returns; behind ours each step of it would be a line."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with make_progress() as progress:
        assert isinstance(progress, Bars)
        assert sys.stderr is terminal, "an encoder of a new library is loaded before anything is scanned"
        progress.scanned(10)
        assert sys.stderr is not terminal
        progress.preparing()
        assert sys.stderr is terminal
        progress.start(10)
        assert sys.stderr is not terminal
        progress.advance(10)
    assert sys.stderr is terminal
    assert "10/10" in terminal.getvalue() and "files/s" in terminal.getvalue()


def test_without_a_terminal_there_are_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr("clipsearch.cli.progress.EVERY_SECONDS", 0)
    with make_progress() as progress:
        assert isinstance(progress, Lines)
        progress.scanned(3)
        progress.preparing()
        progress.start(3)
        progress.advance(2)
    out, errors = capsys.readouterr()
    assert out == "" and "3 files to index" in errors and "2 of 3 files" in errors and "s left" in errors
    assert "\x1b" not in errors and "\r" not in errors
    with make_progress() as progress:
        progress.start(1)
    assert capsys.readouterr().err == "1 file to index\n"
