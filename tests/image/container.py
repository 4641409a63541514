"""A container as a user runs it: the image unpacked by umoci, run by crun, rootless."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.processes import PATIENCE

UMOCI, CRUN = os.environ.get("UMOCI", "umoci"), os.environ.get("CRUN", "crun")
#: The user of the image's configuration.
USER = 1000


def unpack(image: Path, bundle: Path) -> None:
    """Unpacks the image `latest` of a layout into a runtime bundle, without any privilege.

    Raises:
        RuntimeError: umoci's own words.
    """
    bundle.mkdir()
    # `umoci unpack` would do both and hash every file besides, for a later `umoci repack`.
    for command in (["unpack", "--rootless"], ["runtime-config"]):
        words = [UMOCI, "raw", *command, "--image", f"{image}:latest"]
        place = bundle / ("rootfs" if command[0] == "unpack" else "config.json")
        done = subprocess.run([*words, str(place)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)


def configure(bundle: Path, arguments: list[str], environment: dict[str, str]) -> None:
    """Rewrites a bundle's configuration for these arguments: a read-only root, no capability, one user.

    The network is the caller's, so that a test reaches the server; everything else is the container's own.
    """
    path = bundle / "config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    process = config["process"]
    process["terminal"] = False
    process["args"] = [process["args"][0], *arguments]
    process["env"] += [f"{name}={value}" for name, value in environment.items()]
    process["user"] = {"uid": USER, "gid": USER}
    process["capabilities"] = {}
    process["noNewPrivileges"] = True
    config["root"] = {"path": "rootfs", "readonly": True}
    config["linux"] = {
        "namespaces": [{"type": name} for name in ("user", "mount", "pid", "ipc", "uts")],
        "uidMappings": [{"containerID": USER, "hostID": os.getuid(), "size": 1}],
        "gidMappings": [{"containerID": USER, "hostID": os.getgid(), "size": 1}],
    }
    options = ["nosuid", "nodev", "mode=1777"]
    own = [
        {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}
        for place in ("/tmp", "/cache", "/dev/shm")
    ]
    kept = [mount for mount in config["mounts"] if mount["destination"] in ("/proc", "/dev")]
    config["mounts"] = kept + own
    path.write_text(json.dumps(config))


@dataclass
class Container:
    """A container that runs until it is stopped."""

    name: str
    state: Path
    bundle: Path
    process: subprocess.Popen[bytes]

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a program in the container, with its environment and as its user.

        By nsenter: `crun exec` first becomes the container's root (crun 1.8.1, "cannot setresgid to 0"), and
        without privilege only one user can be mapped, which is not root.
        """
        state = self.crun("state", self.name)
        if state.returncode:
            return state
        pid = json.loads(state.stdout)["pid"]
        variables = json.loads((self.bundle / "config.json").read_text())["process"]["env"]
        enter = [
            "nsenter",
            "--target",
            str(pid),
            "--user",
            "--preserve-credentials",
            "--mount",
            "--pid",
            "--ipc",
        ]
        command = [
            *enter,
            "--uts",
            "--root",
            "--wd",
            "/usr/bin/env",
            "--ignore-environment",
            *variables,
            *words,
        ]
        return subprocess.run(command, capture_output=True, text=True)

    def crun(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [CRUN, "--root", str(self.state), "--cgroup-manager", "disabled", *words]
        return subprocess.run(command, capture_output=True, text=True)

    def stop(self) -> int:
        """Sends SIGTERM, and gives the exit status."""
        self.crun("kill", self.name, "TERM").check_returncode()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.crun("kill", self.name, "KILL")
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def run(name: str, bundle: Path, state: Path, log: Path) -> Container:
    """Starts the bundle; what it prints goes to `log`."""
    command = [CRUN, "--root", str(state), "--cgroup-manager", "disabled"]
    command += ["run", "--bundle", str(bundle), name]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    return Container(name, state, bundle, process)
