"""Run directories."""

import pytest

from its.errors import UserError
from its.runs.directory import check_writable


@pytest.mark.parametrize("name", ["samples", "lightning_logs"])
def test_nothing_is_written_through_links_of_a_received_run(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{name} is a symbolic link"):
        check_writable(tmp_path / "run")
