"""Administrative units through time: provinces, districts and communes, and what became of them.

A unit is known by its code *on a day*: the statistics office gives old codes to
new units (01954 was Thị trấn Vân Tùng until 2025-06-30 and is Xã Ngân Sơn since),
so a code alone names nothing.  A *succession* says which unit took over another
one's territory, and by which act.  A *boundary* is ``official`` when somebody
imported it from a file, and ``approximate`` when we drew it from points; every
answer that used one says which.

Other features may import :mod:`bkapp.units.queries`, :mod:`bkapp.units.operations`,
:mod:`bkapp.units.boundaries` and :mod:`bkapp.units.names`; everything else here is private.
"""
