"""Texts from files stay texts in terminals, spreadsheets, Markdown and LaTeX."""

import csv
import io
import logging

import pytest

from its.output import comma_separated, configure_logging, markdown_item, markdown_table, say, tex, tex_comment, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),  # one character for ESC [
        ("its: failed\rits: all is well", r"its: failed\rits: all is well"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("half \ud800", r"half \ud800"),
        ("two\nlines\tand 城", "two\nlines\tand 城"),
    ],
)
def test_control_characters_are_shown(text, shown, capsys):
    assert visible(text) == shown
    say(text)
    logging.getLogger("its.anything").error(text)
    assert capsys.readouterr() == (f"{shown}\n", f"its: {shown}\n")


def test_warnings_are_marked_and_levels_are_kept(capsys):
    logger = logging.getLogger("its.anything")
    for level, expected in ((logging.WARNING, ""), (logging.INFO, "its: done\n")):
        configure_logging(level)
        logger.info("done")
        logger.debug("details")
        assert capsys.readouterr() == ("", expected)
    logger.warning("no room for %d samples", 3)
    assert capsys.readouterr().err == "its: WARNING: no room for 3 samples\n"


def test_texts_are_no_formulas():
    evil = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\n=1+1", '=HYPERLINK("https://x","y")']
    fine = ["castle", "a, b", "-1.5", "+2", "1e-5", 7, -7, 0.5, None, "a=b", "two\nlines"]
    (row,) = csv.reader(io.StringIO(comma_separated([[*evil, *fine]]), newline=""))
    assert row[: len(evil)] == [f"'{text}" for text in evil]
    assert row[len(evil) :] == ["" if value is None else str(value) for value in fine]


def test_no_text_leaves_its_cell():
    table = markdown_table([["a", "n"], ["x|y\n| z |\u2028\x1b[2J", "1"]], numbers=1)
    assert table.splitlines() == ["| a | n |", "| --- | ---: |", r"| x\|y \| z \| \x1b[2J | 1 |"]
    assert markdown_item("a\n# b") == "- a # b"
    assert tex_comment("a\n\\input{/etc/passwd}") == "% a \\input{/etc/passwd}"
    assert tex("a\n\\input{x} & 5% $") == r"a \textbackslash{}input\{x\} \& 5\% \$"
