"""Requests generated from the API's own description: none may fail on our side, every answer must be described."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "allow_header_conformance",
    "unsupported_method",
)


@pytest.mark.long
def test_generated_requests_are_answered_as_described(
    service: Any, servers: Any, new_user: Callable[..., Any], tmp_path: Path
) -> None:
    headers = ("--header", f"Authorization: {new_user().api.headers['authorization']}")
    trust = ("--tls-verify", str(servers.authority.file))
    program = str(Path(sys.executable).with_name("schemathesis"))
    # Logging out would end the session that the other requests need.
    options = ("--exclude-path", "/auth/logout", "--max-examples", "30", "--checks", ",".join(CHECKS))
    done = subprocess.run(
        [program, "run", f"{service.url}/openapi.json", *headers, *trust, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
