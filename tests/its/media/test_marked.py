import os

import pytest

from its.errors import UserError
from its.media.marked import write_marked


def test_only_files_with_the_mark_are_replaced(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    for text in ("id,seed,a", "id,seed,b"):
        write_marked(path, text, "id,seed,")
        assert path.read_text() == text
    path.write_text("my own")
    with pytest.raises(UserError, match="scores.csv .*not written by .*move it away"):
        write_marked(path, "id,seed,c", "id,seed,")
    assert path.read_text() == "my own"


def test_irregular_files_are_not_replaced(tmp_path):
    (tmp_path / "private").write_text("id,seed,private")
    (tmp_path / "link").symlink_to("private")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "folder").mkdir()
    for name in ("link", "dangling", "pipe", "folder"):
        with pytest.raises(UserError, match=f"{name} .*not written by"):
            write_marked(tmp_path / name, "id,seed,", "id,seed,")
    assert (tmp_path / "private").read_text() == "id,seed,private"
    assert not (tmp_path / "nowhere").exists()
