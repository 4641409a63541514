"""The additional config: the vLLM setting that takes the dense dtype to the plugin.

`--dense-dtype` or a profile gives the dtype, or the user writes it into vLLM's JSON himself.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from dgx_vllm.formats import dense_dtype
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.launch.settings.ranking import Layer, Source, layer
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags.flags import Values

_NAME = "additional-config"


@dataclass(frozen=True)
class DenseDtype:
    """The dtype that `--dense-dtype` or the profile names.

    Args:
        dtype: the dtype.
        layer: the setting that asks the plugin for it; empty where nothing is quantized.
    """

    dtype: Dtype
    layer: Layer


def named(option: Dtype | None, profile: Profile | None) -> DenseDtype:
    """The dtype of `--dense-dtype` or, without it, of the profile."""
    dtype = option or (profile.dense_dtype if profile else "bf16")
    config = dense_dtype.additional_config(dtype)
    if config is None:
        return DenseDtype(dtype, {})
    values: Values = {_NAME: json.dumps(config)}
    if option or profile is None:
        return DenseDtype(dtype, layer(values, Source.FLAG, f"--dense-dtype {dtype}"))
    return DenseDtype(dtype, layer(values, Source.PROFILE, f"profile {profile.name}"))


def check(layers: Iterable[Layer], option: Dtype | None) -> None:
    """Refuses `--dense-dtype` together with a setting that it would replace, or that quantizes too.

    Args:
        layers: what the user gives, the highest source first.
        option: the value of `--dense-dtype`.

    Raises:
        UserError: names both.
    """
    settings: Layer = {}
    for layer_settings in layers:
        settings = {**layer_settings, **settings}
    quantization = settings.get("quantization-config")
    if quantization and option is not None:
        raise UserError(
            f"--dense-dtype {option} and {quantization.origin} both say what is quantized; keep one"
        )
    own, config = settings.get(_NAME), dense_dtype.additional_config(option or "bf16")
    if own and config:
        raise UserError(
            f"--dense-dtype {option} would replace {own.origin}: "
            f"put {json.dumps(config)[1:-1]} into the latter, and leave out the former"
        )


def effective(settings: Layer, default: DenseDtype) -> Dtype:
    """The dtype that the plugin will read.

    Args:
        settings: what counts, by name.
        default: the dtype that holds where the user writes no additional config.

    Raises:
        UserError: the user's additional config is not JSON, or names an unknown dtype.
    """
    setting = settings.get(_NAME)
    if setting is None:
        return "bf16"
    if setting == default.layer.get(_NAME):
        return default.dtype
    if isinstance(setting.value, dict):
        fields = setting.value
    else:
        try:
            fields = json.loads(setting.text)
        except ValueError as error:
            raise UserError(
                f"{setting.origin}: additional_config must be a JSON object, not {setting.text!r}"
            ) from error
    try:
        return dense_dtype.requested(fields)
    except ValueError as error:
        raise UserError(f"{setting.origin}: {error}") from error
