"""Access to the operating system's processes, beyond POSIX.

Linux supports all functions. Other systems (macOS) have no /proc and no subreaper: there the process group of a
command is supervised, but a process that leaves the group is not. `missing()` reports this in a sentence.
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
"""Maximum number of readings of the process table. Normally few are needed."""
_HALF_A_PAGE = 2048


class Process(NamedTuple):
    """One process as /proc shows it. Pid and `start` (ticks since boot) together identify a process."""

    pid: int
    state: str
    ppid: int
    pgid: int
    sid: int
    start: int


def missing() -> list[str]:
    """The functions that this system lacks, one sentence each."""
    if LINUX:
        return []
    return [
        "a process that leaves its command's process group (setsid, double fork) is not found on this system"
    ]


def become_subreaper() -> bool:
    """Become the parent of descendants whose own parent has ended, in place of init."""
    if not LINUX:
        return False
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return int(prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0


def peak_memory() -> int:
    """The peak memory of this process in bytes; 0 if unknown."""
    try:
        with open("/proc/self/status", "rb", buffering=0) as status:
            _, found, rest = status.read().partition(b"VmHWM:")
    except OSError:
        return 0
    return int(rest.split(None, 1)[0]) << 10 if found else 0


def name_process(name: str) -> None:
    """Set the name that `ps -o comm` and `top` show (at most 15 bytes). No code depends on this name."""
    try:
        with open("/proc/self/comm", "w") as comm:
            comm.write(name)
    except OSError:
        pass  # not Linux, or /proc is read-only. Ignored, because only people read the name


def boot_id() -> str:
    """The identity of the current boot of the kernel. Empty if unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as text:
            return text.read().strip()
    except OSError:
        return ""


def pid_namespace() -> int:
    """The pid namespace. The same pid in another pid namespace (container) is another process."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def here() -> str:
    """The boot and the pid namespace. Where both are the same, a pid means the same process."""
    return f"{boot_id()}:{pid_namespace()}"


def ticks() -> int:
    """The current time in the unit of `Process.start`."""
    return int(boottime() * TICK)


def look(pid: int) -> Process | None:
    """The process with this pid, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            text = stat.read()
    except OSError:
        return None
    # The name is in parentheses, and may itself contain spaces and parentheses.
    field = text[text.rfind(b")") + 2 :].split(None, 20)
    if len(field) < 20:
        return None  # the process ended while it was read
    # The kernel also reports Z for a process whose first thread has ended while others run (field 17: number of
    # threads). For a process that is just being removed it reports no threads.
    state = "S" if field[0] == b"Z" and int(field[17]) > 1 else field[0].decode()
    return Process(pid, state, int(field[1]), int(field[2]), int(field[3]), int(field[19]))


def is_holder(pid: int, boot: str, *, running: bool = False) -> bool:
    """Whether a holder lives on this host. A zombie does not live. `running`: the holder must also not be stopped."""
    process = look(pid)
    if process is not None:
        return process.state not in ("ZXT" if running else "ZX") and boot_id() == boot
    return not LINUX and _answers(pid)


def sees(host: str, directory: str | None) -> bool:
    """Whether the pids of a worker mean the same processes here. The name of the host alone does not decide this."""
    return host == os.uname().nodename and (directory is None or directory.endswith(f":{here()}"))


def has_died(host: str, pid: int, boot: str, directory: str | None) -> bool:
    """Whether the holder has ended. This is certain only if this process can see the processes of that host."""
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
    """Every living process of this pid namespace, without zombies. Empty on a system without /proc."""
    return living(_pids)


def living(listing: Callable[[], Iterable[int]]) -> list[Process]:
    """The living processes that `listing` names, and new processes that replaced ended ones during the reading.

    Processes are read one by one, and a busy machine may interrupt the reading for long. Meanwhile a listed process
    may start a child, which is not listed, and end: no reading would ever find a fork loop. So as long as a listed
    process has ended, the list is read again and the new processes are read too. Then for every process that was
    alive at the last listing, the process itself or an ancestor was seen alive. Test:
    `test_a_process_that_replaces_another_during_the_search_is_found`.
    """
    found: dict[int, Process | None] = {}
    for _ in range(_ROUNDS):
        came = {pid: look(pid) for pid in listing() if pid not in found}
        found.update(came)
        if all(process and process.state not in "ZX" for process in came.values()):
            break
    return [process for process in found.values() if process and process.state not in "ZX"]


def stopped(leaders: Collection[int]) -> set[int]:
    """Those of these session leaders in whose session a process is stopped by a signal. A traced process is ignored."""
    return {process.sid for process in processes() if process.state == "T" and process.sid in leaders}


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def marker(pid: int) -> str | None:
    """The attempt that the environment of a process names. None if it names none, or the process is another user's."""
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
    """Whether a process has neither arguments nor environment, because it is in an exec or is ending."""
    try:
        return not any(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False  # a process of another user is never readable


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
    """Signal a whole group at once, so that a process which is just forking cannot escape."""
    # The group has ended, or belongs to another user (a setuid program). The next snapshot shows which.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def signal_process(target: Process, number: int) -> None:
    """Signal exactly this process, never another one that has the same pid now."""
    handle = _handle(target)
    now = look(target.pid)
    try:
        if now is None or now.start != target.start:
            return
        # Without a handle (a kernel before 5.3, or no free descriptor) use the pid, checked a microsecond ago.
        if handle is None:
            os.kill(target.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        pass  # the process has ended, or is another user's (a setuid program); the next snapshot shows which
    finally:
        if handle is not None:
            os.close(handle)


def await_exits(targets: list[Process], timeout: float) -> None:
    """Wait up to `timeout` seconds until all these processes have ended. They need not be children of this process."""
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
    """A descriptor that becomes readable when the process ends. None if the process has ended, or without pidfd."""
    try:
        return os.pidfd_open(target.pid)
    except (OSError, AttributeError):
        return None


class OomScore:
    """Makes the kernel kill a command rather than the holder when memory runs out.

    A child inherits the score of its parent. So the holder raises its own score before a spawn and lowers it after:
    two writes to an open file, instead of opening the child's file each time. This needs no privilege.
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
            pass  # not Linux, or a container forbids it. Ignored, because no code depends on it

    def offer(self) -> None:
        """Raise the score before a spawn."""
        if self._usual:
            os.pwrite(self._file, b"%d" % self.RAISED, 0)

    def withdraw(self) -> None:
        """Lower the score after a spawn."""
        if self._usual:
            os.pwrite(self._file, self._usual, 0)


class Offspring:
    """The children that this process did not start: leftovers, whose parent it became as their subreaper.

    If the kernel has a list of children (a build option), one read returns it. Otherwise the order of pids helps:
    they are assigned in rising order, so the leftovers of a short command are among the pids assigned since its
    start. For a longer command all of /proc is read, which takes at most a tenth of the time.
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
        """The living children that may have started after the process `pid`, which started `age` seconds ago.

        Returns None if this is unknown before the time `ready_at`.
        """
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
    """The content of an open /proc file. The kernel returns it page by page; the last page is shorter."""
    text = b""
    while part := os.pread(descriptor, 1 << 16, len(text)):
        text += part
        if len(part) < _HALF_A_PAGE:
            break
    return text


def foreign_descriptors(keep: set[int]) -> Iterator[int]:
    """The open descriptors above 2 that are not in `keep`. The parent process left them open."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            numbers = [int(name) for name in os.listdir(folder)]
        except OSError:
            continue
        yield from (number for number in numbers if number > 2 and number not in keep)
        return
