"""An ACL user compares equal exactly when its rights are equal, however the server spells them."""

from __future__ import annotations

import pytest

from dbkeep.redis.acl import ACLUser, categories_in, parse, parse_file, selector

CATEGORIES = {"transaction": ["multi", "exec", "discard", "watch", "unwatch"], "slow": ["client", "client|list", "del"]}
DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("rules", "commands"),
    [
        ("-@all +get +set", {"get", "set"}),
        ("-@all +set +get", {"get", "set"}),
        ("-@all +@transaction", {"multi", "exec", "discard", "watch", "unwatch"}),
        ("-@all +@transaction -unwatch -watch", {"multi", "exec", "discard"}),
        ("-@all +get -@transaction", {"get"}),
        ("-@all +@slow -client", {"del"}),
        ("-@all +config|get +config|set -config|set", {"config|get"}),
        ("-@all +slowlog -slowlog|reset", {"slowlog", "-slowlog|reset"}),
        ("-@all +slowlog -slowlog|reset +slowlog|reset", {"slowlog", "slowlog|reset"}),
        ("+@all", {"@all"}),
        ("+@all -get", {"@all", "-get"}),
        ("+@all -@transaction", {"@all", "-multi", "-exec", "-discard", "-watch", "-unwatch"}),
        ("+@all -get -@all +set", {"set"}),
        ("-@all", set()),
    ],
)
def test_commands_are_what_the_rules_leave_allowed(rules: str, commands: set[str]) -> None:
    assert parse(f"user x on {rules}", CATEGORIES).commands == commands


def test_every_kind_of_rule_is_read() -> None:
    rules = "%R~a:* ~b:* resetchannels &c:* -@all +get (~d:* resetchannels -@all +set)"
    line = f"user x on sanitize-payload #{DIGEST} {rules}"
    assert parse(line, {}) == ACLUser(
        "x",
        enabled=True,
        passwords=frozenset({DIGEST}),
        keys=frozenset({"%R~a:*", "~b:*"}),
        channels=frozenset({"&c:*"}),
        commands=frozenset({"get"}),
        selectors=frozenset({"(~d:* resetchannels -@all +set)"}),
    )


@pytest.mark.parametrize(
    "spelled",
    [
        "(~d:* %R~e:* resetchannels &c:* -@all +multi +exec +discard)",
        "(%R~e:* ~d:* &c:* +discard +exec +multi)",
        "(~d:* %R~e:* resetchannels &c:* -@all +@transaction -watch -unwatch)",
    ],
)
def test_a_selector_has_one_spelling(spelled: str) -> None:
    (found,) = parse(f"user x on {spelled}", CATEGORIES).selectors
    assert found == selector({"~d:*", "%R~e:*"}, {"&c:*"}, {"multi", "exec", "discard"})


@pytest.mark.parametrize(
    "rule", ["nopass", "off", "skip-sanitize-payload", "~*", "&*", "+@all", "#" + "b" * 64, "(+get)"]
)
def test_any_other_rule_makes_a_difference(rule: str) -> None:
    line = f"user x on #{DIGEST} ~b:* resetchannels &c:* -@all +get"
    assert parse(f"{line} {rule}", {}) != parse(line, {})


def test_categories_are_found_in_selectors_too() -> None:
    assert categories_in(["user x on +@read -@write +@all (~a +@transaction)"]) == {"read", "write", "transaction"}


def test_a_file_may_hold_blank_lines_and_comments() -> None:
    assert set(parse_file("# users\n\nuser default off\nuser x on nopass\n", {})) == {"default", "x"}


def test_a_digest_is_never_shown() -> None:
    assert DIGEST not in repr(parse(f"user x on #{DIGEST} +get", {}).shown())
