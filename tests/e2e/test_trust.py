"""Directories, links, databases, logs and scripts that another user has planted are not used; tested with two user ids.

The worker runs as the user of these tests (root) or as another one (`nobody`); who plants things is the other.
"""

import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.databases import SqliteDatabase
from e2e.harness import Place
from queuectl import bootstrap, trust
from queuectl.errors import StoreUnusable
from queuectl.store.sqlite import SqliteStore
from queuectl.worker.holder.spawn import Spawner, SpawnError
from queuectl.worker.protocol import Start

pytestmark = [
    pytest.mark.parametrize("kind", ["sqlite"]),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users"),
]
STRANGER = 65534
LONG = "#!/bin/sh\necho ran"


def refused(place: Place, *words: str, code: int = 1) -> str:
    """`worker start` ends with this code and one line; the line."""
    said = place.run_error("worker", "start", "--drain", *words, code=code)
    [line] = [line for line in said.splitlines() if not re.search("runs as root|: store ", line)]
    assert "Traceback" not in line
    return str(line)


@pytest.fixture
def database(tmp_path: Path, kind: str) -> SqliteDatabase:
    """Other users cannot enter the directories of pytest, so these tests need another place."""
    for path in (tmp_path, *tmp_path.parents[:3]):
        if path.stat().st_uid == 0 and path.parent != path and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    assert kind == "sqlite"
    return SqliteDatabase(tmp_path / "data")


@pytest.fixture
def workers(place: Place) -> Path:
    """The path of the directory of workers; the database exists already."""
    place.enqueue("--id", "j", LONG)
    return place.root / "data" / "queuectl" / "queue.db-workers"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestDirectoryOfWorkers:
    def test_the_directory_is_private_with_any_umask(self, place: Place, workers: Path) -> None:
        before = os.umask(0)
        try:
            place.run("worker", "start", "--drain")
        finally:
            os.umask(before)
        assert mode(workers) == 0o700
        assert place.job("j").state == "completed"

    def test_a_directory_of_another_user_is_refused(self, place: Place, workers: Path) -> None:
        workers.mkdir(mode=0o700)
        os.chown(workers, STRANGER, STRANGER)
        line = refused(place)
        assert f"{workers} belongs to nobody (uid 65534) and not to root (uid 0)" in line
        assert place.job("j").state == "pending"

    @pytest.mark.parametrize("bits", [0o755, 0o770, 0o701, 0o777])
    def test_a_directory_open_to_others_is_refused_with_a_hint_that_works(
        self, place: Place, workers: Path, bits: int
    ) -> None:
        workers.mkdir()
        workers.chmod(bits)
        line = refused(place)
        assert f"its mode is {bits:o}" in line
        hint = re.search(r"\((chmod .*)\)$", line)
        assert hint
        subprocess.run(["sh", "-c", hint[1]], check=True)
        place.run("worker", "start", "--drain")

    def test_a_link_to_any_target_is_refused(self, place: Place, workers: Path) -> None:
        (place.root / "elsewhere").mkdir(mode=0o700)
        workers.symlink_to(place.root / "elsewhere")
        line = refused(place)
        assert f"{workers} is a link to {place.root}/elsewhere" in line
        assert not list((place.root / "elsewhere").iterdir())

    def test_a_file_instead_of_the_directory_is_refused(self, place: Place, workers: Path) -> None:
        workers.touch()
        assert f"{workers} is no directory" in refused(place)

    def test_a_detached_worker_is_also_refused(self, place: Place, workers: Path) -> None:
        workers.mkdir(mode=0o700)
        os.chown(workers, STRANGER, STRANGER)
        assert "belongs to nobody" in refused(place, "--detach")

    def test_doctor_reports_the_directory_and_opens_no_file_in_it(self, place: Place, workers: Path) -> None:
        workers.mkdir(mode=0o700)
        os.mkfifo(workers / "x.slots")
        os.chown(workers, STRANGER, STRANGER)
        checks = {check["name"]: check for check in place.json("doctor", code=1)["checks"]}
        assert not checks["worker files"]["ok"]
        assert "belongs to nobody" in checks["worker files"]["detail"]
        assert checks["worker files"]["hint"]


class TestParentDirectories:
    def test_a_parent_that_others_may_write_is_refused(self, place: Place, workers: Path) -> None:
        workers.parent.chmod(0o777)
        line = refused(place, code=5)
        assert f"{workers.parent} may be written by others (owner root (uid 0), mode 777)" in line
        assert f"chmod go-w {workers.parent}" in line

    def test_a_sticky_parent_is_accepted_if_its_entry_belongs_to_the_user(
        self, place: Place, workers: Path
    ) -> None:
        workers.parent.chmod(0o1777)
        place.run("worker", "start", "--drain")
        assert place.job("j").state == "completed"

    def test_a_higher_parent_that_others_may_write_is_refused(self, place: Place, workers: Path) -> None:
        above = workers.parent.parent
        above.chmod(0o777)
        assert f"{above} may be written by others" in refused(place, code=5)

    def test_a_parent_of_another_user_is_refused(self, place: Place, workers: Path) -> None:
        above = workers.parent.parent
        os.chown(above, STRANGER, STRANGER)
        line = refused(place, code=5)
        assert f"{above} belongs to nobody (uid 65534), who could exchange" in line

    def test_a_parent_that_a_foreign_group_may_write_is_refused(self, place: Place, workers: Path) -> None:
        os.chown(workers.parent, 0, STRANGER)
        workers.parent.chmod(0o770)
        assert "mode 770" in refused(place, code=5)
        os.chown(workers.parent, 0, 0)
        place.run("worker", "start", "--drain")

    def test_parents_of_root_are_accepted_and_parents_of_others_refused(self, place: Place) -> None:
        own = place.root / "of-nobody"
        own.mkdir(mode=0o700)
        os.chown(own, STRANGER, STRANGER)
        assert as_stranger(lambda: check_as_worker(own / "queue.db")) == "fine"
        other = place.root / "of-another"
        other.mkdir()
        other.chmod(0o777)
        os.chown(other, 1234, 1234)
        assert "belongs to uid 1234" in as_stranger(lambda: check_as_worker(other / "queue.db"))


