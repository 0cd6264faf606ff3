"""Systems that leave out what libraries need."""

import getpass
import os
import pwd
from pathlib import Path

import pytest

from its.environment import complete_environment


@pytest.fixture
def unknown_user(monkeypatch):
    """The environment of a user id without an entry in the list of users."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    environment = {}
    monkeypatch.setattr(os, "environ", environment)
    return environment


def test_a_user_without_entry_and_home_gets_a_name_and_a_home(unknown_user):
    with pytest.raises((KeyError, OSError)):  # what torch's import dies of
        getpass.getuser()
    complete_environment()
    assert getpass.getuser() == str(os.getuid())
    assert Path.home() == Path("/")
    assert Path("~/x").expanduser() == Path("/x")


def test_names_that_the_environment_has_are_kept(unknown_user):
    unknown_user |= {"USER": "somebody", "HOME": "/data"}
    complete_environment()
    assert (getpass.getuser(), str(Path.home())) == ("somebody", "/data")
