"""A library that a server has, with the interface of an engine: requests, answers, and who sends them.

Requests are made and answers are read by pure functions, the same for `Client` and `AsyncClient`, which add the I/O.
"""
