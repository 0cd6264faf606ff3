"""Run directories."""

import pytest

from its.errors import UserError
from its.runs.directory import check_writable, save_config


@pytest.mark.parametrize("name", ["samples", "lightning_logs"])
def test_nothing_is_written_through_links_of_a_received_run(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{name} is a symbolic link"):
        check_writable(tmp_path / "run")


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".its_config.yaml.0123abcd.partial").write_text("{method: ")
    save_config({"method": "MultimodalDenoising"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["its_config.yaml"]
