"""moto's S3 and IAM as a WSGI application: its own server drops TLS connections in a way that clients refuse."""

from __future__ import annotations

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

application = DomainDispatcherApplication(create_backend_app)
