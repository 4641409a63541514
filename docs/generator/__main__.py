"""Every page, or part of one, that is made from the code.

    python docs/generator [--check]

It writes commands.md, environment.md, profile-keys.md and troubleshooting.md in docs/reference, and runs the
programs that write the others. `--check` writes nothing, and fails if one of these four is not current. The
others have tests of their own. The page of NixOS options needs `nix`, and is left alone without it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
REFERENCE = TREE / "docs/reference"
# The code of this tree, not that of an environment.
sys.path.insert(0, str(TREE / "python"))

import commands  # noqa: E402
import environment  # noqa: E402
import profile_keys  # noqa: E402
import troubleshooting  # noqa: E402

PAGES = {
    "commands.md": commands.page,
    "environment.md": environment.page,
    "profile-keys.md": profile_keys.page,
    "troubleshooting.md": troubleshooting.page,
}
PROGRAMS = (
    ("-m", "dgx_vllm.launch.settings.generate_options"),
    ("tests/patches/published.py",),
    ("kernels/results/document.py",),
)


def main() -> None:
    check = "--check" in sys.argv[1:]
    if not check:
        _run_programs()
    stale = [name for name, page in PAGES.items() if not _holds(REFERENCE / name, page())]
    if check and stale:
        sys.exit(f"not current: {', '.join(stale)}; run python docs/generator")
    for name in stale:
        (REFERENCE / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"docs/reference/{name}")


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _run_programs() -> None:
    """The programs that write other pages, and the expression that gives NixOS's options."""
    variables = {**os.environ, "PYTHONPATH": str(TREE / "python")}
    for program in PROGRAMS:
        subprocess.run([sys.executable, *program], cwd=TREE, env=variables, check=True)
    if nix := shutil.which("nix"):
        command = [nix, "--extra-experimental-features", "nix-command", "eval", "--raw"]
        command += ["--file", "nix/service/reference.nix", "text"]
        text = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True).stdout
        (REFERENCE / "nixos-options.md").write_text(text, encoding="utf-8")
    else:
        print("docs/reference/nixos-options.md is left alone: it needs nix", file=sys.stderr)


if __name__ == "__main__":
    main()
