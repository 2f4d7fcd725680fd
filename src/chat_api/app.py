"""The application: its services, its routes, its answers to errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI
from fastapi.routing import APIRoute

from chat_api import problems
from chat_api.auth import routes as auth
from chat_api.auth.service import Authentication
from chat_api.auth.sessions import Sessions
from chat_api.auth.tokens import AccessTokens
from chat_api.configuration import Configuration, Credentials
from chat_api.conversations import routes as conversations
from chat_api.conversations.repository import Conversations
from chat_api.dependencies import Services
from chat_api.encryption import BlindIndex, FieldCipher
from chat_api.health import routes as health
from chat_api.limits import Limits
from chat_api.messages import routes as messages
from chat_api.messages.repository import Messages
from chat_api.notifications import routes as notifications
from chat_api.notifications.preferences import NotificationPreferences
from chat_api.notifications.repository import Notifications
from chat_api.presence import routes as presence
from chat_api.presence.store import Presence
from chat_api.relationships import routes as relationships
from chat_api.relationships.store import Relationships
from chat_api.requests import RequestBounds
from chat_api.settings import routes as settings
from chat_api.settings.store import Settings
from chat_api.stores import Stores
from chat_api.stores.cache import Cache
from chat_api.stores.keyspaces import PROFILES
from chat_api.stores.wakeups import WakeUps
from chat_api.users import routes as users
from chat_api.users.store import Profiles

DOMAINS = (auth, users, relationships, settings, conversations, messages, notifications, presence, health)


def create_app(configuration: Configuration, credentials: Credentials) -> FastAPI:
    """Return the application; its stores are opened and closed with its lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stores = Stores(configuration, credentials)
        app.state.services = _services(stores, credentials)
        await stores.open()
        try:
            yield
        finally:
            await stores.close()

    app = FastAPI(
        title="Chat API",
        version=metadata.version("dbkeep"),
        lifespan=lifespan,
        # The pages would load scripts from elsewhere; /openapi.json stays.
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.add_middleware(RequestBounds)
    problems.register(app, [route for domain in DOMAINS for route in domain.router.routes])
    for domain in DOMAINS:
        app.include_router(domain.router)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _services(stores: Stores, credentials: Credentials) -> Services:
    conversation_repository = Conversations(stores.mongodb)
    wake_ups = WakeUps(stores.redis)
    return Services(
        stores=stores,
        authentication=Authentication(
            stores.postgresql,
            Sessions(stores.redis, wake_ups),
            AccessTokens(credentials.token_key.get_secret_value()),
            FieldCipher(credentials.field_keys),
            BlindIndex(credentials.blind_index_keys, "users", "email"),
        ),
        limits=Limits(stores.redis),
        profiles=Profiles(stores.postgresql, Cache(stores.redis, PROFILES)),
        relationships=Relationships(stores.postgresql),
        settings=Settings(stores.postgresql),
        conversations=conversation_repository,
        messages=Messages(stores.mongodb, conversation_repository),
        notifications=Notifications(stores.mongodb),
        notification_preferences=NotificationPreferences(stores.mongodb),
        presence=Presence(stores.redis),
        wake_ups=wake_ups,
    )
