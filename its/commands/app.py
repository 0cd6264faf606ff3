"""The command `its app`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from its.errors import UserError

DEFAULT = ("castle_bell",)


def app(
    *options: str,
    config: Sequence[str] = DEFAULT,
    output: Path = Path("runs"),
    host: str = "127.0.0.1",
    port: int = 7860,
    password: str | None = None,
    trust: Sequence[str] = (),
) -> int:
    """Make images that sound from a page in the browser.

    The page runs on this machine, makes samples as its predict does, and loads nothing from the network. Other options
    are keys of configs, such as --trainer.accelerator cpu or --model.experts.visual.weights FOLDER.

    Args:
        options: keys of configs with their values.
        config: configs of its predict, each over the one before.
        output: folder of run directories, whose samples the page shows.
        host: address to serve at; others than this machine's need a password.
        port: port to serve at; 0 for a free one.
        password: password of the page, with any user name (default: the environment variable ITS_APP_PASSWORD).
        trust: additional modules to import.

    Raises:
        UserError: an option or a config is invalid, or the extra app is not installed.
    """
    from its.app.address import bind, check_access

    password = os.environ.get("ITS_APP_PASSWORD") if password is None else password
    check_access(host, password)
    if missing := [name for name in ("gradio", "fastapi", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise UserError(f"{missing[0]} is not installed, but the page needs it: pip install 'gradio>=6.31,<7'")
    bound = bind(host, port)

    from its.app.library import Library
    from its.app.server import serve
    from its.app.studio import Studio
    from its.app.weights import Weights

    # The default needs no check, so the page is served before torch is imported.
    overrides = {} if (*config, *options) == DEFAULT else _check(config, options)
    output.mkdir(parents=True, exist_ok=True)
    studio = Studio(Weights(config, overrides=overrides, trust=trust), Library(output))
    serve(studio, bound, host=host, password=password)
    return 0


def _check(configs: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    """Read the configs, and return the options as values by dotted key.

    Raises:
        UserError: a config can't be read, or an option has no value.
    """
    from its.config.compose import read_layer, split_arguments
    from its.instantiate.yaml_values import read_value

    for name in configs:
        read_layer(name)
    _, _, keys = split_arguments(options)
    values = {}
    for key in keys:
        name, equals, value = key.removeprefix("--").partition("=")
        if not equals:
            raise UserError(f"--{name} needs a value")
        values[name] = read_value(value)
    return values
