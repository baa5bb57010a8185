"""Every table, so that a migration check or a mapper finds them all."""

import bkapp.access.models
import bkapp.address.models
import bkapp.audit.models
import bkapp.households.models
import bkapp.http
import bkapp.identity.models
import bkapp.payments.models
import bkapp.privacy.models
import bkapp.units.models  # noqa: F401
