import os

import pytest

from its.errors import UserError
from its.media.contained import contained, is_own_file


def test_links_below_the_root_are_refused_wherever_they_lead(tmp_path):
    run = tmp_path / "run"
    (run / "samples" / "a").mkdir(parents=True)
    (run / "samples" / "b").symlink_to(run / "samples" / "a")
    (run / "samples" / "a" / "nothing").symlink_to(tmp_path / "nowhere")
    for path in (run / "samples" / "a" / "new.png", run / "samples"):
        assert contained(run, path) == path
    for path in (run / "samples" / "b", run / "samples" / "b" / "c" / "new.png", run / "samples" / "a" / "nothing"):
        with pytest.raises(
            UserError, match="is a symbolic link, which is not followed below .*run: replace it by a copy"
        ):
            contained(run, path)


def test_the_root_may_be_a_link(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "run")
    assert contained(tmp_path / "latest", tmp_path / "latest" / "samples")


def test_only_regular_files_are_a_run_s_own(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert [name for name in ("file", "link", "pipe", "nothing") if is_own_file(tmp_path / name)] == ["file"]
