"""Commands run in this process against a loopback Hugging Face hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hub_trees
from loopback_hub import Hub

from its.cli import main
from its.weights import hub as hub_of_its

ROOT = Path(__file__).parents[2]
TOKEN = "hf_of_the_tests"
WEIGHTS = (".safetensors", ".bin", ".pt", ".ckpt")
SMALL = ("--model.fallback=null", "--model.steps=2", "--model.canvas=[256,64]", "--model.trim=0", "--data.seeds=[1]")


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The single line on stderr of a command that failed with status 2."""
        assert self.status == 2, self.err
        (line,) = self.err.splitlines()
        assert line.startswith("its: ")
        return line.removeprefix("its: ")


class World:
    """A hub, a cache and a run directory for a test.

    Attributes:
        hub: has all repositories of `hub_trees`, and records the requests of this test.
        trees: files of the repositories, in `OWNER/NAME/REF`.
        cache: local cache of the hub's files.
        run: output folder of `predict`.
    """

    def __init__(self, hub: Hub, trees: Path, cache: Path, tmp_path: Path, monkeypatch, capfd) -> None:
        self.hub, self.trees, self.run = hub, trees, tmp_path / "run"
        self._monkeypatch, self._capfd = monkeypatch, capfd
        self.use(cache)

    def use(self, cache: Path, *, hub: Hub | None = None) -> None:
        """Switch to another cache or another hub."""
        self.cache = cache
        (hub or self.hub).connect(self._monkeypatch, cache)
        self._monkeypatch.setattr(hub_of_its, "_unreachable", {})
        hub_of_its._listing.cache_clear()
        self.hub.forget()

    def disconnect(self) -> None:
        """Switch to a hub that refuses connections."""
        with Hub() as closed:
            pass
        self.use(self.cache, hub=closed)

    def log_in(self) -> None:
        """Set the token that opens gated repositories."""
        self.hub.token = TOKEN
        self._monkeypatch.setenv("HF_TOKEN", TOKEN)

    def its(self, *arguments: object) -> Outcome:
        """Run a command."""
        self._capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *self._capfd.readouterr())

    def predict(self, *arguments: object, config: str = "castle_bell.yaml", small: Sequence[str] = SMALL) -> Outcome:
        """Run `its predict` with small settings and configs, whose names are joined by `+`."""
        configs = [word for name in config.split("+") for word in ("--config", ROOT / "configs" / name)]
        return self.its("predict", *configs, *small, f"--output={self.run}", *arguments)

    def records(self) -> list[dict[str, Any]]:
        """Read the records of the run's samples."""
        return [json.loads(path.read_text()) for path in sorted(self.run.glob("samples/*/sample.json"))]

    def made(self, *arguments: object, **options: Any) -> dict[str, Any]:
        """Run `predict`, require success, and return the record of its only sample."""
        outcome = self.predict(*arguments, **options)
        assert outcome.status == 0, outcome.err
        (record,) = self.records()
        assert record["status"] == "ok", record["traceback"]
        return record

    def refused(self, *arguments: object, config: str = "castle_bell.yaml") -> str:
        """Return the message of a run that must fail before it downloads weights or creates its folder."""
        message = self.predict(*arguments, config=config).message
        assert self.weights_served() == []
        assert not self.run.exists()
        return message

    def weights_served(self) -> list[str]:
        """List the weights files that the hub served."""
        return sorted(f"{repository}/{name}" for repository, name in self.hub.served if name.endswith(WEIGHTS))

    def snapshot(self, repository: str, ref: str = "main") -> Path:
        """Return the folder of a repository's files in the cache."""
        commit = hub_trees.COMMITS[repository, ref]
        return self.cache / f"models--{repository.replace('/', '--')}" / "snapshots" / commit

    def serve(self, name: str, *, base: str = hub_trees.STABLE_DIFFUSION, **edited: dict[str, Any]) -> Path:
        """Serve a copy of a repository, with keys of `config.json` set in some subfolders; return its folder.

        Args:
            name: name of the new repository.
            base: repository to copy.
            edited: keys to set, by subfolder.
        """
        folder = copied(self.trees / base / "main", self.run.parent / "served" / name, **edited)
        self.hub.add(name, folder)
        return folder


def copied(source: Path, folder: Path, **edited: dict[str, Any]) -> Path:
    """Copy a model; set keys in the `config.json` of some subfolders."""
    shutil.copytree(source, folder)
    for part, settings in edited.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder
