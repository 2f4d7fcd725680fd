"""Signs the parts that this host took before its environment had a signing key.

A part without a signature could be anybody's, so every reader refuses it, wherever it lies. What lies in this host's
own repository, which no store's key can write, can be signed there, because somebody who may log in says so.
"""

from __future__ import annotations

from dbkeep.backup import signature
from dbkeep.backup.job import Progress
from dbkeep.backup.lock import hold
from dbkeep.backup.manifest import FILE_NAME, SIGNATURE_NAME, parse_unsigned, part_folder, read_written
from dbkeep.backup.run import LOCK
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.copies import Name, local_parts
from dbkeep.backup.verify import verify_part
from dbkeep.errors import DbkeepError
from dbkeep.files import write_atomically


def unsigned_parts(host: BackupHost) -> list[Name]:
    """Return the parts on this host that have no signature at all, as set id and engine; not those with a wrong one."""
    return [name for name in local_parts(host) if not (host.sets.joinpath(*name) / SIGNATURE_NAME).exists()]


def sign_sets(host: BackupHost, progress: Progress = lambda _: None) -> list[str]:
    """Sign every part on this host that has no signature and is as it was written; return them as ID/ENGINE.

    The next copy brings the stores the signatures. Raises DbkeepError naming what is damaged when the others are done.
    """
    signature.check_key(host.settings.signing_key_file, host.settings.signing_keys)
    done, failed = [], []
    for set_id, engine in unsigned_parts(host):
        try:
            with hold(host.sets / set_id / LOCK, "signing", shared=True):
                _sign(host, set_id, engine)
        except DbkeepError as error:
            failed.append(f"{set_id}/{engine}: {error}")
            continue
        done.append(f"{set_id}/{engine}")
        progress(f"{engine}: set {set_id} is signed")
    if failed:
        raise DbkeepError(f"not signed: {'; '.join(failed)}")
    return done


def _sign(host: BackupHost, set_id: str, engine: str) -> None:
    written, folder = read_written(host.sets, set_id, engine), host.sets / set_id / engine
    problems = verify_part(host, parse_unsigned(written, part_folder(set_id, engine), str(folder / FILE_NAME)))
    if problems:
        raise DbkeepError(problems[0])
    signed = signature.sign(written.digests, host.settings.signing_key_file)
    write_atomically(folder / SIGNATURE_NAME, signed, mode=0o600)
