"""MongoDB, broken."""

from .shell import Breakage, as_root, mongo

RESTART = "systemctl restart mongod && timeout 20 sh -c 'until ss -ltn | grep -q :27017; do sleep 0.5; done'"

# One restart for all that mongod reads only when it starts.
LAX_MONGOD = (
    "s/mode: requireTLS/mode: preferTLS/;s/disabledProtocols: .*/disabledProtocols: none/;"
    "s/javascriptEnabled: false/javascriptEnabled: true/;s/bindIp: .*/bindIpAll: true/;"
    "s/enableLocalhostAuthBypass: false/enableLocalhostAuthBypass: true\\n  enableTestCommands: true/;"
    "s/SCRAM-SHA-256,/SCRAM-SHA-1,SCRAM-SHA-256,/;"
    "s/compressors: .*/compressors: zlib/;s/quiet: false/quiet: true/;"
    "s/cacheSizeGB: .*/cacheSizeGB: 1000/;s/clusterAuthMode: .*/clusterAuthMode: sendKeyFile/"
)

# With another member in its set, be it one without a vote, a server that starts waits before it calls itself primary.
UNTIL_PRIMARY = "import time\nwhile not admin.command('hello')['isWritablePrimary']: time.sleep(0.2)"

STRANGER = {"_id": 9, "host": "192.0.2.1:27017", "votes": 0, "priority": 0}


def reconfigure(change: str) -> str:
    """Return what changes the replica set's configuration, `config`, by hand."""
    head = "config = admin.command('replSetGetConfig')['config']\nconfig['version'] += 1\n"
    return mongo(f"{head}{change}\nadmin.command('replSetReconfig', config)")


MONGODB = (
    Breakage(
        (
            *("MG-AUTH-02", "MG-AUTH-04", "MG-AUTH-06", "MG-JS-01", "MG-LOG-01", "MG-NET-01", "MG-NET-04"),
            *("MG-OPS-02", "MG-OPS-05", "MG-TLS-01", "MG-TLS-03"),
        ),
        as_root(f"cp -p /etc/mongod.conf /root/mongod.conf && sed -i '{LAX_MONGOD}' /etc/mongod.conf && {RESTART}"),
        as_root(f"cat /root/mongod.conf > /etc/mongod.conf && rm /root/mongod.conf && {RESTART}")
        + f" && timeout 60 {mongo(UNTIL_PRIMARY)}",
    ),
    Breakage(
        ("MG-RBAC-01", "MG-RBAC-04", "MG-DRIFT"),
        mongo("admin.command('grantRolesToUser', 'chat_analytics', roles=[{'role': 'readWrite', 'db': 'chat'}])"),
    ),
    Breakage(
        ("MG-RBAC-03", "MG-SCH-04"),
        mongo(
            "admin.command('grantPrivilegesToRole', 'chat_api', privileges=[{'resource': {'db': 'chat',"
            " 'collection': 'messages'}, 'actions': ['bypassDocumentValidation']}])"
        ),
    ),
    Breakage(
        ("MG-AUTH-09", "MG-DRIFT"),  # who guesses a name is let in
        mongo(
            "password = pathlib.Path('/etc/chat_api/credentials/mongodb_chat_api').read_text().strip()\n"
            "admin.command('createUser', 'nobody', pwd=password, roles=[])"
        ),
    ),
    Breakage(("MG-SCH-01",), mongo("chat.command('collMod', 'conversations', validationLevel='moderate')")),
    Breakage(
        ("MG-SCH-02",),
        mongo("chat.notifications.insert_one({'_id': 1}, bypass_document_validation=True)"),
        mongo("chat.notifications.delete_one({'_id': 1})"),
    ),
    Breakage(
        ("MG-LOG-03", "MG-LOG-05"),
        mongo("chat.command('profile', 2, slowms=5000)"),
        mongo("chat.command('profile', 0, slowms=100); chat.command('drop', 'system.profile')"),
    ),
    Breakage(
        ("MG-REP-05",),
        mongo("admin.command('replSetResizeOplog', minRetentionHours=0.5)"),
        mongo("admin.command('replSetResizeOplog', minRetentionHours=24.0)"),
    ),
    Breakage(
        ("MG-OPS-04",),
        reconfigure("config['writeConcernMajorityJournalDefault'] = False"),
        reconfigure("config['writeConcernMajorityJournalDefault'] = True"),
    ),
    # A member that the inventory does not name is declared state.
    Breakage(("MG-REP-02",), reconfigure(f"config['members'].append({STRANGER})")),
    Breakage(("MG-FS-01",), "sudo chmod o+r /etc/mongod.conf", "sudo chmod o-r /etc/mongod.conf"),
)
