"""Which of several places counts: every combination of sources, and every pair that gives way."""

import itertools
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.host.machine import GIB, Gpu, Machine, Vllm
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings import environment
from dgx_vllm.launch.settings.ranking import Source, layer, rank
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags.flags import Values

KNOWN = frozenset({"VLLM_CPU_KVCACHE_SPACE", "VLLM_API_KEY", "VLLM_CACHE_ROOT", "VLLM_HOST_IP"})

# From the highest to the lowest.
SOURCES = ("flag", "config", "extra", "environment", "profile")

# A setting that every source can give, its variable, and one value for each source.
SETTINGS: dict[str, tuple[str, dict[str, str]]] = {
    "host": (
        "HOST",
        dict(zip(SOURCES, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"], strict=True)),
    ),
    "port": ("PORT", dict(zip(SOURCES, ["1001", "1002", "1003", "1004", "1005"], strict=True))),
    "gpu-memory-utilization": (
        "GPU_MEMORY_UTIL",
        dict(zip(SOURCES, ["0.1", "0.2", "0.3", "0.4", "0.5"], strict=True)),
    ),
    "max-model-len": ("MAX_MODEL_LEN", dict(zip(SOURCES, ["11", "12", "13", "14", "15"], strict=True))),
    "max-num-seqs": ("MAX_NUM_SEQS", dict(zip(SOURCES, ["21", "22", "23", "24", "25"], strict=True))),
    "tensor-parallel-size": (
        "TENSOR_PARALLEL_SIZE",
        dict(zip(SOURCES, ["2", "3", "4", "5", "6"], strict=True)),
    ),
    "model": (
        "MODEL",
        dict(zip(SOURCES, ["o/flag", "o/config", "o/extra", "o/env", "o/profile"], strict=True)),
    ),
}
ORIGINS = {
    "config": "--config c.yaml",
    "extra": "VLLM_EXTRA_ARGS",
    "profile": "profile mine",
}


def cluster(platform: str = "cuda") -> Machine:
    vllm = Vllm("0.32.0", "cuda" if platform == "cuda" else "cpu", environment.Path("/vllm"), True)
    return Machine(
        vllm, (Gpu("A", 80 * GIB),) * 8 if platform == "cuda" else (), 100 * GIB, 8, "/env/bin/python"
    )


def plan(given: dict[str, dict[str, str]], machine: Machine | None = None, **more: Any) -> Launch:
    """A launch from values by source and name."""
    environ = {SETTINGS[name][0]: value for name, value in given.get("environment", {}).items()}
    extra = [word for name, value in given.get("extra", {}).items() for word in (f"--{name}", value)]
    if extra:
        environ["VLLM_EXTRA_ARGS"] = shlex.join(extra)
    config: Values = dict(given.get("config", {}))
    flags: Values = dict(given.get("flag", {}))
    if config:
        flags["config"] = "c.yaml"
    serve = {name: value for name, value in given.get("profile", {}).items() if name != "model"}
    profile = None
    if "profile" in given:
        model = given["profile"].get("model", "o/unused")
        profile = Profile(model=model, summary="", memory_gib=1, serve=serve, name="mine")
    request = Request(
        flags=flags, environ={**environ, **more.pop("environ", {})}, profile=profile, config=config, **more
    )
    return render(resolve(request, machine or cluster(), KNOWN))


COMBINATIONS = [
    subset for size in range(len(SOURCES) + 1) for subset in itertools.combinations(SOURCES, size)
]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("subset", COMBINATIONS, ids="+".join)
def test_the_highest_source_wins(name: str, subset: tuple[str, ...]) -> None:
    variable, values = SETTINGS[name]
    launch = plan({source: {name: values[source]} for source in subset})
    default = {"host": "127.0.0.1", "port": "8888", "model": "demo"}.get(name)
    highest = next((source for source in SOURCES if source in subset), None)
    if highest is None:
        assert launch.text(name) == default
        return
    setting = launch.settings[name]
    assert setting.text == values[highest]
    flag = "the command line" if name == "model" else f"--{name}"
    assert setting.origin == {"flag": flag, "environment": variable, **ORIGINS}[highest]
    lost = {
        each.loser.text for each in launch.overruled if each.loser.name == name and each.loser.text != default
    }
    assert lost == {values[source] for source in subset if source != highest}
    assert all(each.winner.text == values[highest] for each in launch.overruled if each.loser.name == name)


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(SOURCES),
        st.sets(st.sampled_from(sorted(set(SETTINGS) - {"model"})), min_size=1),
    )
)
def test_settings_do_not_disturb_each_other(names: dict[str, set[str]]) -> None:
    """Any mixture over all sources at once: each setting is decided as if it were alone."""
    launch = plan(
        {source: {name: SETTINGS[name][1][source] for name in chosen} for source, chosen in names.items()}
    )
    for name in SETTINGS:
        highest = next((source for source in SOURCES if name in names.get(source, ())), None)
        if highest and name != "model":
            assert launch.text(name) == SETTINGS[name][1][highest]


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(SOURCES),
        st.sets(st.sampled_from(sorted(set(SETTINGS) - {"model"})), min_size=1),
    ),
    st.sampled_from(["cuda", "cpu"]),
)
def test_the_printed_line_is_the_command(names: dict[str, set[str]], platform: str) -> None:
    given = {source: {name: SETTINGS[name][1][source] for name in chosen} for source, chosen in names.items()}
    launch = plan(given, cluster(platform))
    words = shlex.split(launch.command_line())
    assert tuple(words[-len(launch.argv) :]) == launch.argv
    prefix = words[: -len(launch.argv)]
    assert prefix[0] == "env"
    expected = ["env"]
    expected += [word for each in launch.variables if each.value is None for word in ("-u", each.name)]
    expected += [f"{each.name}={each.value}" for each in launch.variables if each.value is not None]
    assert prefix == expected


