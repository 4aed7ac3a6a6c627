"""SQLite files are private from their creation, and unusable files are refused with a helpful message."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from contract.grounds import SqliteGround
from factories import NOW, new_job, statuses
from queuectl import trust
from queuectl.domain import lifecycle, topics
from queuectl.domain.query import Filter
from queuectl.errors import StoreError, StoreUnavailable, StoreUnusable
from queuectl.store.sqlite import SqliteStore, description, schema


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(open_store: Callable[[], SqliteStore], kind: type[StoreError] = StoreUnusable) -> StoreError:
    """The one sentence and the hint with which a place is refused."""
    with pytest.raises(kind) as caught:
        open_store()
    error = caught.value
    assert error.message.count("\n") == 0
    assert error.hint
    return error


def test_directories_and_files_are_private_with_any_umask(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "queue.db"
    before = os.umask(0)
    try:
        store = SqliteStore.open(path)
        store.add([new_job()])
        store.counts(Filter())
        modes = {name.name: mode(name) for name in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"queue.db": 0o600, "queue.db-wal": 0o600, "queue.db-shm": 0o600}
    assert (mode(path.parent), mode(path.parent.parent)) == (0o700, 0o700)
    store.close()


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    SqliteStore.open(tmp_path / "queue.db").close()
    assert mode(tmp_path) == 0o755


def test_files_are_private_with_a_umask_that_removes_all_rights(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        SqliteStore.open(tmp_path / "queue.db").close()
    finally:
        os.umask(before)
    assert mode(tmp_path / "queue.db") == 0o600


def test_a_database_that_others_may_read_is_reported_as_a_fault(sqlite: SqliteGround) -> None:
    store = SqliteStore.open(sqlite.path)
    assert store.describe().faults == ()
    sqlite.path.chmod(0o644)
    assert any("644" in fault for fault in store.describe().faults)
    store.close()


MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / {local} rw - tmpfs tmpfs rw
24 22 0:50 / {mount} rw,relatime shared:2 - {kind} server:/export rw
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"])
def test_a_network_file_system_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    share = tmp_path / "on the net"
    mounts.write_text(MOUNTINFO.format(local=tmp_path, mount=str(share).replace(" ", "\\040"), kind=kind))
    error = refusal(lambda: SqliteStore.open(share / "deep" / "queue.db", mountinfo=mounts))
    assert kind in error.message
    assert "postgresql://" in (error.hint or "")
    assert not (share / "deep" / "queue.db").exists()
    SqliteStore.open(tmp_path / "local.db", mountinfo=mounts).close()


def test_a_mount_with_a_similar_path_is_not_confused(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTINFO.format(local="/tmp", mount=tmp_path / "net", kind="nfs"))
    SqliteStore.open(tmp_path / "network" / "queue.db", mountinfo=mounts).close()


def test_a_link_to_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts, share = tmp_path / "mountinfo", tmp_path / "share"
    share.mkdir()
    (tmp_path / "link").symlink_to(share)
    mounts.write_text(MOUNTINFO.format(local="/tmp", mount=share, kind="nfs4"))
    refusal(lambda: SqliteStore.open(tmp_path / "link" / "queue.db", mountinfo=mounts))


def test_a_directory_is_refused_as_a_database(tmp_path: Path) -> None:
    assert "directory" in refusal(lambda: SqliteStore.open(tmp_path)).message


def test_a_file_that_is_not_a_database_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but forty lines of notes\n" * 40)
    before = path.read_bytes()
    assert "not a database" in refusal(lambda: SqliteStore.open(path)).message
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    theirs = apsw.Connection(str(path))
    theirs.execute("CREATE TABLE precious (x)")
    theirs.close()
    before = path.read_bytes()
    assert "another program" in refusal(lambda: SqliteStore.open(path)).message
    assert path.read_bytes() == before


def test_a_database_with_another_application_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    theirs = apsw.Connection(str(path))
    theirs.pragma("application_id", 12345)
    theirs.close()
    assert "another program" in refusal(lambda: SqliteStore.open(path)).message


@pytest.mark.parametrize("statement", range(8))
def test_two_processes_can_create_one_database_at_the_same_time(sqlite: SqliteGround, statement: int) -> None:
    sqlite.path.touch()
    ours, theirs = apsw.Connection(str(sqlite.path)), apsw.Connection(str(sqlite.path))
    seen: list[str] = []

    def watch(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        seen.append(sql)
        if len(seen) == statement + 1 and not ours.in_transaction:
            schema.bring_up_to_date(theirs, "theirs")
        return True

    ours.exec_trace = watch
    schema.bring_up_to_date(ours, "ours")
    assert schema.version(ours) == schema.SCHEMA
    ours.close()
    theirs.close()


def test_a_newer_schema_is_refused_with_both_versions(sqlite: SqliteGround) -> None:
    sqlite.open().add([new_job()])
    connection = apsw.Connection(str(sqlite.path))
    connection.pragma("user_version", 99)
    connection.close()
    error = refusal(lambda: SqliteStore.open(sqlite.path))
    assert "99" in error.message
    assert str(schema.SCHEMA) in error.message
    assert "upgrade" in (error.hint or "")


def test_the_first_schema_is_migrated_while_a_worker_continues(sqlite: SqliteGround) -> None:
    first = Path(schema.__file__).with_name("migrations") / "0001.sql"
    old = apsw.Connection(str(sqlite.path))
    old.pragma("journal_mode", "wal")
    old.execute(first.read_text())
    old.pragma("application_id", schema.APPLICATION)
    old.pragma("user_version", 1)
    old.execute(
        "INSERT INTO job (number, id, created_at, version, due, state, queue, priority, run_at, sort_key, updated_at, "
        "attempts, failures, losses, history_dropped, output_tail) "
        "VALUES (1, 'a', 0, 1, 1, 'pending', 'default', 0, 0, 0, 0, 0, 0, 0, 0, '')"
    )
    old.execute('INSERT INTO spec VALUES (1, \'{"command":"true"}\')')
    store = SqliteStore.open(sqlite.path)
    [job] = store.get(["a"]).values()
    assert (job.state, job.cause) == ("pending", None)
    old.execute("UPDATE job SET version = 2, priority = 3 WHERE id = 'a' AND version = 1")
    old.close()
    held = lifecycle.hold(store.get(["a"])["a"], now=NOW)
    assert statuses(store.save([held])) == ["accepted"]
    assert (store.get(["a"])["a"].priority, store.get(["a"])["a"].cause) == (3, "person")
    store.close()


def test_a_database_with_a_damaged_header_is_refused(sqlite: SqliteGround) -> None:
    SqliteStore.open(sqlite.path).close()
    with sqlite.path.open("r+b") as file:
        file.write(b"\xff" * 100)
    assert "not a database" in refusal(lambda: SqliteStore.open(sqlite.path)).message


def test_damage_inside_is_found_by_a_thorough_check_and_by_reads(sqlite: SqliteGround) -> None:
    store = SqliteStore.open(sqlite.path)
    store.add([new_job(cwd="/" * 200) for _ in range(500)])
    store.close()
    with sqlite.path.open("r+b") as file:
        size = sqlite.path.stat().st_size
        file.seek(4096 * 25)
        file.write(b"\x5a" * (size - 4096 * 30))
    store = SqliteStore(sqlite.path)
    with pytest.raises(StoreUnusable, match="damaged"):
        store.counts(Filter(tag="x"))
    store.close()


def test_the_schema_is_created_in_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.touch()
    store = SqliteStore.open(path)
    assert store.describe().schema == schema.SCHEMA
    store.close()


def test_opening_a_database_that_is_up_to_date_writes_nothing(sqlite: SqliteGround) -> None:
    first = SqliteStore.open(sqlite.path)
    first.add([new_job()])
    log = sqlite.path.with_name("queue.db-wal")
    before = (sqlite.path.stat().st_mtime_ns, log.stat().st_mtime_ns, log.stat().st_size)
    second = SqliteStore.open(sqlite.path)
    assert second.counts(Filter()).total() == 1
    assert second.claim("w1", ("nothing",), 1, second.now() - second.now()) == []
    assert (sqlite.path.stat().st_mtime_ns, log.stat().st_mtime_ns, log.stat().st_size) == before
    second.close()
    first.close()


def test_several_processes_can_open_a_new_database_at_once(tmp_path: Path) -> None:
    code = "import sys; from queuectl.store.sqlite import SqliteStore; s = SqliteStore.open(sys.argv[1]); s.close()"
    command = [sys.executable, "-c", code, str(tmp_path / "queue.db")]
    openers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    assert [opener.communicate(timeout=30)[1] for opener in openers] == [""] * 6
    assert [opener.returncode for opener in openers] == [0] * 6


def as_nobody(work: Callable[[], None]) -> tuple[str, str]:
    """What a store raises for a user without rights: in a child, since the suite may run as root."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()
            os.write(send, b"nothing|raised")
        except StoreError as error:
            os.write(send, f"{type(error).__name__}|{error.message}".encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        kind, _, message = pipe.read().decode().partition("|")
    os.waitpid(child, 0)
    return kind, message


def test_a_database_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    path = reachable(tmp_path) / "queue.db"
    SqliteStore.open(path).close()
    path.chmod(0o444)
    kind, message = as_nobody(lambda: SqliteStore.open(path).close())
    assert (kind, str(path) in message) == ("StoreUnusable", True)


def test_a_database_without_the_right_to_read_is_refused(tmp_path: Path) -> None:
    path = reachable(tmp_path) / "queue.db"
    SqliteStore.open(path).close()
    path.chmod(0o000)
    kind, message = as_nobody(lambda: SqliteStore.open(path).close())
    assert (kind, str(path) in message) == ("StoreUnusable", True)


def test_a_directory_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    folder = reachable(tmp_path)
    folder.chmod(0o555)
    kind, message = as_nobody(lambda: SqliteStore.open(folder / "queue.db").close())
    folder.chmod(0o755)
    assert (kind, "cannot be created" in message) == ("StoreUnusable", True)


def reachable(folder: Path) -> Path:
    """A folder that a user without rights can enter."""
    for path in (folder, *folder.parents[:3]):
        if path.owner() == Path.home().owner() and path != Path("/tmp"):
            path.chmod(0o755)
    return folder


def test_a_full_disk_is_reported_and_changes_nothing(sqlite: SqliteGround) -> None:
    store = SqliteStore.open(sqlite.path)
    store.add([new_job("a")])
    pages = store.session.writer.alone(lambda c: int(c.pragma("page_count")))
    store.session.writer.alone(lambda c: c.pragma("max_page_count", pages))
    with pytest.raises(StoreUnavailable, match="full") as caught:
        store.add([new_job(f"b{n}", cwd="/" * 500) for n in range(200)])
    assert caught.value.hint
    assert store.counts(Filter()).total() == 1
    store.session.writer.alone(lambda c: c.pragma("max_page_count", 1_000_000))
    assert store.add([new_job("c")])[0].status == "added"
    store.close()


def test_a_log_that_cannot_grow_loses_no_acknowledged_job(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from factories import NOW, new_job
from queuectl.errors import QueuectlError
from queuectl.store.sqlite import SqliteStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
for n in range(10_000):
    try:
        store.add([new_job(f"j{n}", cwd="/" * 400)])
    except QueuectlError as error:
        print(type(error).__name__, n)
        break
"""
    path, tests = tmp_path / "queue.db", Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tests)], capture_output=True, text=True, timeout=60
    )
    kind, acknowledged = done.stdout.split()
    assert kind in ("StoreUnavailable", "OutcomeUnknown"), done.stderr
    assert int(acknowledged) > 10
    store = SqliteStore.open(path)
    assert len(store.get([f"j{n}" for n in range(int(acknowledged))])) == int(acknowledged)
    assert store.describe(thorough=True).faults == ()
    store.close()


def test_a_database_that_stays_locked_is_unavailable_after_the_timeout(sqlite: SqliteGround) -> None:
    store = SqliteStore(sqlite.path, patience=0.05)
    store.add([new_job("a")])
    holder = apsw.Connection(str(sqlite.path))
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked by another program") as caught:
        store.add([new_job("b")])
    assert "fuser" in (caught.value.hint or "")
    assert store.counts(Filter()).total() == 1
    holder.execute("ROLLBACK")
    assert store.add([new_job("b")])[0].status == "added"
    holder.close()
    store.close()


def test_a_store_opened_before_a_fork_refuses_every_call(sqlite: SqliteGround) -> None:
    store = SqliteStore.open(sqlite.path)
    store.add([new_job("a")])
    kind, message = as_forked(lambda: store.counts(Filter()))
    assert (kind, "fork" in message) == ("StoreUnusable", True)
    store.close()


def as_forked(work: Callable[[], object]) -> tuple[str, str]:
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
        except StoreError as error:
            os.write(send, f"{type(error).__name__}|{error.message}".encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        kind, _, message = pipe.read().decode().partition("|")
    os.waitpid(child, 0)
    return kind, message


@pytest.mark.parametrize("then", ["deleted", "replaced"])
def test_no_write_is_acknowledged_on_a_deleted_file(sqlite: SqliteGround, then: str) -> None:
    store = SqliteStore.open(sqlite.path)
    store.add([new_job("a")])
    for name in ("queue.db", "queue.db-wal", "queue.db-shm"):
        (sqlite.path.parent / name).unlink()
    if then == "replaced":
        SqliteStore.open(sqlite.path).close()
    with pytest.raises(StoreUnusable, match="deleted or replaced") as caught:
        store.add([new_job("b")])
    assert caught.value.hint
    store.close()


def test_a_moved_file_is_not_described(sqlite: SqliteGround) -> None:
    """The server describes the store again after each outage: a FileNotFoundError there was a traceback in its log."""
    store = SqliteStore.open(sqlite.path)
    store.add([new_job("a")])
    sqlite.path.rename(sqlite.path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnusable, match="deleted or replaced"):
        store.describe()
    sqlite.path.with_name("elsewhere.db").rename(sqlite.path)
    assert store.describe().details["jobs"] == "1"
    store.close()


def test_a_file_counts_as_deleted_if_its_directory_was_moved(tmp_path: Path) -> None:
    directory = tmp_path / "here"
    store = SqliteStore.open(directory / "queue.db")
    directory.rename(tmp_path / "elsewhere")
    directory.write_text("no directory")
    for verb in (lambda: store.counts(Filter()), lambda: store.add([new_job()])):
        with pytest.raises(StoreUnusable, match="deleted or replaced"):
            verb()
    store.close()


def test_a_closed_store_refuses_every_call(sqlite: SqliteGround) -> None:
    store = SqliteStore.open(sqlite.path)
    news = store.subscribe(topics.WORK)
    store.close()
    for verb in (lambda: store.counts(Filter()), lambda: store.add([new_job()]), lambda: news.wait(0)):
        with pytest.raises(StoreUnavailable, match="closed"):
            verb()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.46.1", False),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.53.0", True),
        ("3.54.1", True),
    ],
)
def test_releases_with_the_log_reset_race_are_known(version: str, safe: bool) -> None:
    assert description.has_safe_log(version) is safe


def test_an_older_sqlite_is_a_fault(sqlite: SqliteGround, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore.open(sqlite.path)
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    assert any("3.40.1" in fault for fault in store.describe().faults)
    store.close()


def test_the_durability_is_read_from_the_database(tmp_path: Path) -> None:
    safe = SqliteStore.open(tmp_path / "safe.db")
    fast = SqliteStore.open(tmp_path / "fast.db", durability="fast")
    assert (safe.describe().durability, safe.describe().details["synchronous"]) == ("power-safe", "2")
    assert (fast.describe().durability, fast.describe().details["synchronous"]) == ("memory-safe", "1")
    safe.session.writer.alone(lambda c: c.pragma("synchronous", 1))
    assert safe.describe().durability == "memory-safe"
    assert safe.describe().details["journal_mode"] == "wal"
    safe.close()
    fast.close()


def test_a_worker_does_not_create_a_database_that_was_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    store = SqliteStore(path, create=False)
    with pytest.raises(StoreUnavailable, match="is not there"):
        store.get(["a"])
    assert not path.exists()
    SqliteStore.open(path).close()
    assert store.get(["a"]) == {}
    store.close()


def test_a_relative_directory_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trust.make_directories("x")
    trust.make_directories("y/z")
    assert mode(tmp_path / "x") == mode(tmp_path / "y" / "z") == 0o700
