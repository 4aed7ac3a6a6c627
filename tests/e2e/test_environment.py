"""What a command finds in its environment: its queue, wherever it runs, and no secret that its worker was not given."""

import sys

import pytest

from e2e.databases import Shared
from e2e.harness import Place

FOLLOW_UP = f"{sys.executable} -m queuectl enqueue --id child 'echo done'"


def variables(place: Place, id: str) -> dict[str, str]:
    """The environment that a job has printed with `env -0`."""
    lines = (line.partition("=") for line in place.output(id).decode().split("\0") if line)
    return {name: value for name, _, value in lines}


@pytest.mark.parametrize("kind", ["sqlite"])
class TestAFile:
    def test_a_jobs_own_enqueue_finds_its_queue_from_another_directory(self, place: Place) -> None:
        elsewhere = place.root / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "queuectl.toml").write_text('store = "sqlite:///other.db"\n')
        relative = ("--store", "sqlite:///near.db")
        place.run("enqueue", *relative, "--cwd", str(elsewhere), FOLLOW_UP)
        place.run("worker", "start", *relative, "--drain")
        assert {job["state"] for job in place.json("list", *relative)["jobs"]} == {"completed"}
        assert len(place.json("list", *relative)["jobs"]) == 2
        assert [path.name for path in elsewhere.iterdir()] == ["queuectl.toml"]

    def test_what_the_job_itself_was_given_counts(self, place: Place) -> None:
        place.enqueue("--id", "j", "--env", "QUEUECTL_STORE=sqlite:////elsewhere.db", "env -0")
        place.run("worker", "start", "--drain")
        assert variables(place, "j")["QUEUECTL_STORE"] == "sqlite:////elsewhere.db"

    def test_a_clean_environment_is_a_minimum_and_the_jobs_own(self, place: Place) -> None:
        place.enqueue("--id", "j", "--env", "OWN=1", "env -0")
        place.run("worker", "start", "--drain", "--clean-env", TZ="UTC", AWS_SECRET_ACCESS_KEY="x")
        found = variables(place, "j")
        of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
        assert {name for name in found if not name.startswith("QUEUECTL_")} - of_the_shell == {
            *("PATH", "HOME", "LANG", "TZ", "OWN"),
        }
        assert found["OWN"] == "1"
        assert found["QUEUECTL_STORE"] == f"sqlite:///{place.root}/data/queuectl/queue.db"
        assert "QUEUECTL_TEST_PLACE" not in found


@pytest.mark.parametrize("kind", ["postgres", "mongodb", "redis", "archived"])
class TestAServer:
    def test_no_command_is_told_a_password_that_its_worker_was_given_by_a_flag(
        self, place: Place, database: Shared
    ) -> None:
        url = place.env.pop("QUEUECTL_STORE")
        place.run("enqueue", "--store", url, "--id", "j", "env -0")
        place.run("worker", "start", "--store", url, "--drain")
        told = place.output("j").decode()
        assert "QUEUECTL_JOB_ID=j" in told
        assert "QUEUECTL_STORE=" not in told
        assert not [secret for secret in database.passwords if secret in told]

    def test_what_the_workers_environment_had_its_commands_have(self, place: Place) -> None:
        place.enqueue("--id", "j", "env -0")
        place.run("worker", "start", "--drain")
        assert variables(place, "j")["QUEUECTL_STORE"] == place.env["QUEUECTL_STORE"]
