"""Every table, so that a migration check or a mapper finds them all."""

import bkapp.access.models
import bkapp.address.models
import bkapp.http
import bkapp.units.models  # noqa: F401
