"""A solver's states, noted down while it runs: tests start it again from each of them."""


def noting(solver, states):
    """The same solver, whose states are appended to ``states`` as it yields them."""
    answer = None
    while True:
        try:
            request = solver.send(answer)
        except StopIteration as stop:
            return stop.value
        if hasattr(request, "record"):
            states.append(request)
        answer = yield request
