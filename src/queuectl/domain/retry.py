"""The retry rule: the number of retries after failed attempts, and their delays.

`delay = factor × base ^ failures`, so 2 s, 4 s, 8 s with the defaults. `max_retries` counts the retries after the first
attempt.
"""

from datetime import timedelta

from msgspec import Struct

FOREVER = -1


class RetryPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The retry rule of one job, fixed when it is enqueued.

    max_retries     retries after the first attempt; -1 means without limit
    max_losses      lost attempts after which the job is still queued again
    base, factor    delay before retry n is `factor × base ^ n`
    longest         the longest delay
    jitter          0 … 1: the share by which the delay varies, up and down
    no_retry_codes  exit codes after which the job is `dead` without a retry
    """

    max_retries: int = 3
    max_losses: int = 3
    base: float = 2.0
    factor: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(hours=1)
    jitter: float = 0.0
    no_retry_codes: tuple[int, ...] = ()

    def allows(self, failures: int, exit_code: int | None) -> bool:
        """Whether another attempt may follow after `failures` failed attempts. The last one ended with `exit_code`."""
        if exit_code is not None and exit_code in self.no_retry_codes:
            return False
        return self.max_retries == FOREVER or failures <= self.max_retries

    def delay(self, failures: int, random_number: float) -> timedelta:
        """The delay of the next attempt. `random_number` in [0, 1) decides the jitter; 0.5 means no jitter."""
        spread = 1.0 + self.jitter * (2.0 * random_number - 1.0)
        return min(self._plain_delay(failures) * spread, self.longest)

    def _plain_delay(self, failures: int) -> timedelta:
        try:
            seconds = self.factor.total_seconds() * self.base**failures
        except OverflowError:  # for example 2.0 ** 1100
            return self.longest
        return self.longest if seconds >= self.longest.total_seconds() else timedelta(seconds=seconds)
