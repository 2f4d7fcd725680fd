"""Long-running child programs that never outlive this process, whatever ends it."""

from __future__ import annotations

from collections.abc import Sequence


def contained(command: Sequence[str]) -> list[str]:
    """Return `command` wrapped so that it and all it starts die with the thread that runs it, even by SIGKILL.

    Root only. setpriv(1) asks the kernel for a signal at the parent's death; unshare(1) puts the command into a PID
    namespace of its own, which the kernel empties when its first process ends. That process is a shell, because the
    first of a namespace has to wait for orphans, which no ordinary program does.
    """
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["setpriv", "--pdeathsig", "KILL", *namespace, "--", "sh", "-c", '"$@"; exit $?', "sh", *command]
