"""The client and a `queuectl serve` as two processes: over TLS, and through a Unix socket."""

from pathlib import Path

import pytest

from http_process import Home, self_signed
from queuectl import Queue


class TestTls:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_a_certificate_of_an_authority_of_your_own_is_named_by_ssl_cert_file(
        self, home: Home, certificate: tuple[str, str], host: str
    ) -> None:
        server = home.serve("--port", "0", "--tls-cert", certificate[0], "--tls-key", certificate[1])
        store, trusted = f"https://{host}:{server.port}", {"SSL_CERT_FILE": certificate[0]}
        added = home.run_cli("--store", store, "enqueue", "--id", "a", "true", **trusted)
        assert added.stdout == "a\n"
        assert (
            home.run_cli("show", "a", "--json").stdout
            == home.run_cli("--store", store, "show", "a", "--json", **trusted).stdout
        )
        assert server.end() == 0

    def test_a_certificate_that_nobody_vouches_for_is_an_error_and_nothing_is_sent(
        self, home: Home, certificate: tuple[str, str]
    ) -> None:
        server = home.serve("--port", "0", "--tls-cert", certificate[0], "--tls-key", certificate[1])
        done = home.run_cli("--store", f"https://127.0.0.1:{server.port}", "enqueue", "true", code=5)
        assert "the certificate of 127.0.0.1 cannot be trusted: self-signed certificate (" in done.stderr
        assert "SSL_CERT_FILE" in done.stderr
        assert home.run_cli("list", "--all", "--json").stdout.count('"id"') == 0
        assert server.end() == 0

    def test_a_certificate_for_another_name_is_an_error(self, home: Home, tmp_path: Path) -> None:
        certificate, key = self_signed(tmp_path, "DNS:queue.example")
        server = home.serve("--port", "0", "--tls-cert", certificate, "--tls-key", key)
        store = f"https://127.0.0.1:{server.port}"
        done = home.run_cli("--store", store, "status", code=5, SSL_CERT_FILE=certificate)
        assert "cannot be trusted: IP address mismatch" in done.stderr
        assert server.end() == 0

    def test_tls_to_a_server_without_it(self, home: Home) -> None:
        server = home.serve("--port", "0")
        done = home.run_cli("--store", f"https://127.0.0.1:{server.port}", "status", code=5)
        assert "127.0.0.1 does not speak TLS with us" in done.stderr
        assert "is it http:// instead?" in done.stderr
        assert server.end() == 0

    def test_no_tls_to_a_server_with_it(self, home: Home, certificate: tuple[str, str]) -> None:
        server = home.serve("--port", "0", "--tls-cert", certificate[0], "--tls-key", certificate[1])
        words = ("--store", f"http://127.0.0.1:{server.port}", "--patience", "0.2s", "status")
        assert home.run_cli(*words, code=5).stderr.count("\n") == 1
        assert server.end() == 0


class TestDirectory:
    def test_verbose_names_the_directory_of_the_first_job(self, home: Home, tmp_path: Path) -> None:
        server = home.serve("--port", "0")
        words = ("--store", f"http://127.0.0.1:{server.port}", "enqueue", "-v")
        said = home.run_cli(*words, "--id", "a", "true").stderr
        assert said == f"queuectl: job a runs in {home.root}; --cwd DIR names another directory\n"
        said = home.run_cli(*words, "--id", "b", "--cwd", str(tmp_path), "true").stderr
        assert f"job b runs in {tmp_path}; " in said
        assert server.end() == 0


class TestUnixSocket:
    def test_jobs_are_added_waited_for_and_shown_without_a_token(self, home: Home) -> None:
        server = home.serve("--host", "none")
        store = ("--store", server.first_line.removeprefix("listening on "))
        home.run_cli(*store, "enqueue", "--id", "a", "pwd; echo done")
        home.run_cli("-q", "worker", "start", "--drain")
        home.run_cli(*store, "wait", "a")
        assert home.run_cli(*store, "logs", "--follow", "a").stdout == f"{home.root}\ndone\n"
        assert (
            home.run_cli(*store, "show", "a", "--json").stdout == home.run_cli("show", "a", "--json").stdout
        )
        assert server.end() == 0

    def test_python_uses_it_too(self, home: Home) -> None:
        server = home.serve("--host", "none")
        with Queue(server.first_line.removeprefix("listening on ")) as queue:
            job = queue.enqueue("true", hold=True)
            assert [each.id for each in queue.list()] == [job.id]
            assert [part.data for part in queue.follow(queue.cancel(job))] == []
        assert server.end() == 0
