"""Is every accepted finding still accepted by someone?"""

import datetime

from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.checks.waivers import Waivers


@control(
    "ENV-01",
    "No waiver has expired",
    severity="medium",
    sources=("dbkeep design: waivers have an owner, a reason and an end",),
    fix="fix the finding and remove the waiver from waivers.yml, or have its owner renew the date",
)
def test_no_waiver_expired(waivers: Waivers, observe: Observe) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    expired = [f"{w.control} ({w.owner}, {w.expires})" for w in waivers.waivers if w.is_expired(today)]
    observe(waivers=len(waivers.waivers), expired=expired)
    assert not expired, f"expired: {', '.join(expired)}"
