"""Tests of prompt files that are malformed, unreadable or endless."""

import json
import os

import pytest

from its.errors import UserError
from its.specs.prompt_files import read_prompts

ROW = {"visual": "a castle", "audio": "a bell"}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "yaml"])
def test_pipes_devices_and_huge_files_are_no_files_of_prompts(tmp_path, ending):
    pipe, device, huge = (tmp_path / f"{name}.{ending}" for name in ("pipe", "device", "huge"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    huge.touch()
    os.truncate(huge, 2**30)  # sparse: takes no disk space
    for file, reason in ((pipe, "not a regular file"), (device, "not a regular file"), (huge, "more than")):
        with pytest.raises(UserError, match=f"{file.name}.*{reason}"):
            read_prompts(file)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"seed": ' + "1" * 5000 + "}", "{" * 60 + "}"])
def test_lines_of_json_that_can_not_be_read_are_named(tmp_path, line):
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(ROW)}\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        read_prompts(tmp_path / "rows.jsonl")


def test_a_line_of_json_may_hold_other_separators_of_lines(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({**ROW, "visual": "a\u2028b"}, ensure_ascii=False) + "\n")
    assert [row["visual"] for row in read_prompts(tmp_path / "rows.jsonl")] == ["a\u2028b"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_csv_of_spreadsheets(tmp_path, sign, mark, end):
    lines = [sign.join(cells) for cells in (("visual", "audio", ""), ("a castle", "a bell", ""), ("", "", ""), ())]
    (tmp_path / "rows.csv").write_bytes((mark + end.join([*lines, "  ", ""])).encode())
    assert read_prompts(tmp_path / "rows.csv") == [ROW]


def test_commas_in_csv_of_semicolons_are_text(tmp_path):
    (tmp_path / "rows.csv").write_text('visual;audio\na castle, old;"a bell; a big one"\n')
    assert read_prompts(tmp_path / "rows.csv") == [{"visual": "a castle, old", "audio": "a bell; a big one"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("visual,audio\na;b\n", "line 2: expected 2 columns"),
        ("visual,audio,visual\na,b,c\n", "line 1: .*visual more"),
    ],
)
def test_csv_that_has_no_one_meaning_is_a_message_with_its_line(tmp_path, text, message):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_prompts(tmp_path / "rows.csv")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_of_json_may_end_as_on_windows_and_with_blank_lines(tmp_path, mark):
    (tmp_path / "rows.jsonl").write_bytes(f"{mark}{json.dumps(ROW)}\r\n\r\n \r\n".encode())
    assert read_prompts(tmp_path / "rows.jsonl") == [ROW]
