"""A service on the application's host that writes without a pause and keeps what the server acknowledged."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
import time

from dbkeep.environment import Environment
from dbkeep.mongodb import inventory
from dbkeep.remote import ssh_command

PYTHON = "/opt/dbkeep/venv/bin/python"
MARK = "growing"

# It knows one host only and finds the others through it. Each line it prints is an _id that a majority has; it ends
# when its standard input does.
PROGRAM = f"""
import datetime, json, select, sys, uuid
from bson import ObjectId
from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError

asked = json.loads(sys.stdin.readline())
client = MongoClient(asked['member'], replicaSet='chat', username='chat_api', password=asked['password'],
    authSource='admin', tls=True, tlsCAFile='/etc/dbkeep/tls/ca.crt', retryWrites=True, serverSelectionTimeoutMS=60000)
messages = client.chat.get_collection('messages', write_concern=WriteConcern('majority', wtimeout=60000))
conversation, sender = ObjectId(), str(uuid.uuid4())
while not select.select([sys.stdin], [], [], 0.02)[0]:
    now = datetime.datetime.now(datetime.timezone.utc)
    message = {{'_id': ObjectId(), 'conversation_id': conversation, 'sender_id': sender, 'content': '{MARK}',
        'attachments': [], 'created_at': now, 'updated_at': now, 'delivered_to': [], 'read_by': []}}
    try:
        messages.insert_one(message)
        print(message['_id'], flush=True)
    except PyMongoError as error:
        print('refused:', error, flush=True)
"""


class Service:
    """Writes while its block runs; the first member of the inventory as it is at the start is all it is told."""

    def __init__(self, environment: Environment) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self._request = {
            "member": inventory.members(environment)[0],
            "password": environment.secrets["mongodb"]["chat_api"],
        }
        host = environment.hosts("chat_api")[0]
        self._command = [*ssh_command(host), f"sudo -n {PYTHON} -c {shlex.quote(PROGRAM)}"]

    def __enter__(self) -> Service:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        assert self._process.stdin
        self._process.stdin.write(json.dumps(self._request) + "\n")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_for(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(120)
        self._reader.join()
        assert self._process.stdout
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            (self.refused if line.startswith("refused") else self.acknowledged).append(line.strip())

    def wait_for(self, number: int) -> None:
        """Return when that many more writes are acknowledged."""
        wanted, deadline = len(self.acknowledged) + number, time.monotonic() + 120
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, (self._process.poll(), self.refused)
            time.sleep(0.1)
