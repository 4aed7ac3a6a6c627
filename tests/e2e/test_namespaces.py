"""Hosts with their own network stacks: a worker in a network namespace loses its network.

Nothing is reset and nothing refused: packets vanish, as they do when a switch dies. It takes Linux, `ip` and the rights
of an administrator; `test_hosts.py` does the same everywhere, with a proxy.
"""

import os
import random
import secrets
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from e2e.databases import Shared
from e2e.harness import Place, WorkerProcess
from facts import eventually

pytestmark = pytest.mark.parametrize("kind", ["postgres", "mongodb", "redis"])
TICKING = "for i in $(seq 300); do echo tick $HOST >> ticks; sleep 0.1; done"
BRIEF = "echo ran on $HOST >> ticks"


class Machine:
    """A network namespace with one cable to this machine, and an address at either end of it."""

    def __init__(self) -> None:
        self.name = f"q{secrets.token_hex(4)}"
        network = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"
        self.gateway, address = f"{network}.1", f"{network}.2"
        self._cable = f"{self.name}-0"
        for line in (
            f"netns add {self.name}",
            f"link add {self._cable} type veth peer name {self.name}-1 netns {self.name}",
            f"addr add {self.gateway}/30 dev {self._cable}",
            f"link set {self._cable} up",
            f"-n {self.name} addr add {address}/30 dev {self.name}-1",
            f"-n {self.name} link set {self.name}-1 up",
            f"-n {self.name} link set lo up",
        ):
            ip(line)

    @staticmethod
    def possible() -> bool:
        """Whether this system lets us make one."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return False
        trial = f"q{secrets.token_hex(4)}"
        if subprocess.run(["ip", "netns", "add", trial], capture_output=True, check=False).returncode:
            return False
        ip(f"netns del {trial}")
        return True

    def pull_the_cable(self) -> None:
        """Drop all packets."""
        ip(f"-n {self.name} link set {self.name}-1 down")

    def plug_it_in(self) -> None:
        """Pass all packets again."""
        ip(f"-n {self.name} link set {self.name}-1 up")

    def close(self) -> None:
        """Remove the namespace with its network."""
        ip(f"netns del {self.name}")


def ip(line: str) -> None:
    subprocess.run(["ip", *line.split()], check=True, capture_output=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    if not Machine.possible():
        pytest.skip("this system does not let us make network namespaces (Linux, iproute2 and root)")
    machine = Machine()
    yield machine
    machine.close()


@pytest.fixture
def far_worker(place: Place, database: Shared, machine: Machine) -> Iterator[WorkerProcess]:
    """A worker on that machine, which ends its commands before their leases end."""
    place.quick()
    proxy, url = database.by_way(listen_on=machine.gateway)
    yield place.start_worker_as_spelt(
        *("worker", "start", "--name", "far", "--on-disconnect", "stop"),
        through=("ip", "netns", "exec", machine.name),
        QUEUECTL_STORE=url,
        XDG_STATE_HOME=str(place.root / "far"),
        HOST="far",
    )
    place.close()
    proxy.close()


def ticks(place: Place) -> list[str]:
    file = place.work / "ticks"
    return file.read_text().splitlines() if file.exists() else []


def test_a_host_without_network_overlaps_with_no_attempt_and_reconnects(
    place: Place, machine: Machine, far_worker: WorkerProcess
) -> None:
    place.enqueue("--id", "j", "--kill-grace", "100ms", TICKING)
    eventually(lambda: "tick far" in ticks(place), what="the command on the far machine")
    machine.pull_the_cable()
    place.start_worker("--name", "near", HOST="near")
    eventually(lambda: ticks(place).count("tick near") > 5, within=30, what="the command on this machine")
    where = [line.split()[1] for line in ticks(place)]
    assert where == sorted(where), "ticks of both machines at the same time"
    place.run("cancel", "j")
    job = place.until("j", "cancelled")
    assert [(past.attempt, past.outcome) for past in job.history] == [(1, "lost"), (2, "cancelled")]
    place.run("worker", "stop", "near")
    machine.plug_it_in()
    place.enqueue("--id", "k", BRIEF)
    place.until("k", "completed", within=30)
    assert ticks(place)[-1] == "ran on far"
    assert far_worker.process.poll() is None
