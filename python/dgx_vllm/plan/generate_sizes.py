"""Writes the sizes of a published model into the package, from its config.json.

    python -m dgx_vllm.plan.generate_sizes DIRECTORY MODEL [--revision COMMIT] [--published-bytes N]

DIRECTORY holds config.json and, of older ModelOpt checkpoints, hf_quant_config.json. CONTRIBUTING.md says
when to run it.
"""

import argparse
from pathlib import Path

from dgx_vllm.plan import known_sizes, model, source
from dgx_vllm.profiles.sizes import model_sizes

_FOLDER = Path(model_sizes.__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("model", help="the Hugging Face id")
    parser.add_argument("--revision", help="the commit that config.json is of")
    parser.add_argument("--published-bytes", type=int, help="what the publisher says that the weights take")
    words = parser.parse_args()
    understood = model.understand(source.find(str(words.directory), {}, fetch=False))
    sizes = known_sizes.sizes(words.model, understood, words.revision, words.published_bytes)
    path = _FOLDER / f"{words.model.rpartition('/')[2].lower()}.toml"
    head = f"# Sizes of {words.model}, from its config.json by dgx_vllm.plan.generate_sizes.\n"
    path.write_text(head + model_sizes.to_toml(sizes), encoding="utf-8")
    print(path.name)


if __name__ == "__main__":
    main()
