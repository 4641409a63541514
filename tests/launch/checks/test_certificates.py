"""Servers that speak TLS, client certificates among them; and files that no server can use."""

import json
import signal
import ssl
import stat
from pathlib import Path

import httpx
import pytest

from helpers.certificates import Certificates, encrypt
from helpers.launching import Run, Start, complete


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.mark.parametrize("required", ["0", "1", "2"])
@pytest.mark.parametrize("socket", [True, False], ids=["socket", "port"])
def test_a_server_with_certificates_is_ready_watched_and_healthy(
    start: Start,
    certificates: Certificates,
    fake_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    required: str,
    socket: bool,
) -> None:
    """The launcher has no certificate to show, and on the old tree waited for ever."""
    monkeypatch.chdir(tmp_path)
    certificate, key = certificates.issue("server")
    words = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    words += ["--ssl-ca-certs", str(certificates.authority), "--ssl-cert-reqs", required]
    words += ["--uds", "s"] if socket else []
    server = start("--watchdog", "2", *words, asgi=True)
    server.await_ready()
    told = json.loads(server.ready_file.read_text())
    assert told["url"].startswith("https://")
    control = told.get("control")
    assert (control is not None) is (required == "2")
    healthy = complete(["health", "--ready-file", str(server.ready_file)], fake_environment)
    assert healthy.status == 0, healthy.err
    # Clients are asked for theirs as ever.
    context = ssl.create_default_context(cafile=str(certificates.authority))
    context.check_hostname = False
    path = "s" if socket else None
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=path, verify=context)) as client:
            assert client.get(f"{told['url']}/health").status_code == 200
            assert required != "2"
    except (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError):
        assert required == "2"
    context.load_cert_chain(*map(str, certificates.issue("client")))
    with httpx.Client(transport=httpx.HTTPTransport(uds=path, verify=context)) as client:
        assert client.get(f"{told['url']}/health").status_code == 200
    if control:
        assert stat.S_IMODE(Path(control).stat().st_mode) == 0o600
    # The heartbeat went on for longer than the watchdog would have waited.
    assert server.process.poll() is None
    outcome = server.end(signal.SIGTERM)
    assert outcome.status == 0, outcome
    assert ("--cert CLIENT.crt --key CLIENT.key" in outcome.out) is (required == "2")
    assert not control or not Path(control).exists()


def test_a_server_without_a_ready_file_has_a_control_socket_of_its_own(
    start: Start, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ready file whose path is too long for a socket beside it counts as none."""
    scratch = tmp_path / "t"
    scratch.mkdir()
    certificate, key = certificates.issue("server")
    words = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--ssl-cert-reqs", "2"]
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    words += ["--ssl-ca-certs", str(certificates.authority), "--ready-file", str(deep / "ready.json")]
    server = start(*words, asgi=True, environ={"TMPDIR": str(scratch)})
    server.await_file(deep / "ready.json")
    control = Path(json.loads((deep / "ready.json").read_text())["control"])
    assert control.parent.parent == scratch
    assert stat.S_IMODE(control.parent.stat().st_mode) == 0o700
    server.end(signal.SIGTERM)
    assert not control.parent.exists()


# --- files that cannot be served with


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ssl-keyfile", "server.key"], "--ssl-keyfile server.key needs --ssl-certfile"),
        (["--ssl-certfile", "none.crt", "--ssl-keyfile", "server.key"], "no such file or directory"),
        (["--ssl-certfile", "server.crt", "--ssl-keyfile", "other.key"], "key values mismatch"),
        (["--ssl-certfile", "server.crt", "--ssl-keyfile", "secret.key"], "is encrypted"),
        (["--ssl-certfile", "server.crt"], "cannot be used"),
        (
            ["--ssl-certfile", "server.crt", "--ssl-keyfile", "server.key", "--ssl-ca-certs", "server.key"],
            "--ssl-ca-certs server.key cannot be used",
        ),
        (
            ["--ssl-certfile", "server.crt", "--ssl-keyfile", "server.key", "--ssl-cert-reqs", "2"],
            "without --ssl-ca-certs none is valid",
        ),
        (["--ssl-cert-reqs", "3"], "0, 1 or 2"),
    ],
)
def test_certificates_that_cannot_be_used_are_told_before_the_model_is_loaded(
    dgx_vllm: Run,
    checkpoint: Path,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    """vLLM finds out when its engine is loaded."""
    monkeypatch.chdir(tmp_path)
    for name in ("server", "other", "secret"):
        certificates.issue(name)
    (tmp_path / "secret.key").write_bytes((tmp_path / "server.key").read_bytes())
    encrypt(tmp_path / "secret.key")
    refused = dgx_vllm("serve", str(checkpoint), *words)
    assert refused.status in (1, 2)
    assert refused.err.count("\n") == 1
    assert said in refused.err.lower() or said in refused.err
