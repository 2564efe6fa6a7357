"""The home folder: made where it can be, and refused with one sentence elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.errors import ConfigError
from connectors.home import Home
from connectors.landing.prepare import prepare
from connectors.sources.http_api.collector_lock import only_one
from connectors.sources.write_keys import KeyStore


@pytest.mark.parametrize("make", [prepare, KeyStore, only_one])
@pytest.mark.parametrize("place", ["file", "file/home", "link"])
def test_a_home_that_cannot_be_made_is_refused_with_what_to_do(
    tmp_path: Path, make: Callable[[Home], object], place: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError) as refused:
        make(Home(tmp_path / place))
    assert str(refused.value) == (
        f"The home folder {tmp_path / place} cannot be used: it is not a folder. Set "
        "LOOMLINE_HOME to a folder that this user can create and write to."
    )


def test_a_home_that_does_not_exist_yet_is_checked_and_not_made(tmp_path: Path) -> None:
    Home(tmp_path / "new" / "home").check()
    assert not (tmp_path / "new").exists()


def test_a_home_that_this_user_may_not_make_is_refused_before_it_is_read() -> None:
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            Home(Path("/usr/loomline-home")).check()
        with pytest.raises(ConfigError, match="Permission denied"):
            Home(Path("/usr")).make()
    finally:
        os.seteuid(user)
