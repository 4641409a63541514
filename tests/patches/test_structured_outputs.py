"""0005: a request has the backend that its validation chose; what cannot be honoured is refused."""

import json
from concurrent.futures import wait
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from vllm.config import ModelConfig, StructuredOutputsConfig, VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_types import StructuredOutputOptions
from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend, XgrammarGrammar

from dgx_vllm.demo.paths import CHECKPOINT

EVEN = {"type": "integer", "multipleOf": 2}  # XGrammar has no multipleOf
UNICODE = {"type": "string", "pattern": r"^\p{L}+$"}
NEGATIVE = {"type": "string", "minLength": -5}  # passes XGrammar's parser, and not its compiler


@pytest.fixture(scope="module")
def config() -> VllmConfig:
    arguments = EngineArgs(model=str(CHECKPOINT), max_num_seqs=4, kv_cache_memory_bytes=2**24)
    return arguments.create_engine_config()


@pytest.fixture
def model(config: VllmConfig) -> ModelConfig:
    return config.model_config


def validated(model: ModelConfig, backend: str, **asked: Any) -> SamplingParams:
    """What vLLM does with a request before the engine sees it."""
    params = SamplingParams(max_tokens=8, structured_outputs=StructuredOutputsParams(**asked))
    tokenizer = cached_tokenizer_from_config(model)
    params._validate_structured_outputs(model, StructuredOutputsConfig(backend=backend), tokenizer)
    return params


def compiled(manager: StructuredOutputManager, params: SamplingParams, name: str) -> Request:
    """A request whose grammar is ready, or has failed."""
    request = Request(name, [1], params, None)
    manager.grammar_init(request)
    assert request.structured_output_request is not None
    grammar = request.structured_output_request._grammar
    if hasattr(grammar, "result"):
        wait([grammar], timeout=300)
    return request


def kind(request: Request) -> str:
    assert request.structured_output_request is not None
    return type(request.structured_output_request.grammar).__name__


@pytest.mark.usefixtures("plugin")
def test_each_request_is_compiled_by_the_backend_that_took_it(config: VllmConfig, model: ModelConfig) -> None:
    manager = StructuredOutputManager(config)
    asked = [
        {"json": {"type": "integer"}},
        {"json": EVEN},
        {"json": UNICODE},
        {"choice": ["1"]},
        {"json": EVEN},
    ]
    params = [validated(model, "auto", **each) for each in asked]
    requests = [compiled(manager, each, str(place)) for place, each in enumerate(params)]
    kinds = ["XgrammarGrammar", "GuidanceGrammar", "GuidanceGrammar", "XgrammarGrammar", "GuidanceGrammar"]
    assert [kind(each) for each in requests] == kinds
    by_id = {each.request_id: each for each in requests[:4]}
    masks = manager.grammar_bitmask(by_id, list(by_id), {})
    assert masks is not None
    # Each row lets something through, and not everything.
    allowed = np.unpackbits(masks.view(np.uint8), axis=1).sum(axis=1)
    assert all(0 < count < model.get_vocab_size() for count in allowed)
    manager.clear_backend()


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("backend", ["auto", "xgrammar"])
@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"json": {"type": "string", "pattern": "^(?!a).*$"}}, "look-a"),
        ({"json": {"type": "integer", "not": {"const": 1}}}, "not"),
        ({"regex": "(?!1)[0-9]"}, "ook-?a"),
        ({"regex": "(["}, "nclosed"),
        ({"grammar": "root ::= "}, "Expect element"),
        ({"grammar": 'root ::= ("a"'}, "Expect"),
        ({"grammar": "root ::= other"}, "other"),
        ({"grammar": 'start: "a" b'}, "unknown name"),
        (
            {"structural_tag": json.dumps({"type": "structural_tag", "format": {"type": "other"}})},
            "other|triggers",
        ),
        ({"choice": []}, "empty list"),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused_with_the_reason(
    model: ModelConfig, backend: str, asked: dict[str, Any], reason: str
) -> None:
    with pytest.raises(VLLMValidationError, match=reason):
        validated(model, backend, **asked)


@pytest.mark.usefixtures("plugin")
def test_a_unicode_class_is_xgrammars_limit_alone(model: ModelConfig) -> None:
    with pytest.raises(VLLMValidationError, match=r"\\p"):
        validated(model, "xgrammar", json=UNICODE)
    taken = validated(model, "auto", json=UNICODE).structured_outputs
    assert taken is not None
    assert taken._backend == "guidance"


def test_a_tag_without_whitespace_has_little_in_its_documents(config: VllmConfig) -> None:
    """The model of a demonstration would write blanks up to its limit."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    content = {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": None}
    tag = json.dumps({"type": "structural_tag", "format": {"type": "sequence", "elements": [content]}})
    config = replace(
        config,
        structured_outputs_config=replace(
            config.structured_outputs_config, backend="xgrammar", disable_any_whitespace=True
        ),
    )
    backend = XgrammarBackend(
        config, cached_tokenizer_from_config(config.model_config), config.model_config.get_vocab_size()
    )
    grammar = backend.compile_grammar(StructuredOutputOptions.STRUCTURAL_TAG, tag)
    assert isinstance(grammar, XgrammarGrammar)
    assert not grammar.matcher.accept_string('{  "a"')
    grammar.reset()
    assert grammar.matcher.accept_string('{"a":1}')


@pytest.mark.parametrize("backend", ["xgrammar", "guidance"])
def test_a_failure_to_compile_is_the_requests(config: VllmConfig, backend: str) -> None:
    """Not an answer without a constraint, nor one that ends at once."""
    manager = StructuredOutputManager(config)
    params = SamplingParams(structured_outputs=StructuredOutputsParams(json=NEGATIVE))
    assert params.structured_outputs is not None
    params.structured_outputs._backend = backend
    request = compiled(manager, params, "a")
    assert request.structured_output_request is not None
    assert isinstance(request.structured_output_request.grammar, Exception)
    manager.clear_backend()


def test_the_client_hears_why_its_grammar_failed(model: ModelConfig) -> None:
    """What the scheduler says of a request that ends in an error reaches `generate` as the client's fault."""
    processor = OutputProcessor(cached_tokenizer_from_config(model), log_stats=False)
    params = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY)
    params.update_from_generation_config({}, 1)
    request = EngineCoreRequest(
        request_id="a",
        external_req_id="a",
        prompt_token_ids=[1],
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    queue = RequestOutputCollector(RequestOutputKind.FINAL_ONLY, "a")
    processor.add_request(request, None, queue=queue)
    failed = EngineCoreOutput("a", [], finish_reason=FinishReason.ERROR, stop_reason="Lower bound is larger")
    processor.process_outputs([failed])
    with pytest.raises(VLLMValidationError, match="Invalid structured output: Lower bound is larger"):
        queue.get_nowait()
    assert processor.get_num_unfinished_requests() == 0
