"""`dgx-vllm plan`: what it prints, draws, and refuses."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shapes import QWEN3_NEXT, QWEN3_NEXT_NVFP4

from dgx_vllm.host import machine, meminfo
from dgx_vllm.host import spark as sparks
from dgx_vllm.host.machine import Machine
from dgx_vllm.plan import gb10

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(run: Run, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, laptop: Machine) -> Run:
    """`dgx-vllm plan` in this process, offline: its status, output and errors."""
    environment["HF_HUB_OFFLINE"] = "1"

    def call(*words: str, on: Machine = laptop) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.setattr(machine, "detect", lambda: on)
            return run("plan", *words)

    return call


def write(tmp_path: Path, config: dict[str, Any]) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return str(path)


def test_the_tables_hold_the_published_figures(plan: Run, config_file: Path) -> None:
    status, out, err = plan(str(config_file), "--kv-cache-dtype", "fp8")
    assert (status, err) == (0, "")
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]
    assert ["GDN in_proj_qkvz", "BF16", "906.0", "1,811.9", "3.8%"] in rows
    assert ["total", "4,252.7"] in rows
    assert ["keys and values of one token", "12,288", "fp8: --kv-cache-dtype"] in rows
    assert ["available", "128.53", f"{sparks.large()}; on one, MemAvailable counts"] in rows
    assert any(row[:1] == ["262,144"] for row in rows)
    assert "predicted for a GB10, not measured" in out


def test_a_drafts_experts_that_are_made_nvfp4(plan: Run, config_file: Path) -> None:
    words = (str(config_file), "--drafts", "1", "--dense-dtype", "fp8")
    read = []
    for more in ([], ["--moe-backend", "dgx"]):
        status, out, err = plan(*words, *more)
        assert (status, err) == (0, "")
        read += [line for line in out.splitlines() if "MTP layers, loaded" in line]
    assert ["NVFP4" in line for line in read] == [False, True]


def test_json_says_the_same(plan: Run, config_file: Path) -> None:
    status, out, _ = plan(str(config_file.parent), "--kv-cache-dtype", "fp8", "--memory", "100GB", "--json")
    assert status == 0
    said = json.loads(out)
    assert sum(each["bytes"] for each in said["decode"]["bytes_by_part"]) == pytest.approx(4252.7e6, rel=1e-4)
    memory = said["memory"]
    assert memory["available"] == 100 * 10**9
    assert memory["kv_cache"] == (
        memory["available"]
        - memory["reserve"]
        - memory["weights"]
        - sum(each["bytes"] for each in memory["overheads"])
    )
    assert said["decode"]["predicted"] is True
    assert [each["drafts"] for each in said["decode"]["drafts"]] == [0, 1, 2, 3]


def test_launches_decide_the_overhead(plan: Run, config_file: Path) -> None:
    """As many as stock settings have mean what the constant means, half of them half of it."""

    def overhead(*words: str) -> float:
        _, out, _ = plan(str(config_file), "--json", *words)
        return json.loads(out)["decode"]["overhead_seconds_per_layer"]

    stock = str(gb10.STOCK_LAUNCHES)
    assert overhead("--launches", stock) == pytest.approx(overhead())
    assert overhead("--launches", str(gb10.STOCK_LAUNCHES // 2)) == pytest.approx(overhead() / 2)
    _, out, _ = plan(str(config_file), "--launches", stock)
    assert f"as if {stock} launches took" in out


def test_on_a_spark_mem_available_counts(
    plan: Run, config_file: Path, spark: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meminfo, "available", lambda: 101 * 10**9)
    _, out, _ = plan(str(config_file), "--json", on=spark)
    assert json.loads(out)["memory"]["available"] == 101 * 10**9
    _, out, _ = plan(str(config_file), "--json", "--memory", "50GiB", on=spark)
    assert json.loads(out)["memory"]["available"] == 50 * 2**30


SPELT = [f"{gb}{unit}" for gb in (64, 128) for unit in ("GB", " GB", "gb", " gb", "Gb", "gB", "G", "g", " G")]


@pytest.mark.parametrize("text", [*SPELT, " 64GB ", "064GB"])
def test_a_sparks_label_means_what_the_system_sees_of_its_memory(
    plan: Run, config_file: Path, text: str
) -> None:
    size = sparks.large() if "128" in text else sparks.small()
    status, out, err = plan(str(config_file), "--json", "--memory", text)
    assert (status, err) == (0, "")
    memory = json.loads(out)["memory"]
    assert (memory["available"], memory["origin"]) == (size.visible, str(size))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64GiB", 64 * 2**30),
        ("128GiB", 128 * 2**30),
        ("64.0GB", 64 * 10**9),
        ("64000MB", 64 * 10**9),
        ("64000000000", 64 * 10**9),
        ("60GB", 60 * 10**9),
        ("63GB", 63 * 10**9),
        ("65GB", 65 * 10**9),
        ("256GB", 256 * 10**9),
    ],
)
def test_any_other_amount_is_one_of_bytes(plan: Run, config_file: Path, text: str, count: int) -> None:
    memory = json.loads(plan(str(config_file), "--json", "--memory", text)[1])["memory"]
    assert (memory["available"], memory["origin"]) == (count, "--memory")


def test_the_memory_table_says_which_spark_and_that_its_memory_is_inferred(
    plan: Run, config_file: Path
) -> None:
    out = plan(str(config_file), "--memory", "64 GB")[1]
    assert "59.81   a Spark of 64 GB, of which about 55.7 GiB are visible; inferred, not measured" in out
    assert (
        "128.53   a Spark of 128 GB, of which 119.7 GiB are visible "
        in plan(str(config_file), "--memory", "128 GB")[1]
    )


@pytest.mark.parametrize("label", ["64GB", "128GB"])
def test_on_a_spark_the_other_size_can_be_planned_for(
    plan: Run, config_file: Path, spark: Machine, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meminfo, "available", lambda: 50 * 10**9)
    memory = json.loads(plan(str(config_file), "--json", "--memory", label, on=spark)[1])["memory"]
    assert memory["available"] == (sparks.small() if label == "64GB" else sparks.large()).visible


def test_what_does_not_fit_is_said(plan: Run, config_file: Path) -> None:
    status, out, _ = plan(str(config_file), "--memory", "40GB")
    assert status == 0
    assert "It does not fit" in out
    assert "sequences that fit" not in out


def test_the_demo_is_planned_by_its_files_headers(plan: Run) -> None:
    status, out, err = plan("demo")
    assert (status, err) == (0, "")
    assert "Weights by the files' headers" in out


def test_a_plan_is_drawn_as_svg_and_png(plan: Run, config_file: Path, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("plan.svg", "plan.png"):
        status, _, err = plan(str(config_file), "--plot", str(tmp_path / name))
        assert (status, err) == (0, "")
    root = ElementTree.parse(tmp_path / "plan.svg").getroot()
    assert root.tag.endswith("svg")
    text = "".join(root.itertext())
    assert "GDN" in text
    assert "1,811.9" in text
    assert "http" not in (tmp_path / "plan.svg").read_text().replace("http://www.w3.org/2000/svg", "")
    with Image.open(tmp_path / "plan.png") as image:
        assert image.size > (800, 400)
        assert len(image.getcolors(1 << 20) or []) > 2


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "no model_type"),
        ({"model_type": "brand_new"}, "model_type 'brand_new'"),
        ({name: value for name, value in QWEN3_NEXT.items() if name != "hidden_size"}, "lacks hidden_size"),
        (
            {name: value for name, value in QWEN3_NEXT.items() if name != "linear_num_key_heads"},
            "lacks linear_num_key_heads",
        ),
        ({**QWEN3_NEXT, "num_hidden_layers": "many"}, "'many', which is not a count"),
        ({**QWEN3_NEXT, "num_hidden_layers": 0}, "a size is at least 1"),
        ({**QWEN3_NEXT, "layer_types": ["full_attention"]}, "1 layer_types for 48 layers"),
        ({**QWEN3_NEXT, "dtype": "int3"}, "dtype 'int3'"),
        ({**QWEN3_NEXT, "quantization_config": {"quant_method": "magic"}}, "quantization 'magic' is unknown"),
        ({**QWEN3_NEXT, "quantization_config": {"quant_method": "modelopt"}}, "quant_algo is missing"),
        (
            {**QWEN3_NEXT, "quantization_config": {"quant_method": "modelopt", "quant_algo": "FP3"}},
            "quant_algo FP3 is unknown",
        ),
        ({**QWEN3_NEXT, "quantization_config": {"quant_method": "awq", "group_size": 1}}, "w_bit is missing"),
        ({**QWEN3_NEXT, "quantization_config": [1]}, "is not a JSON object"),
        ({"model_type": "nemotron_h", "hidden_size": 64, "vocab_size": 9}, "lacks hybrid_override_pattern"),
    ],
)
def test_bad_configs_are_one_line_with_a_remedy(
    plan: Run, tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    status, out, err = plan(write(tmp_path, config))
    assert status == 2
    assert out == ""
    assert err.startswith("dgx-vllm: ")
    assert err.count("\n") == 1
    assert says in err
    assert ";" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["/nowhere/at/all"], "does not exist; give"),
        (["not an id"], "neither a directory or file that exists"),
        (["owner/name"], "is not in"),
        (["CONFIG", "--memory", "much"], "not an amount of memory"),
        (["CONFIG", "--memory-reserve", "-1"], "not an amount of memory"),
        (["CONFIG", "--plot", "plan.pdf"], "neither .svg nor .png"),
        (["CONFIG", "--plot", "/nowhere/plan.svg"], "No such file"),
        (["CONFIG", "--kv-cache-dtype", "int3"], "'int3' is unknown"),
        (["CONFIG", "--moe-backend", "dgy"], "--moe-backend: 'dgy' is not one of its values"),
        (["CONFIG", "--acceptance", "2.4"], "give one from 0 to 1 for each drafted token, none above"),
        (["CONFIG", "--acceptance", "0.5,0.6"], "none above the one before"),
        (["CONFIG", "--acceptance", "0.5,"], "not a list of shares"),
        (["CONFIG", "--acceptance", "nan"], "not a list of shares"),
        (["CONFIG", "--drafts", "2", "--acceptance", "0.8"], "does not cover draft 2"),
        (["CONFIG", "--context", "0"], "--context"),
        (["CONFIG", "--frobnicate"], "--frobnicate"),
        ([], "MODEL"),
    ],
)
def test_bad_words_are_one_line_too(plan: Run, config_file: Path, words: list[str], says: str) -> None:
    status, out, err = plan(*[str(config_file) if word == "CONFIG" else word for word in words])
    assert status in (1, 2)
    assert out == ""
    assert err.count("\n") == 1, err
    assert says in err


def test_more_drafts_than_are_safe_are_planned_with_the_risk(plan: Run, config_file: Path) -> None:
    status, out, err = plan(str(config_file), "--acceptance", "0.9,0.8,0.7,0.6,0.5")
    assert status == 0
    assert "vllm#37035" in err
    assert out


def test_damaged_files_are_refused(plan: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert "truncated" in plan(str(tmp_path))[2]
    write(tmp_path, QWEN3_NEXT_NVFP4)
    (tmp_path / "model.safetensors").write_bytes(b"\x00\x00\x00\x00\x00\x00\x00\x7f{}")
    status, _, err = plan(str(tmp_path))
    assert status == 2
    assert "truncated" in err
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert "no weight_map" in plan(str(tmp_path))[2]


def test_a_download_under_way_is_planned_by_its_config(plan: Run, tmp_path: Path) -> None:
    write(tmp_path, QWEN3_NEXT_NVFP4)
    (tmp_path / "part-1.safetensors").write_bytes(b"")
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    status, out, _ = plan(str(tmp_path))
    assert status == 0
    assert "config.json, not the files" in out


def test_the_cache_of_the_hub_is_looked_into(plan: Run, environment: dict[str, str]) -> None:
    repository = Path(environment["HF_HOME"], "hub", "models--owner--name")
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text(json.dumps(QWEN3_NEXT_NVFP4))
    status, out, err = plan("owner/name")
    assert (status, err) == (0, "")
    assert "79.7 billion parameters" in out


def test_the_hub_is_asked_for_what_is_not_here(
    plan: Run, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both files are fetched, through huggingface_hub, into the cache that the environment names."""
    import huggingface_hub

    asked = []

    def download(model: str, name: str, cache_dir: Path, revision: str | None = None) -> str:
        asked.append((model, name, cache_dir))
        path = tmp_path / name
        config = QWEN3_NEXT if name == "config.json" else {"quantization": {"quant_algo": "FP8"}}
        path.write_text(json.dumps(config))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    names = ("config.json", "hf_quant_config.json", "model.safetensors")
    listed = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: listed)
    status, out, err = plan("owner/name", "--json")
    assert (status, err) == (0, "")
    assert {each["precision"] for each in json.loads(out)["weights"]} == {"BF16", "F32", "FP8"}
    cache = Path(environment["HF_HOME"], "hub")
    assert asked == [("owner/name", name, cache) for name in ("config.json", "hf_quant_config.json")]