def test_empty_variables_count_as_unset() -> None:
    launch = plan({}, environ={"PORT": "", "MODEL": " ", "VLLM_EXTRA_ARGS": ""})
    assert launch.port == 8888
    assert launch.model == "demo"


def test_what_the_config_file_gives_stays_there() -> None:
    launch = plan({"config": {"port": "9000", "api-key": "secret"}, "environment": {"port": "1004"}})
    assert launch.port == 9000
    assert "--port" not in launch.argv
    assert "secret" not in launch.argv
    assert launch.argv[launch.argv.index("--config") + 1] == "c.yaml"


def test_fields_of_a_json_flag_are_laid_over_the_profiles() -> None:
    profile = Profile(
        model="o/m",
        summary="",
        memory_gib=1,
        name="mine",
        serve={"speculative-config": {"method": "mtp", "num_speculative_tokens": 2}},
    )
    request = Request({"speculative-config": {"num_speculative_tokens": 3}}, {}, profile)
    launch = render(resolve(request, cluster(), KNOWN))
    assert launch.settings["speculative-config"].value == {"method": "mtp", "num_speculative_tokens": 3}
    assert launch.settings["speculative-config"].origin == "--speculative-config over profile mine"


SHARE, BYTES = "gpu-memory-utilization", "kv-cache-memory-bytes"


@pytest.mark.parametrize("platform", ["cuda", "cpu"])
@pytest.mark.parametrize(("share", "size"), list(itertools.product(SOURCES, SOURCES)), ids=str)
def test_share_of_memory_against_bytes_of_kv_cache(platform: str, share: str, size: str) -> None:
    if size == "environment":
        return  # there is no variable for it
    given: dict[str, dict[str, str]] = {}
    given.setdefault(share, {})[SHARE] = "0.5"
    given.setdefault(size, {})[BYTES] = "1000"
    if SOURCES.index(share) < SOURCES.index(size):
        if size == "config":
            with pytest.raises(UserError, match="delete it there"):
                plan(given, cluster(platform))
            return
        launch = plan(given, cluster(platform))
        assert launch.text(SHARE) == "0.5"
        assert BYTES not in launch.settings
        assert any(
            each.loser.name == BYTES and each.winner.name == SHARE and each.why for each in launch.overruled
        )
        return
    if platform == "cuda":
        launch = plan(given, cluster(platform))
        # vLLM sizes the cache by the bytes, and still asks for the share to be free.
        assert launch.text(BYTES) == "1000"
        assert launch.text(SHARE) == "0.5"
        assert any(BYTES in note and SHARE in note for note in launch.notes)
    elif share == "config":
        with pytest.raises(UserError, match="delete it there"):
            plan(given, cluster(platform))
    else:
        launch = plan(given, cluster(platform))
        assert launch.text(BYTES) == "1000"
        assert SHARE not in launch.settings
        assert any(each.loser.name == SHARE and each.winner.name == BYTES for each in launch.overruled)


def test_the_cpu_backends_variable_ranks_as_the_environment() -> None:
    environ = {"VLLM_CPU_KVCACHE_SPACE": "2"}
    profile = {"profile": {BYTES: "1000"}}
    by_variable = plan(profile, cluster("cpu"), environ=environ)
    assert by_variable.text(BYTES) == str(2 * GIB)
    assert by_variable.settings[BYTES].origin == "VLLM_CPU_KVCACHE_SPACE"
    by_flag = plan({"flag": {BYTES: "3G"}, **profile}, cluster("cpu"), environ=environ)
    assert by_flag.text(BYTES) == "3G"
    # vLLM would let the variable beat its own flag, so the server must not see it.
    for launch in (by_variable, by_flag):
        assert "VLLM_CPU_KVCACHE_SPACE" not in launch.environ(environ)


