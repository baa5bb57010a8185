"""The OpenAPI description as committed: the same text from the same code, whatever the environment."""

import json

import msgspec
from sqlalchemy.ext.asyncio import async_sessionmaker

from bkapp.app import create_app
from bkapp.config import load_settings
from bkapp.site import closed


def description() -> str:
    """The description as JSON, two spaces of indentation, keys as Litestar orders them."""
    settings = load_settings({"DATABASE_URL": "postgresql://nowhere/none", "BKAPP_DEMO": "1"})
    unbound = async_sessionmaker()
    app = create_app(settings, unbound, unbound)
    schema = closed(json.loads(msgspec.json.encode(app.openapi_schema.to_schema())))
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"
