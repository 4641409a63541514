"""The real server where it is hard to ask: clients must show certificates, and there is no tokenizer."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from serving import serving

from helpers.certificates import Certificates
from helpers.processes import PATIENCE

pytestmark = pytest.mark.engine

# Longer than a quarter of the watchdog's time: several heartbeats have then been answered or missed.
_WATCHDOG_SECONDS = 20.0


def test_a_server_with_client_certificates_and_no_tokenizer_is_ready_and_stays_so(
    session_environment: dict[str, str], tmp_path: Path
) -> None:
    made = Certificates(tmp_path)
    certificate, key = made.issue("server")
    words = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--skip-tokenizer-init"]
    words += ["--ssl-ca-certs", str(made.authority), "--ssl-cert-reqs", "2"]
    words += ["--watchdog", f"{_WATCHDOG_SECONDS:g}"]
    with serving(session_environment, tmp_path, *words) as server:
        ready = tmp_path / "ready.json"
        log = server.log.read_text(errors="replace")
        assert "first token in" in log
        assert "500 Internal Server Error" not in log  # of which vLLM writes a traceback for each
        installed = os.environ.get("DGX_VLLM")
        program = [installed] if installed else [sys.executable, "-m", "dgx_vllm.cli"]
        health = subprocess.run(
            [*program, "health", "--ready-file", str(ready)],
            env=session_environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (health.returncode, health.stderr) == (0, "")
        context = ssl.create_default_context(cafile=str(made.authority))
        context.check_hostname = False
        with pytest.raises(httpx.TransportError), httpx.Client(verify=context) as stranger:
            stranger.get(f"{server.url}/health")
        context.load_cert_chain(*map(str, made.issue("client")))
        body = {
            "model": server.model,
            "prompt": [1],
            "max_tokens": 3,
            "detokenize": False,
            "ignore_eos": True,
        }
        with httpx.Client(verify=context, timeout=PATIENCE) as client:
            answer = client.post(f"{server.url}/v1/completions", json=body).raise_for_status().json()
        assert answer["usage"]["completion_tokens"] == 3
        # The watchdog would have ended it by now, had its heartbeats not been answered.
        time.sleep(_WATCHDOG_SECONDS + 10)
        assert server.process.poll() is None
        control = Path(json.loads(ready.read_text())["control"])
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert not control.exists()
