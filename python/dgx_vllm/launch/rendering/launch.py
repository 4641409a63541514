"""The launch: what will be run, and why."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dgx_vllm.checkpoints.speculators import Speculator
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.launch.settings.protection import Protection
from dgx_vllm.launch.settings.ranking import Overruled, Setting
from dgx_vllm.launch.settings.secret import SECRET_FLAGS
from dgx_vllm.profiles.profile import Profile


@dataclass(frozen=True)
class Variable:
    """An environment variable that the launcher sets or, with value None, unsets."""

    name: str
    value: str | None
    why: str


@dataclass(frozen=True)
class Launch:
    """What will be run.

    Args:
        argv: the server's command.
        variables: how its environment differs from the launcher's.
        settings: every setting that counts, by name.
        overruled: what was given and does not count.
        notes: what else the user should know.
        profile: the profile applied.
        refusal: why it must not be started on this machine now, None if it may.
        protection: when the running server refuses work and when it is ended.
        options: the launcher's own.
        key_file: the file that holds the key that clients must give, None where it came otherwise.
        speculator: what the model says of another one that is served in its place.
    """

    argv: tuple[str, ...]
    variables: tuple[Variable, ...]
    settings: Mapping[str, Setting]
    overruled: tuple[Overruled, ...]
    notes: tuple[str, ...]
    profile: Profile | None
    refusal: str | None = None
    protection: Protection = field(default_factory=Protection)
    options: Options = field(default_factory=Options)
    key_file: str | None = None
    speculator: Speculator | None = None

    @property
    def host(self) -> str:
        return self.settings["host"].text

    @property
    def port(self) -> int:
        return int(self.settings["port"].text)

    @property
    def model(self) -> str:
        """What vLLM loads: a directory or a hub id."""
        return self.settings["model"].text

    @property
    def called(self) -> str:
        """The model by its profile's name for it, where what vLLM loads is that profile's."""
        profile = self.profile
        return profile.model if profile and self.model == profile.argument else self.model

    def text(self, name: str) -> str | None:
        """A setting as text, None if nobody gave it."""
        return self.settings[name].text if name in self.settings else None

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """The server's whole environment, on top of the launcher's."""
        environ = dict(base)
        for variable in self.variables:
            if variable.value is None:
                environ.pop(variable.name, None)
            else:
                environ[variable.name] = variable.value
        return environ

    def command_line(self) -> str:
        """One shell line that runs the same command; secrets are named, not shown."""
        variables = [f"-u {variable.name}" for variable in self.variables if variable.value is None]
        variables += [
            f"{variable.name}={shlex.quote(variable.value)}"
            for variable in self.variables
            if variable.value is not None
        ]
        replacements = {
            word: replacement
            for name, variable in SECRET_FLAGS.items()
            if name in self.settings
            for word, replacement in _hide_secret(self.settings[name], variable)
        }
        words = [replacements.get(word) or shlex.quote(word) for word in self.argv]
        return " ".join([*(["env", *variables] if variables else []), *words])


def _hide_secret(setting: Setting, variable: str) -> Iterator[tuple[str, str]]:
    """Each word of the command that shows a secret, and what names it instead."""
    for word in setting.words:
        flag, equals, _ = word.partition("=")
        if flag != f"--{setting.name}":
            if word:
                yield word, f'"${variable}"'
        elif equals:
            yield word, f'{flag}="${variable}"'
