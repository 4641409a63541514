"""The table of the launcher's own options, and all that is made from it."""

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import typer

from dgx_vllm import cli
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.launch.settings import generate_options, option_table
from dgx_vllm.launch.settings.option_table import Option
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.service import passed_options, units
from dgx_vllm.service.instance import Instance

PAGE = Path(__file__).resolve().parents[3] / "docs/reference/serve-options.md"
TABLE = option_table.load()
OF_INSTANCE = option_table.of("nixos")


def command(name: str) -> Any:
    return typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]


def parsed(name: str, words: list[str]) -> dict[str, Any]:
    return command(name).make_context(name, words).params


def value(option: Option) -> Any:
    """One that is not the default."""
    text = option.nixos.get("example", True)
    return Path(text) if option.type in ("file", "directory", "secret-file") else text


def called(option: Option) -> str:
    return option.name


# --- what is made from the table


def test_the_class_of_the_options_is_the_tables() -> None:
    """`python -m dgx_vllm.launch.settings.generate_options` makes it anew."""
    assert generate_options.MODULE.read_text(encoding="utf-8") == generate_options.module(TABLE)


def test_the_page_of_the_options_is_the_tables() -> None:
    """`python -m dgx_vllm.launch.settings.generate_options` makes it anew."""
    assert PAGE.read_text(encoding="utf-8") == generate_options.page(TABLE)


def test_serve_has_every_option_with_its_help() -> None:
    shown = {each.name: each for each in command("serve").params}
    assert [shown[option.field].help for option in TABLE] == [option.described for option in TABLE]
    assert [shown[option.field].opts for option in TABLE] == [[option.flag] for option in TABLE]


def test_install_service_has_the_options_that_the_table_gives_it() -> None:
    shown = {name for each in command("install-service").params for name in each.opts}
    others = {option.flag for option in TABLE if "install-service" not in option.also}
    assert {option.flag for option in option_table.of("install-service")} <= shown
    assert others & shown == {"--dry-run"}  # of its own


def test_serve_without_options_has_the_defaults() -> None:
    assert Options(**parsed("serve", [])) == Options()


def test_serve_takes_fractions_of_seconds_and_a_service_whole_ones() -> None:
    assert parsed("serve", ["--watchdog", "1.5"])["watchdog"] == 1.5
    with pytest.raises(typer.TyperException, match="valid integer"):
        parsed("install-service", ["--watchdog", "1.5"])


@pytest.mark.parametrize("option", option_table.of("install-service"), ids=called)
def test_a_unit_gives_serve_the_option_that_install_service_was_given(option: Option) -> None:
    options = Options(**{option.field: value(option)})
    assert options != Options()
    instance = Instance(
        name="main", command="dgx-vllm", options=options, extra_args=passed_options.other_words(options)
    )
    service = units.units(instance)["dgx-vllm-main.service"].service
    words = [word.strip('"') for word in service["ExecStart"].split()]
    got = Options(**parsed("serve", words[2:]))
    if option.type == "secret-file":
        path = getattr(got, option.field)
        assert str(path) == f"%d/{option.name.removesuffix('-file')}"
        assert service["LoadCredential"] == [f"{path.name}:{value(option)}"]
    else:
        assert getattr(got, option.field) == value(option)


# --- the table itself


@pytest.mark.parametrize(
    ("fields", "described"),
    [
        ({}, "Seconds to wait."),
        ({"default": 120}, "Seconds to wait (default: 120)."),
        ({"default": 120, "zero": "never"}, "Seconds to wait (default: 120; 0: never)."),
        ({"default": 0, "zero": "for ever"}, "Seconds to wait (default: 0, for ever)."),
        ({"default_text": "the model's"}, "Seconds to wait (default: the model's)."),
    ],
)
def test_the_default_stands_behind_the_help(fields: dict[str, Any], described: str) -> None:
    assert Option(name="wait", type="seconds", help="Seconds to wait.", **fields).described == described


def test_the_choices_of_dense_dtype_are_the_types_that_there_are() -> None:
    (option,) = (option for option in TABLE if option.name == "dense-dtype")
    assert option.choices == get_args(Dtype)


@pytest.mark.parametrize("option", TABLE, ids=called)
def test_a_help_is_one_sentence(option: Option) -> None:
    assert option.help[0].isupper() or option.help.startswith("/")
    assert option.help.endswith(".")
    assert ". " not in option.help
    assert len(option.help.split()) <= 20


@pytest.mark.parametrize("option", OF_INSTANCE, ids=called)
def test_an_option_of_nixos_has_an_example_or_says_whether(option: Option) -> None:
    assert "install-service" in option.also
    if option.type == "flag":
        assert option.nixos["description"].startswith("Whether ")
    else:
        assert option.nixos["example"] != option.default


@pytest.mark.parametrize("option", option_table.of("profile"), ids=called)
def test_an_option_of_profiles_is_one_of_their_keys(option: Option) -> None:
    assert option.field in {field.name for field in msgspec.structs.fields(Profile)}


def test_an_unknown_key_of_the_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "options.toml"
    file.write_text('[[option]]\nname = "a"\ntype = "flag"\nhelp = "Do it."\ntyp = 1\n')
    monkeypatch.setattr(option_table, "FILE", file)
    with pytest.raises(TypeError, match="typ"):
        option_table.load.__wrapped__()
