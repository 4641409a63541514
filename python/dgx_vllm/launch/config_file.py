"""vLLM's `--config FILE.yaml`: which settings the file gives, so that they can be ranked and checked."""

import json
from pathlib import Path
from typing import Any

from dgx_vllm.errors import UserError
from dgx_vllm.launch import flags
from dgx_vllm.launch.flags import Value, Values


def read(path: str) -> Values:
    """The file's settings by flag name.

    Raises:
        UserError: the file cannot be read, is not a YAML mapping, or names a flag that vLLM lacks.
    """
    import yaml  # vLLM's own parser for it; imported only where a file is given

    if Path(path).suffix not in (".yaml", ".yml"):
        raise UserError(f"--config {path}: vLLM reads .yaml or .yml files only")
    try:
        fields = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} is not valid YAML: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"--config {path} must hold `flag: value` lines")
    values: Values = {}
    for key, field in fields.items():
        origin = f"--config {path}, {key}"
        flag = flags.load().require(str(key), origin)
        if flag.name == "config":
            raise UserError(f"{origin}: a config file cannot name another")
        values[flag.name] = _value(field)
        flag.check(values[flag.name], origin)
    return values


def _value(field: Any) -> Value:
    """As vLLM's `load_config_file` turns YAML into words."""
    if isinstance(field, bool):
        return field
    if isinstance(field, dict):
        return json.dumps(field)
    return tuple(str(item) for item in field) if isinstance(field, list) else str(field)
