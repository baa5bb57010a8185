"""Who may do what: API keys, roles scoped to a unit, guards, and the record of every read of somebody's data.

An officer's key names an administrative unit; it reaches that unit, the units
below it and whatever succeeded them, so a key outlives a merger of communes.
"""
