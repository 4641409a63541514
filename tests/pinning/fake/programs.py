"""The programs that nix/pinning runs, for a machine that lies in a directory: `programs.py NAME ARGUMENTS`.

FAKE_MACHINE names the directory:

    archive/ARCHITECTURE/   what apt-get downloads, under apt's names
    index/                  what pip downloads
    store/                  one empty file for each valid store path
    building                names of the store paths that nix-store would build, one a line
    say-PROGRAM             what PROGRAM says on stderr before it exits with status 1
    say-PROGRAM ARGUMENT    the same where that is its first argument
    hold-PROGRAM            while it is there, PROGRAM waits in mid-download of what it names
    calls                   what was run, one line each
    pids                    process ids of those that wait
    nix-stderr              what nix says on stderr when it runs, and then what its stderr is
"""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

MACHINE = Path(os.environ["FAKE_MACHINE"])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait(program: str, wanted: list[str], arriving: Path) -> None:
    """What a download that takes its time leaves behind, until it may go on."""
    hold = MACHINE / f"hold-{program}"
    if not hold.exists() or not any(hold.read_text() in each for each in wanted):
        return
    arriving.write_bytes(b"half of it")
    with (MACHINE / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    while hold.exists():
        time.sleep(0.02)
    arriving.unlink()


def unshare(_: list[str]) -> None:
    pass


def apt_config(_: list[str]) -> None:
    print('Acquire::http::Proxy "DIRECT";')


def apt_get(arguments: list[str]) -> None:
    if "indextargets" in arguments:
        if "--no-release-info" not in arguments:
            print("http://mirror.test/debian/\tbookworm\tmain\tDebian")
    elif "download" in arguments:
        configuration = Path(os.environ["APT_CONFIG"]).read_text()
        architecture = re.findall(r'APT::Architecture "(\w+)"', configuration)[-1]
        wanted = [word for word in arguments if "=" in word and not word.startswith("-")]
        wait("apt-get", wanted, Path("partial.deb"))
        for name, version in (word.split("=") for word in wanted):
            # apt's names for what it downloads.
            for found in (MACHINE / "archive" / architecture).glob(f"{name}_{version.replace(':', '%3a')}_*"):
                shutil.copy(found, ".")


def dpkg_deb(arguments: list[str]) -> None:
    package, directory = arguments[-2:]
    (Path(directory) / "bin").mkdir()
    shutil.copy(package, Path(directory) / "bin/busybox")


def nix_hash(arguments: list[str]) -> None:
    print(sha256(Path(arguments[-1]) / "bin/busybox"))


def nix_store(arguments: list[str]) -> None:
    paths = [word for word in arguments if word.startswith("/")]
    if "--check-validity" in arguments:
        print(*(path for path in paths if not (MACHINE / "store" / Path(path).name).exists()), sep="\n")
    elif "--add-fixed" in arguments:
        from pinning import store

        recursive = "--recursive" in arguments
        for path in map(Path, paths):
            digest = sha256(path / "bin/busybox" if recursive else path)
            given = store.fixed_output_path(path.name, digest, recursive=recursive)
            (MACHINE / "store" / Path(given).name).touch()
            print(given)
    elif "--dry-run" in arguments:
        for name in (MACHINE / "building").read_text().split():
            sys.stderr.write(f"  /nix/store/{name}.drv\n")
    elif "--outputs" in arguments:
        print(*(path.removesuffix(".drv") for path in paths), sep="\n")


def nix(arguments: list[str]) -> None:
    if "eval" in arguments:
        print(json.dumps([f"/nix/store/{'0' * 32}-all.drv"]))
    else:
        if (MACHINE / "nix-stderr").exists():
            os.write(2, (MACHINE / "nix-stderr").read_bytes())
            os.write(2, f"a terminal: {os.isatty(2)}\n".encode())
            size = os.get_terminal_size(2) if os.isatty(2) else None
            os.write(2, f"columns: {size and size.columns}\n".encode())
            os.write(int(os.environ.get("DGX_VLLM_OFFLINE_STDERR", "2")), b"the program's own stderr\n")
        print("nix runs")


def pip(arguments: list[str]) -> None:
    directory = Path(arguments[arguments.index("--dest") + 1])
    requirements = Path(arguments[arguments.index("--requirement") + 1]).read_text()
    hashes = {line.split()[0]: line.rpartition("sha256:")[2] for line in requirements.splitlines()}
    wanted = list(hashes)
    wait("pip", wanted, Path(os.environ["TMPDIR"]) / "partial.whl")
    for each in wanted:
        # For each name one, whatever is asked for in more than one line.
        named = sorted((MACHINE / "index").glob(f"{each.replace('==', '-')}-*.whl"))
        meant = [path for path in named if hashlib.sha256(path.read_bytes()).hexdigest() == hashes[each]]
        for found in (meant or named)[:1]:
            shutil.copy(found, directory)


def main(program: str, arguments: list[str]) -> None:
    with (MACHINE / "calls").open("a") as calls:
        calls.write(" ".join([program, *arguments]) + "\n")
    for said in (MACHINE / f"say-{program}", MACHINE / f"say-{program} {arguments[0]}"):
        # What apt is told of the machine's sources needs no registry.
        if said.exists() and "indextargets" not in arguments:
            sys.exit(said.read_text())
    globals()[program.replace("-", "_")](arguments)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
