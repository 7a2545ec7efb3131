"""The rate of a stream once it runs steadily."""

import time


class Steady:
    """Counts what is done, and when; `report` leaves out the first quarter, in which caches and queues fill."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._done = [(0.0, 0)]

    def add(self, count: int) -> None:
        """Count `count` more as done."""
        self._done.append((time.monotonic() - self._started, self._done[-1][1] + count))

    def report(self) -> dict:
        """Return the rate of the last three quarters of what was done, and that of all."""
        seconds, total = self._done[-1]
        first = next(number for number, (_, done) in enumerate(self._done) if done >= total / 4)
        at, before = self._done[first]
        whole = total / max(seconds, 1e-9)
        steady = (total - before) / (seconds - at) if total > before and seconds > at else whole
        return {"per_second": round(steady), "with_start_per_second": round(whole), "files": total}
