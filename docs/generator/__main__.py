"""The pages of docs/reference that are made from the code.

    python docs/generator [--check]

`--check` writes nothing and fails where a page is not current.
"""

import sys
from pathlib import Path

import commands
import environment
import profile_keys
import troubleshooting

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
PAGES = {
    "commands.md": commands.page,
    "environment.md": environment.page,
    "profile-keys.md": profile_keys.page,
    "troubleshooting.md": troubleshooting.page,
}


def main() -> None:
    stale = []
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        sys.exit(f"not current: {', '.join(stale)}; run python docs/generator")
    for name in stale:
        print(name)


if __name__ == "__main__":
    main()
