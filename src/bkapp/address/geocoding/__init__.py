"""Finding what people mean by an address as they write it, without HTTP and without a database.

The way of a text: :mod:`.normalise` makes tokens of it, :mod:`.mentions` finds names and numbers in them,
:mod:`.scoring` asks every place that is named how much of the text it explains, :mod:`.searching` goes on to spellings
and mistakes until enough is explained, :mod:`.answers` says what was found and how sure that is.  :mod:`.positions`
reads what is a place by itself: coordinates, Plus Codes, address codes.  :mod:`.gazetteer` holds the names; whoever
has them in a database builds one from its rows.

Nothing here knows which house numbers exist: a :class:`.results.Match` of level hamlet or street with a
``house_number`` is a question to the register, put by :mod:`bkapp.address.operations.finding`.
"""
