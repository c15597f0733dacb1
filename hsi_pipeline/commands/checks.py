"""Checks of an installation: what is as it should be, and how to mend what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # a check must run where what the terminal needs is missing
    from hsi_pipeline.commands.terminal import Terminal

_WIDTH = 7  # of the states
_LONGEST = 300  # characters of an error that a check ended with


@dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    state: Literal["ok", "note", "wrong"]
    """As it should be; good to know; or in the way of the work."""
    text: str
    mend: str = ""
    """What to do about it."""


Check = Callable[[], Iterable[Finding]]


def run_checks(
    checks: Sequence[tuple[str, Check]], terminal: Terminal | None, command: str
) -> bool:
    """Run checks one after another, and show what each finds at once.

    Args:
        checks: Each with a name of what it looks at. One that fails itself is a finding, and the
            others go on.
        terminal: Where to show it; None prints, for where no terminal can be had.
        command: That asks, for programs.

    Returns:
        Whether nothing is wrong.
    """
    show: Callable[[str], Any] = print if terminal is None else terminal.show
    found: list[Finding] = []
    for name, check in checks:
        for finding in _findings(name, check):
            found.append(finding)
            show(f"{finding.state:{_WIDTH}}{finding.text}")
            if finding.mend:
                show(f"{'':{_WIDTH}}-> {finding.mend}")
    wrong = sum(finding.state == "wrong" for finding in found)
    show(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong" if wrong else "all is well")
    if terminal is not None:
        terminal.made(command, wrong=wrong, checks=[asdict(finding) for finding in found])
    return not wrong


def _findings(name: str, check: Check) -> Iterable[Finding]:
    """Return what a check finds; an error that ends it is found as well."""
    findings = iter(check())
    while True:
        try:
            yield next(findings)
        except StopIteration:
            return
        except Exception as error:  # a broken library raises anything
            said = " ".join(str(error).split())[:_LONGEST]
            yield Finding("wrong", f"{name}: {type(error).__name__}: {said}")
            return
