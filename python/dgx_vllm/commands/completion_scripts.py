"""What tells a shell to ask `dgx-vllm` for completions; run as a program, writes one file for each shell.

It needs no other module, so that a build for another processor can run it.
"""

import sys
from pathlib import Path

_BASH = """_dgx_vllm_completion() {
    mapfile -t COMPREPLY < <(COMP_WORDS="$(printf '%s\\n' "${COMP_WORDS[@]}")" COMP_CWORD=$COMP_CWORD \\
        _DGX_VLLM_COMPLETE=complete_bash "$1" 2> /dev/null)
    [ -n "${COMPREPLY[0]}" ] || COMPREPLY=() # readline completes paths then
}

complete -o default -F _dgx_vllm_completion dgx-vllm
"""

# zsh loads a file of this name when it first completes the command, and calls it as the function.
_ZSH = """#compdef dgx-vllm

_dgx_vllm_completion() {
    eval $(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _DGX_VLLM_COMPLETE=complete_zsh \\
        "${words[1]}" 2> /dev/null)
}

if [ "$funcstack[1]" = _dgx-vllm ]; then
    _dgx_vllm_completion "$@"
else
    compdef _dgx_vllm_completion dgx-vllm
fi
"""

_FISH = """function _dgx_vllm_completion
    set --local words (commandline --cut-at-cursor --current-process | string collect)
    set --local answers (_TYPER_COMPLETE_ARGS=$words _TYPER_COMPLETE_FISH_ACTION=get-args \\
        _DGX_VLLM_COMPLETE=complete_fish dgx-vllm 2> /dev/null)
    if string length --quiet -- $answers
        string join -- \\n $answers
    else
        __fish_complete_path (commandline --cut-at-cursor --current-token)
    end
end

complete --command dgx-vllm --no-files --arguments "(_dgx_vllm_completion)"
"""

#: Each shell's script, and where below a package's share/ the shell looks for it.
SCRIPTS = {
    "bash": (_BASH, "bash-completion/completions/dgx-vllm"),
    "zsh": (_ZSH, "zsh/site-functions/_dgx-vllm"),
    "fish": (_FISH, "fish/vendor_completions.d/dgx-vllm.fish"),
}


def write(share: Path) -> None:
    """Writes the scripts into the folders of a package's share/."""
    for script, place in SCRIPTS.values():
        file = share / place
        file.parent.mkdir(parents=True)
        file.write_text(script)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
