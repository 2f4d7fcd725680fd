"""The stages of a long command: what runs now, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape


@dataclass
class Stages:
    """Shows one line per stage; on a terminal the running one is live. `seconds` keeps the time of each."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[str], None]]:
        """Run a stage; the yielded function shows what it is busy with."""
        self.current = name
        started = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(escape(name)) as status:
                yield lambda detail: status.update(f"{escape(name)}: [dim]{escape(detail)}[/]")
        else:
            self.console.print(f"{name} ...")
            yield lambda _: None
        self.seconds[name] = time.monotonic() - started
        self.console.print(f"[green]done[/] {escape(name)} [dim]({self.seconds[name]:.1f} s)[/]")
