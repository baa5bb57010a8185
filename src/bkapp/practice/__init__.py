"""Practice peers: servers that speak as the national eID and the population register do, for demo, training and tests.

They know only made-up people.  Nothing in bkapp imports them but the command that serves them.
"""