def check_as_worker(database: Path) -> None:
    """The checks of `worker start`."""
    SqliteStore.open(database).close()
    bootstrap.refuse_shared(f"sqlite:///{database}")
    os.close(trust.private_directory(f"{database}-workers"))


def as_stranger(work: Callable[[], None]) -> str:
    """Why it refuses to another user, in a child: his interpreter would not even start, in the home of root."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            work()
            os.write(send, b"fine")
        except (StoreUnusable, trust.Untrusted) as error:
            os.write(send, error.message.encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return said


class TestDatabase:
    def test_a_database_of_another_user_is_refused(self, place: Place, workers: Path) -> None:
        database = workers.with_name("queue.db")
        os.chown(database, STRANGER, STRANGER)
        line = refused(place, code=5)
        assert f"{database} belongs to nobody (uid 65534), who could have this worker run anything" in line
        checks = {check["name"]: check for check in place.json("doctor", code=1)["checks"]}
        assert "belongs to nobody" in checks["database file"]["detail"]

    def test_a_writable_database_is_refused_with_a_hint_that_works(self, place: Place, workers: Path) -> None:
        database = workers.with_name("queue.db")
        database.chmod(0o666)
        line = refused(place, code=5)
        hint = re.search(r"\((chmod .*)\)$", line)
        assert hint
        subprocess.run(["sh", "-c", hint[1]], check=True)
        place.run("worker", "start", "--drain")

    def test_a_foreign_database_in_a_shared_directory_is_not_opened(self, place: Place) -> None:
        common = place.root / "common"
        common.mkdir()
        common.chmod(0o1777)
        url = f"sqlite:///{common}/queue.db"
        place.run("--store", url, "enqueue", "--id", "j", "true")
        os.chown(common / "queue.db", STRANGER, STRANGER)
        for words in (("status",), ("enqueue", "true")):
            assert "everybody may write to" in place.invoke("--store", url, *words).stderr.decode()

    @pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
    def test_a_log_of_another_user_is_refused(self, place: Place, workers: Path, end: str) -> None:
        planted = workers.with_name(f"queue.db{end}")
        planted.unlink(missing_ok=True)
        planted.write_bytes(b"planted")
        os.chown(planted, STRANGER, STRANGER)
        assert f"{planted} belongs to nobody" in place.run_error("status", code=5)
        assert planted.read_bytes() == b"planted"

    def test_a_log_that_is_a_link_is_not_followed(self, place: Place, workers: Path) -> None:
        target = place.root / "target"
        planted = workers.with_name("queue.db-wal")
        planted.unlink(missing_ok=True)
        planted.symlink_to(target)
        assert "is a link" in place.run_error("status", code=5)
        assert not target.exists()


class TestFilesOfAWorker:
    def test_all_files_are_private_and_new(self, place: Place, workers: Path) -> None:
        before = os.umask(0)
        try:
            place.json("worker", "start", "--detach", "--name", "w")
        finally:
            os.umask(before)
        place.until("j", "completed")
        modes = {path.suffix: mode(path) for path in workers.iterdir()}
        assert modes == {".slots": 0o600, ".log": 0o600, ".progress": 0o600}
        place.run("worker", "stop")

    def test_a_command_inherits_no_descriptor_of_these_files(self, place: Place) -> None:
        place.enqueue("--id", "fds", "#!/bin/sh\nls /proc/self/fd")
        place.run("worker", "start", "--drain")
        assert place.output("fds").split() == [b"0", b"1", b"2", b"3"]  # the last is that of ls


def test_a_script_in_an_exchanged_directory_is_not_run(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "workers"
    spawner = Spawner(directory, trust.private_directory(str(directory)), "w")
    directory.rename(tmp_path / "moved")
    directory.mkdir(mode=0o700)
    (directory / "a.script").write_text(f"#!/bin/sh\ntouch {tmp_path}/planted-ran\n")
    order = Start(attempt_id="a", job_id="j", attempt=1, queue="q", grace=1.0, output_limit=9, command=LONG)
    with pytest.raises(SpawnError, match="exchanged") as caught:
        spawner.spawn(order, b"", 0)
    assert caught.value.trouble
    assert not (tmp_path / "planted-ran").exists()
