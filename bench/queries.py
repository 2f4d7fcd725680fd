"""The queries that the API sends to PostgreSQL for a user, each as the API sends it and with an explicit WHERE instead.

The explicit WHERE says what the policies say and knows nothing of contexts. Both forms take the same named values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chat_api.relationships import store as relationships
from chat_api.settings import store as settings
from chat_api.users import store as users

ACTIVE = "EXISTS (SELECT FROM chat.users AS me WHERE me.id = %(me)s AND me.is_active)"
UNBLOCKED = """users.is_active AND NOT EXISTS (
    SELECT FROM chat.relationships AS r WHERE r.user_id = users.id AND r.related_user_id = %(me)s AND r.type = 'blocked'
)"""
TIES = "((user_id = %(me)s AND related_user_id = %(other)s) OR (user_id = %(other)s AND related_user_id = %(me)s))"


@dataclass(frozen=True, slots=True)
class Query:
    """`explicit` is None where the rules are more than a condition: a function that decides and writes."""

    name: str
    secured: str
    explicit: str | None = None


def _named(statement: str, *names: str) -> str:
    """The statement with its placeholders named, in their order."""
    for name in names:
        statement = re.sub("%([sb])", rf"%({name})\1", statement, count=1)
    return statement


OWN_PROFILE = _named(users.OWN, "me")
OTHER_PROFILE = "SELECT display_name, bio, avatar_url FROM chat.profiles"
RELATIONSHIPS = _named(relationships.OWN, "most")
SETTINGS = _named(settings.OWN, "me")
PUT = settings.PUT.replace("%(user)s", "%(me)s")
REMOVE = _named(settings.REMOVE, "me", "key")
CHANGE_PROFILE = _named(users.change_of(["bio"]).as_string(None), "bio", "me")

QUERIES = (
    Query("own profile", OWN_PROFILE, f"{OWN_PROFILE} AND {ACTIVE}"),
    Query(
        "find user",
        _named(users.FIND, "name"),
        f"SELECT id FROM chat.users WHERE username = %(name)s AND {UNBLOCKED} AND {ACTIVE}",
    ),
    Query(
        "visible among ten",
        _named(users.VISIBLE, "others"),
        f"SELECT count(*) FROM chat.users WHERE id = ANY(%(others)s::uuid[]) AND {UNBLOCKED} AND {ACTIVE}",
    ),
    Query(
        "another's profile",
        f"{OTHER_PROFILE} WHERE user_id = %(other)s",
        f"{OTHER_PROFILE} JOIN chat.users ON users.id = user_id WHERE user_id = %(other)s AND {UNBLOCKED} AND {ACTIVE}",
    ),
    Query(
        "relationships",
        RELATIONSHIPS,
        RELATIONSHIPS.replace(
            "ORDER BY",
            f"WHERE (user_id = %(me)s OR (related_user_id = %(me)s AND type = 'friend')) AND {ACTIVE} ORDER BY",
        ),
    ),
    Query("settings", SETTINGS, SETTINGS.replace("ORDER BY", f"AND {ACTIVE} ORDER BY")),
    Query("put setting", PUT, PUT.replace("WHERE (", f"WHERE {ACTIVE} AND (")),
    Query("remove setting", REMOVE, f"{REMOVE} AND {ACTIVE}"),
    Query("change profile", CHANGE_PROFILE, CHANGE_PROFILE.replace("RETURNING", f"AND {ACTIVE} RETURNING")),
    Query("request friendship", "SELECT chat.request_friendship(%(id)s, %(other)s)"),
    Query("answer a request", "SELECT chat.answer_friendship(%(requester)s, true)"),
    Query("block", "SELECT chat.block_user(%(id)s, %(other)s)"),
    Query("end", "SELECT chat.end_relationship(%(friend)s)"),
    Query("deactivate", "SELECT chat.deactivate_oneself()"),
)