def test_defaults_by_platform(spark: Machine) -> None:
    assert plan({}, spark).text(SHARE) == "0.75"
    assert plan({}, cluster("cuda")).text(SHARE) is None
    assert plan({}, cluster("cpu")).text(BYTES) == str(4 * GIB)


def test_the_servers_environment() -> None:
    profile = Profile(
        model="o/m",
        summary="",
        memory_gib=1,
        name="mine",
        environment={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"},
    )
    environ = {
        "OMP_NUM_THREADS": "7",
        "VLLM_EXTRA_ARGS": "--enforce-eager",
        "NOTIFY_SOCKET": "/s",
        "PATH": "/bin",
    }
    launch = render(resolve(Request({}, environ, profile), cluster(), KNOWN))
    assert launch.environ(environ) == {
        "OMP_NUM_THREADS": "7",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PATH": "/bin",
    }
    assert launch.settings["enforce-eager"].origin == "VLLM_EXTRA_ARGS"
    assert "--enforce-eager" in launch.argv
    consent = render(resolve(Request({}, {"DO_NOT_TRACK": "0"}, profile), cluster(), KNOWN))
    assert "VLLM_NO_USAGE_STATS" not in consent.environ({})
    xet = {"HF_HUB_DISABLE_XET": "0"}
    assert (
        render(resolve(Request({}, xet, profile), cluster(), KNOWN)).environ(xet)["HF_HUB_DISABLE_XET"] == "0"
    )


def test_a_text_that_begins_like_an_object_is_overruled_like_any() -> None:
    template = "{% for message in messages %}{{ message }}{% endfor %}"
    below = layer({"chat-template": template}, Source.CONFIG_FILE)
    above = layer({"chat-template": "a.jinja"}, Source.FLAG)
    winners, overruled = rank([above, below])
    assert winners["chat-template"].value == "a.jinja"
    assert [each.loser.value for each in overruled] == [template]


def test_one_machine_keeps_to_loopback() -> None:
    assert plan({}).environ({})["VLLM_HOST_IP"] == "127.0.0.1"
    assert plan({}, environ={"VLLM_HOST_IP": "10.0.0.1"}).environ({"VLLM_HOST_IP": "10.0.0.1"})[
        "VLLM_HOST_IP"
    ] == ("10.0.0.1")
    two = plan({"flag": {"nnodes": "2"}}).environ({})
    assert "VLLM_HOST_IP" not in two
    assert "GLOO_SOCKET_IFNAME" not in two


def test_secrets_are_named_not_shown() -> None:
    launch = plan({"flag": {"api-key": "s3cret"}})
    assert launch.argv[launch.argv.index("--api-key") + 1] == "s3cret"
    assert "s3cret" not in launch.command_line()
    assert '"$VLLM_API_KEY"' in launch.command_line()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"api-key": ("-s3cret",)}, '--api-key="$VLLM_API_KEY"'),
        ({"api-key": ("s3cret", "s3cret.2")}, '--api-key "$VLLM_API_KEY" "$VLLM_API_KEY"'),
        ({"hf-token": "-s3cret"}, '--hf-token="$HF_TOKEN"'),
        ({"hf-token": "s3cret in words"}, '--hf-token "$HF_TOKEN"'),
        ({"hf-token": True}, "--hf-token --"),
        ({"hf-token": ""}, "--hf-token '' --"),
    ],
    ids=str,
)
def test_no_spelling_of_a_secret_shows_it(given: Values, shown: str) -> None:
    request = Request(flags={**given, "served-model-name": ("on",)}, environ={})
    line = render(resolve(request, cluster(), KNOWN)).command_line()
    assert shown in line
    assert "s3cret" not in line
    assert "--served-model-name on" in line


def test_the_module_stands_in_for_the_missing_command() -> None:
    lacking = cluster("cpu")
    lacking = replace(lacking, vllm=replace(lacking.vllm, has_command=False))
    assert plan({"flag": {"model": "o/m"}}, lacking).argv[:6] == (
        "/env/bin/python",
        "-P",
        "-m",
        "vllm.entrypoints.launchers.api_server.entry",
        "--model",
        "o/m",
    )
    assert plan({"flag": {"model": "o/m"}}).argv[:6] == (
        "/env/bin/python",
        "-P",
        "-m",
        "vllm.entrypoints.cli.main",
        "serve",
        "o/m",
    )
    with pytest.raises(UserError, match="--api-server-count needs the `vllm serve` command"):
        plan({"flag": {"api-server-count": "2"}}, lacking)
