"""The backups, broken."""

import shlex

from .shell import Breakage, as_root

TIMER = "dbkeep-backup.timer"
SETS = "/var/lib/dbkeep/backup/sets"
SHIP = "dbkeep-ship.service"
LOG = "/var/lib/dbkeep/backup/log"
POINT = "dbkeep-point.timer"
POINTS = "/var/lib/dbkeep/backup/points"
DRILLS = "/var/lib/dbkeep/evidence"

# The check that follows a repair reads what the last round and the last point left.
ROUND = "/var/lib/dbkeep/backup/ship.json"
GOOD = f"[ {ROUND} -nt /root/repaired ] && grep -q 'faults.: {{}}' {ROUND}"

BACKUP = (
    Breakage(
        ("BK-01",),
        f"sudo find {SETS} -mindepth 2 -maxdepth 2 -name mongodb -exec mv {{}} {{}}.away \\;",
        f"sudo find {SETS} -mindepth 2 -maxdepth 2 -name mongodb.away"
        ' -exec sh -c \'mv "$1" "${1%.away}"\' sh {} \\;',
    ),
    Breakage(
        ("BK-02",),
        f"sudo find {SETS} -path '*/redis/*' -name '*.age' -exec cp -p {{}} {{}}.kept \\;"
        " -exec sh -c 'printf readable | dd of=\"$1\" conv=notrunc status=none' sh {} \\;",
        f"sudo find {SETS} -path '*/redis/*' -name '*.kept' -exec sh -c 'mv \"$1\" \"${{1%.kept}}\"' sh {{}} \\;",
    ),
    Breakage(("BK-03",), f"sudo systemctl -q disable --now {TIMER}", f"sudo systemctl -q enable --now {TIMER}"),
    Breakage(
        ("BK-04",),  # drills that ran just now, of sets of long ago
        f"sudo find {DRILLS} -name 'drill-*.json' "
        '-exec sed -i.kept \'s/"recovery_point": "20/"recovery_point": "19/\' {} +',
        f"sudo sh -c 'for kept in {DRILLS}/drill-*.json.kept; do mv $kept ${{kept%.kept}}; done'",
    ),
    Breakage(("BK-05",), f"sudo chmod o+rx {SETS}", f"sudo chmod o-rx {SETS}"),
    # What is cut meanwhile has another name: the log of the last minutes is away, and the service that would cut more.
    Breakage(
        ("BK-10",),
        f"sudo systemctl stop {SHIP} && sudo mv {LOG} {LOG}.away",
        as_root(
            f"rm -rf {LOG} && mv {LOG}.away {LOG} && touch /root/repaired && systemctl start {SHIP}"
            f" && timeout 90 sh -c {shlex.quote(f'until {GOOD}; do sleep 0.5; done')}"
        ),
    ),
    Breakage(
        ("BK-06",),
        "printf 'AGE-SECRET-KEY-1%058d\\n' 0 | tr 0 Q | sudo tee /root/probe-key >/dev/null",
        "sudo rm /root/probe-key",
    ),
    Breakage(
        ("BK-11",),
        f"sudo systemctl stop {POINT} && sudo mv {POINTS} {POINTS}.away",
        as_root(
            f"rm -rf {POINTS} && mv {POINTS}.away {POINTS} && systemctl start dbkeep-point.service {POINT}",
        ),
    ),
)
