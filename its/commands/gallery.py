"""The command `its gallery`."""

from __future__ import annotations

from pathlib import Path

from its.output import say


def gallery(runs: list[Path], *, output: Path | None = None) -> int:
    """Write a page that shows and plays the samples of runs.

    The page needs no network and no server: open it in a browser. its predict also writes it at the end of a run.

    Args:
        runs: run directories of its predict.
        output: folder for index.html (default: the run directory; for several runs: gallery).

    Raises:
        UserError: a folder is not a run directory, or the page can't be written; nothing was changed.
    """
    from its.report.gallery import write_gallery

    page, read = write_gallery(runs, output or (runs[0] if len(runs) == 1 else Path("gallery")))
    for run in read:
        for sample in run.samples:
            if sample.damage:
                say(f"{run.name}: {sample.folder.name}: {'; '.join(sample.damage)}")
    count = sum(len(run.samples) for run in read)
    say(f"{page} shows {count} samples of {len(runs)} run{'s' * (len(runs) > 1)}")
    return 0
