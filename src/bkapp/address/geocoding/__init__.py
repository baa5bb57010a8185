"""Finding what people mean by an address as they write it, without HTTP and without a database.

The way of a text: :mod:`.normalise` makes tokens of it, :mod:`.mentions` finds the names, numbers and codes in
them, :mod:`.ranking` asks of every place that was named how much of the text it explains.  :mod:`.gazetteer` holds
the names; whoever has them in a database builds one from its rows.

Nothing here knows which house numbers exist: a :class:`.results.Match` of level hamlet or street with a
``house_number`` is a question to the register, put by :mod:`bkapp.address.operations.finding`.
"""
