"""Files of prompts that can't be read, or that have no end."""

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
    os.truncate(huge, 2**30)  # a hole, which takes no room
    for file, reason in ((pipe, "no regular file"), (device, "no regular file"), (huge, "more than")):
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
