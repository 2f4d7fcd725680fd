"""What routes ask for: who sends the request, and the part of the application that answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from chat_api.auth.service import Authentication
from chat_api.auth.tokens import Identity
from chat_api.conversations.repository import Conversations
from chat_api.limits import Limits
from chat_api.messages.repository import Messages
from chat_api.notifications.preferences import NotificationPreferences
from chat_api.notifications.repository import Notifications
from chat_api.presence.store import Presence
from chat_api.problems import unauthorized
from chat_api.relationships.store import Relationships
from chat_api.settings.store import Settings
from chat_api.stores import Stores
from chat_api.stores.wakeups import WakeUps
from chat_api.users.store import Profiles


@dataclass(frozen=True, slots=True)
class Services:
    """One of each, made with the application."""

    stores: Stores
    authentication: Authentication
    limits: Limits
    profiles: Profiles
    relationships: Relationships
    settings: Settings
    conversations: Conversations
    messages: Messages
    notifications: Notifications
    notification_preferences: NotificationPreferences
    presence: Presence
    wake_ups: WakeUps


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Provided = Annotated[Services, Depends(_services)]
_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT")


async def _identity(
    services: Provided, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Identity:
    if credentials is None:
        raise unauthorized()
    return await services.authentication.identify(credentials.credentials)


CurrentUser = Annotated[Identity, Depends(_identity)]
"""The acting user, proved by an access token of a live session; a 401 Problem otherwise."""
