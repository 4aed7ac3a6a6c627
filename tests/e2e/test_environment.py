"""The environment of a command names its queue, and contains only secrets of the worker's environment."""

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
class TestFileStore:
    def test_an_enqueue_inside_a_job_finds_its_queue_from_any_directory(self, place: Place) -> None:
        elsewhere = place.root / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "queuectl.toml").write_text('store = "sqlite:///other.db"\n')
        relative = ("--store", "sqlite:///near.db")
        place.run("enqueue", *relative, "--cwd", str(elsewhere), FOLLOW_UP)
        place.run("worker", "start", *relative, "--drain")
        assert {job["state"] for job in place.json("list", *relative)["jobs"]} == {"completed"}
        assert len(place.json("list", *relative)["jobs"]) == 2
        assert [path.name for path in elsewhere.iterdir()] == ["queuectl.toml"]

    def test_variables_of_the_job_win(self, place: Place) -> None:
        place.enqueue("--id", "j", "--env", "QUEUECTL_STORE=sqlite:////elsewhere.db", "env -0")
        place.run("worker", "start", "--drain")
        assert variables(place, "j")["QUEUECTL_STORE"] == "sqlite:////elsewhere.db"

    def test_a_clean_environment_has_a_minimum_and_variables_of_the_job(self, place: Place) -> None:
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
class TestServerStore:
    def test_no_command_receives_a_password_that_the_worker_got_by_a_flag(
        self, place: Place, database: Shared
    ) -> None:
        url = place.env.pop("QUEUECTL_STORE")
        place.run("enqueue", "--store", url, "--id", "j", "env -0")
        place.run("worker", "start", "--store", url, "--drain")
        told = place.output("j").decode()
        assert "QUEUECTL_JOB_ID=j" in told
        assert "QUEUECTL_STORE=" not in told
        assert not [secret for secret in database.passwords if secret in told]

    def test_commands_inherit_the_environment_of_the_worker(self, place: Place) -> None:
        place.enqueue("--id", "j", "env -0")
        place.run("worker", "start", "--drain")
        assert variables(place, "j")["QUEUECTL_STORE"] == place.env["QUEUECTL_STORE"]
