"""MongoDB: the client of the user chat_api. Only the repository modules of the domains use its collections."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict, validate_call
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from chat_api.configuration import Configuration, Credentials

logger = logging.getLogger(__name__)

AUTHENTICATION_FAILED = 18
Document = dict[str, Any]
Collection = AsyncCollection[Document]

scalars_only = validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))
"""Every method of a repository takes what its annotations say, so that no object ({"$ne": null}) becomes an operator.

It raises pydantic.ValidationError for anything else: a mistake of the caller, which no request can make happen.
"""


def now() -> datetime:
    """Return the time as MongoDB keeps it: UTC in whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class MongoDB:
    def __init__(self, configuration: Configuration, credentials: Credentials) -> None:
        self._client: AsyncMongoClient[Document] = AsyncMongoClient(
            host=[
                f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"
                for server in configuration.mongodb_hosts
            ],
            replicaSet=configuration.mongodb_replica_set,
            username="chat_api",
            password=credentials.mongodb_chat_api.get_secret_value(),
            authSource="admin",
            authMechanism="SCRAM-SHA-256",
            appname="chat_api",
            tls=True,
            tlsCAFile=str(configuration.ca_file),
            w="majority",
            readConcernLevel="majority",
            tz_aware=True,
            maxPoolSize=20,
            waitQueueTimeoutMS=2000,
            serverSelectionTimeoutMS=2000,
            connectTimeoutMS=3000,
            timeoutMS=5000,
            connect=False,
        )
        self._database: AsyncDatabase[Document] = self._client[configuration.mongodb_database]

    def collection(self, name: str) -> Collection:
        return self._database[name]

    async def close(self) -> None:
        await self._client.close()

    async def ready(self) -> None:
        """Return if a primary answers chat_api; raises pymongo.errors.PyMongoError otherwise."""
        try:
            await self._database.command("ping")
        except OperationFailure as error:
            if is_refusal(error):
                refusal = "mongodb refuses the password of chat_api: playbooks/site.yml sets it and gives it to the API"
                logger.warning(refusal)
            raise


def is_refusal(error: OperationFailure) -> bool:
    """Return whether MongoDB refuses the password of chat_api."""
    return error.code == AUTHENTICATION_FAILED
