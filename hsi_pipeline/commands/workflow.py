"""A workflow file, of one scene or of an archive, to its results.

Each kind is imported when it runs: what trains takes seconds to import, and archives do not.
"""

from __future__ import annotations

import os

from hsi_pipeline import config
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError


def run_workflow(
    workflow: str | os.PathLike[str],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    restart: bool = False,
    force: bool = False,
    retry_failed: bool = False,
    dry_run: bool = False,
    terminal: Terminal | None = None,
) -> bool:
    """Run a workflow file, of one scene or of an archive.

    Args:
        workflow: YAML file.
        scheduler: Address of a running Dask scheduler.
        workers: Of an archive: as for `archive.run_archive`.
        overwrite: Of one scene: as for `run`.
        restart: Of one scene: likewise.
        force: Of an archive: as for `archive.run_archive`.
        retry_failed: Of an archive: likewise.
        dry_run: Of an archive: likewise.
        terminal: Where to report.

    Returns:
        Whether all is done; an archive may have scenes that failed.

    Raises:
        InputError: Anything about the input or output that cannot work, or an option that is for
            the other kind of workflow.
    """
    settings = config.load(workflow)
    archive = isinstance(settings, config.Archive)
    wrong = {
        "--overwrite": archive and overwrite,
        "--restart": archive and restart,
        "--workers": not archive and workers is not None,
        "--force": not archive and force,
        "--retry-failed": not archive and retry_failed,
        "--dry-run": not archive and dry_run,
    }
    for option in (name for name, given in wrong.items() if given):
        instead = "an archive goes on by itself, and --force makes all anew"
        raise InputError(
            f"{option} is for a workflow of {'one scene; ' + instead if archive else 'an archive'}"
        )
    if not isinstance(settings, config.Archive):
        from hsi_pipeline.commands.run import run

        run(workflow, scheduler=scheduler, overwrite=overwrite, restart=restart, terminal=terminal)
        return True
    from hsi_pipeline.commands.archive import run_archive

    report = run_archive(
        settings, scheduler=scheduler, workers=workers, force=force, retry_failed=retry_failed,
        dry_run=dry_run, terminal=terminal,
    )  # fmt: skip
    return report.is_complete or dry_run
