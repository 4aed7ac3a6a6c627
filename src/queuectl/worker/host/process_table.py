"""What the worker asks of the operating system beyond POSIX, and what it does where the answer is no.

Linux gives all of it. Elsewhere (macOS) there is no list of processes to read here and no subreaper: a
command's process group is supervised and a process that leaves it is not; `missing()` says so in a sentence.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from queuectl.clock import boottime

LINUX = sys.platform == "linux"
TICK = os.sysconf("SC_CLK_TCK")
MARKER = b"QUEUECTL_ATTEMPT_ID="

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 100
"""More than a machine needs on which somebody ends within each of them: a round is shorter than the one before."""


class Process(NamedTuple):
    """One process as /proc told of it. `start`, in ticks since boot, makes the pid an identity."""

    pid: int
    state: str
    ppid: int
    pgid: int
    sid: int
    start: int


def missing() -> list[str]:
    """What this system cannot do for the worker, one sentence each."""
    if LINUX:
        return []
    return [
        "a process that leaves its command's process group (setsid, double fork) is not found on this system"
    ]


def become_subreaper() -> bool:
    """Have orphans among our descendants become our children instead of init's."""
    if not LINUX:
        return False
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return int(prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0


def peak_memory() -> int:
    """The most memory that this program has had so far, in bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/status", "rb", buffering=0) as status:
            _, found, rest = status.read().partition(b"VmHWM:")
    except OSError:
        return 0
    return int(rest.split(None, 1)[0]) << 10 if found else 0


def name_process(name: str) -> None:
    """The name that `ps -o comm` and `top` show; at most 15 bytes. Nothing depends on it."""
    try:
        with open("/proc/self/comm", "w") as comm:
            comm.write(name)
    except OSError:
        pass  # not Linux, or /proc is read-only: a nameless process works as well


def boot_id() -> str:
    """Which run of the kernel this is; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as text:
            return text.read().strip()
    except OSError:
        return ""


def pid_namespace() -> int:
    """Which set of pids ours belongs to: a pid of another container is another process."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def here() -> str:
    """Whose processes we see: a pid means the same process to all whose `here` is the same."""
    return f"{boot_id()}:{pid_namespace()}"


def ticks() -> int:
    """Now, on the scale of `Process.start`."""
    return int(boottime() * TICK)


def look(pid: int) -> Process | None:
    """A process by pid, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            text = stat.read()
    except OSError:
        return None
    # The name is in parentheses and may itself hold spaces and parentheses.
    field = text[text.rfind(b")") + 2 :].split(None, 20)
    if len(field) < 20:
        return None  # it ended while it was read
    # Of a process whose first thread has ended the kernel says Z too, though it lives as long as its other threads. Of
    # one that is just being let go of it says that it has none.
    state = "S" if field[0] == b"Z" and int(field[17]) > 1 else field[0].decode()
    return Process(pid, state, int(field[1]), int(field[2]), int(field[3]), int(field[19]))


def is_holder(pid: int, boot: str, *, running: bool = False) -> bool:
    """Whether the process of a holder lives on this host (a zombie does not); with `running`, not stopped either."""
    process = look(pid)
    if process is not None:
        return process.state not in ("ZXT" if running else "ZX") and boot_id() == boot
    return not LINUX and _answers(pid)


def sees(host: str, directory: str | None) -> bool:
    """Whether a worker's pids mean to us what they mean to it: a host's name does not say so, its directory does."""
    return host == os.uname().nodename and (directory is None or directory.endswith(f":{here()}"))


def has_died(host: str, pid: int, boot: str, directory: str | None) -> bool:
    """Whether the holder was a process of this host that we would see, and is known to have ended."""
    return sees(host, directory) and boot == boot_id() and not is_holder(pid, boot)


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def processes() -> list[Process]:
    """Every living process of this pid namespace (a zombie is not); empty where there is no /proc."""
    return living(_pids)


def living(listing: Callable[[], Iterable[int]]) -> list[Process]:
    """Who of those that `listing` names is alive, and who has come in the place of those that were.

    Processes are looked at one by one, and a busy machine may stop us for long in between. Who was listed may by then
    have left a child, that was not, and have died: a fork loop shows in no such reading, however many there are. So as
    long as somebody has gone when looked at, whoever has come since is looked at too. Then of everybody who was alive
    at the last listing, he himself or an ancestor was seen alive.
    """
    found: dict[int, Process | None] = {}
    for _ in range(_ROUNDS):
        came = {pid: look(pid) for pid in listing() if pid not in found}
        found.update(came)
        if all(process and process.state not in "ZX" for process in came.values()):
            break
    return [process for process in found.values() if process and process.state not in "ZX"]


def stopped(leaders: Collection[int]) -> set[int]:
    """Those of these leaders of a session in which a process is stopped by a signal (a traced one is not)."""
    return {process.sid for process in processes() if process.state == "T" and process.sid in leaders}


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def marker(pid: int) -> str | None:
    """The attempt in whose environment a process was started, if it may be known and is of our user."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as environ:
            if os.fstat(environ.fileno()).st_uid != os.geteuid():
                return None
            text = b"\0" + environ.read()
    except OSError:
        return None
    at = text.find(b"\0" + MARKER)
    if at < 0:
        return None
    start = at + 1 + len(MARKER)
    return (
        text[start : text.index(b"\0", start)].decode("ascii", "replace") if b"\0" in text[start:] else None
    )


def is_between_programs(pid: int) -> bool:
    """Whether a process shows neither arguments nor environment: it is in an exec, or it is ending."""
    try:
        return not any(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False  # another user's: it is never readable


def group_exists(pgid: int) -> bool:
    """Whether the process group has any member. An unreaped leader counts."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def signal_group(pgid: int, number: int) -> None:
    """Signal a whole group at once, so that a member that is forking cannot slip through."""
    # Gone, or another user's (a setuid program): the next scan tells.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def signal_process(target: Process, number: int) -> None:
    """Signal exactly this process: never another one that has got its pid meanwhile."""
    handle = _handle(target)
    now = look(target.pid)
    try:
        if now is None or now.start != target.start:
            return
        if handle is None:  # a kernel before 5.3, or no descriptor left: the pid was right a microsecond ago
            os.kill(target.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        pass  # gone, or another user's (a setuid program): the next scan tells
    finally:
        if handle is not None:
            os.close(handle)


def await_exits(targets: list[Process], timeout: float) -> None:
    """Wait until all of these have ended, at most `timeout` seconds; they need not be our children."""
    poll = select.poll()
    handles = [handle for handle in map(_handle, targets) if handle is not None]
    for handle in handles:
        poll.register(handle, select.POLLIN)
    deadline = boottime() + timeout
    waiting = len(handles)
    try:
        while waiting and (left := deadline - boottime()) > 0:
            for handle, _ in poll.poll(left * 1000):
                poll.unregister(handle)
                waiting -= 1
    finally:
        for handle in handles:
            os.close(handle)


def _handle(target: Process) -> int | None:
    """A descriptor that becomes readable when the process ends; None if it has, or there is no such thing."""
    try:
        return os.pidfd_open(target.pid)
    except (OSError, AttributeError):
        return None


class OomScore:
    """Have the kernel, when memory runs out, choose a command before us: it inherits what we are while it is born.

    So our own score is raised around a spawn and lowered again, which needs no privilege as long as nobody privileged
    forbade it; two writes to an open file, where the child's own file would have to be opened each time.
    """

    RAISED = 500

    def __init__(self) -> None:
        self._usual = b""
        self._file = -1
        try:
            self._file = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            usual = os.pread(self._file, 16, 0).strip()
            if int(usual) < self.RAISED:
                os.pwrite(self._file, b"%d" % self.RAISED, 0)
                os.pwrite(self._file, usual, 0)
                self._usual = usual
        except OSError:
            pass  # not Linux, or a container forbids it: a preference, not a promise

    def offer(self) -> None:
        """A spawn begins."""
        if self._usual:
            os.pwrite(self._file, b"%d" % self.RAISED, 0)

    def withdraw(self) -> None:
        """It is over."""
        if self._usual:
            os.pwrite(self._file, self._usual, 0)


class Offspring:
    """Which of our children we did not start ourselves: orphans that fell to us as their subreaper.

    The kernel's own list of children is one read, where it was compiled in. Where it was not, pids are handed
    out in rising order, so the orphans of a command that lived for a moment are among the pids born since;
    for a longer life all of /proc is read, at most a tenth of the time.
    """

    MANY = 256
    MOMENT = 0.25

    def __init__(self) -> None:
        me = os.getpid()
        self._list = _open_to_read(f"/proc/self/task/{me}/children")
        self._last = _open_to_read("/proc/loadavg")
        self._next_scan = 0.0
        self._me = me

    def since(self, pid: int, age: float, known: Container[int]) -> list[Process] | None:
        """Living children that may have come since `pid` was born `age` seconds ago; None: too soon to tell."""
        if self._list is not None:
            return living(lambda: [child for child in self._children() if child not in known])
        if self._last is None:
            return []
        if age < self.MOMENT and 0 <= self._newest() - pid < self.MANY:
            return living(lambda: self._born_since(pid, known))
        return self._scan()

    @property
    def ready_at(self) -> float:
        """When the next reading of all of /proc is due at the earliest."""
        return self._next_scan

    def _children(self) -> list[int]:
        assert self._list is not None
        return [int(word) for word in _read_whole(self._list).split()]

    def _newest(self) -> int:
        assert self._last is not None
        return int(os.pread(self._last, 128, 0).rsplit(None, 1)[-1])

    def _born_since(self, pid: int, known: Container[int]) -> list[int]:
        born = range(pid + 1, self._newest() + 1)
        return [other for other in born if other not in known and self._exists(other)]

    def _exists(self, pid: int) -> bool:
        try:
            os.getpgid(pid)
        except ProcessLookupError:
            return False
        return True

    def _scan(self) -> list[Process] | None:
        before = boottime()
        if before < self._next_scan:
            return None
        found = [p for p in processes() if p.ppid == self._me]
        after = boottime()
        self._next_scan = after + 9 * (after - before)
        return found


def _open_to_read(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read_whole(descriptor: int) -> bytes:
    """All of a /proc file that was opened once: the kernel gives it out a page at a time."""
    text = b""
    while part := os.pread(descriptor, 1 << 16, len(text)):
        text += part
    return text


def foreign_descriptors(keep: set[int]) -> Iterator[int]:
    """Open descriptors above 2 that are not in `keep`: what whoever started us forgot to close."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            numbers = [int(name) for name in os.listdir(folder)]
        except OSError:
            continue
        yield from (number for number in numbers if number > 2 and number not in keep)
        return
