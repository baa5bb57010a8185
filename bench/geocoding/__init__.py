"""How well and how fast addresses are found, beside addok: a frozen set of made-up homes and of ways to write them.

The set is written from how addresses of Bắc Kạn are built and from what people
do to them, never from our parser: nothing in :mod:`~bench.geocoding.generator`,
:mod:`~bench.geocoding.names`, :mod:`~bench.geocoding.spelling`,
:mod:`~bench.geocoding.forms`, :mod:`~bench.geocoding.kinds` and :mod:`~bench.geocoding.queries` imports from
``bkapp.address``, and a test pins the hash of all they make.  Whoever improves
the geocoder does not touch them.
"""
