"""Tests of environments without a user name or home folder."""

import getpass
import os
import pwd
from pathlib import Path

import pytest

from its.environment import complete_environment


@pytest.fixture
def unknown_user(monkeypatch):
    """Environment of a user id without an entry in the password database."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    environment = {}
    monkeypatch.setattr(os, "environ", environment)
    return environment


def test_a_user_without_entry_and_home_gets_a_name_and_a_home(unknown_user):
    with pytest.raises((KeyError, OSError)):  # the error that torch's import raises
        getpass.getuser()
    complete_environment()
    assert getpass.getuser() == str(os.getuid())
    assert Path.home() == Path("/")
    assert Path("~/x").expanduser() == Path("/x")


def test_names_that_the_environment_has_are_kept(unknown_user):
    unknown_user |= {"USER": "somebody", "HOME": "/data"}
    complete_environment()
    assert (getpass.getuser(), str(Path.home())) == ("somebody", "/data")
