"""Serve another application the way ``bkapp serve`` does: ``python -m bench.serve MODULE:FACTORY``."""

import sys

from bkapp.cli import serve_factory
from bkapp.config import load_settings

serve_factory(load_settings(), sys.argv[1])
