"""The released checkpoint: a torch file, read as data only, and checked against the names and shapes it must have."""

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from uoe_model.errors import CheckpointError
from uoe_model.reference.classifier import ReferenceClassifier

MAX_BYTES: Final = 64 << 20
"""Largest file that is read; the released one has 1.5 MB."""

ROOT: Final = "model_state_dict"


def load_reference(path: Path | str, *, max_bytes: int = MAX_BYTES) -> ReferenceClassifier:
    """Read a checkpoint of the released classifier.

    Only tensors are read (`weights_only`); a file that would run code is refused by torch.

    Raises:
        CheckpointError: missing, too large, no torch file, or not the released classifier.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise CheckpointError(f"{path.name} has {size >> 20} MB: at most {max_bytes >> 20} MB are read.")
        _check_archive(path, max_bytes)
        content = torch.load(path, map_location="cpu", weights_only=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name} is not there: give the released checkpoint's file.") from error
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise CheckpointError(
            f"{path.name} is no torch file of plain tensors: give the released checkpoint (uoe_listops.model)."
        ) from error
    parameters = content.get(ROOT) if isinstance(content, dict) else None
    if not isinstance(parameters, dict) or not all(isinstance(value, Tensor) for value in parameters.values()):
        raise CheckpointError(f"{path.name} holds no {ROOT!r} of tensors: it is not the released classifier.")
    problems = _problems(parameters)
    if problems:
        raise CheckpointError(f"{path.name} is not the released classifier: {'; '.join(problems[:4])}.")
    return ReferenceClassifier(parameters=parameters, name=path.stem, digest=digest)


def _check_archive(path: Path, max_bytes: int) -> None:
    """The released file is a zip, as torch has written them for years; a zip may be small and unpack to much."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > max_bytes:
            raise CheckpointError(f"{path.name} unpacks to more than {max_bytes >> 20} MB: it is not read.")


def _problems(parameters: dict[str, Tensor]) -> list[str]:
    layers = sum(key.endswith(".norm1.weight") for key in parameters)
    try:
        sizes = _sizes(parameters)
    except (KeyError, IndexError, ValueError) as error:
        return [f"{error} is missing or has another number of axes"]
    expected = {**_outside(sizes)}
    for layer in range(max(layers, 1)):
        expected |= {f"model.transformer_{layer}.{key}": shape for key, shape in _layer(sizes).items()}
    problems = [f"it lacks {key}" for key in sorted(set(expected) - set(parameters))]
    problems += [f"{key} belongs to no part of it" for key in sorted(set(parameters) - set(expected))]
    for key in sorted(set(expected) & set(parameters)):
        value = parameters[key]
        if tuple(value.shape) != expected[key]:
            problems.append(f"{key} has shape {tuple(value.shape)}, not {expected[key]}")
        elif value.dtype != torch.float32:
            problems.append(f"{key} is {value.dtype}, not float32")
        elif not bool(value.isfinite().all()):
            problems.append(f"{key} is not finite")
    return problems


def _sizes(parameters: dict[str, Tensor]) -> dict[str, int]:
    vocabulary, width = parameters["model.embeddings.word_embeddings.weight"].shape
    length, _ = parameters["model.embeddings.position_embeddings.weight"].shape
    attention_experts, _, columns = parameters["model.transformer_0.mha.W_qkv.weight.0"].shape
    mlp_experts, _, hidden = parameters["model.transformer_0.mlpblock.linear1.weight.0"].shape
    inner, _ = parameters["seq_classifer.mlpblock.0.weight"].shape
    classes, _ = parameters["seq_classifer.mlpblock.2.weight"].shape
    if width % attention_experts or (width // attention_experts) % 4 or columns != 3 * (width // attention_experts):
        raise ValueError("the width of the attention experts")
    return {
        "V": vocabulary,
        "D": width,
        "S": length,
        "A": attention_experts,
        "W": width // attention_experts,
        "M": mlp_experts,
        "F": hidden,
        "I": inner,
        "C": classes,
    }


def _outside(n: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        "model.embeddings.word_embeddings.weight": (n["V"], n["D"]),
        "model.embeddings.position_embeddings.weight": (n["S"], n["D"]),
        "model.norm.weight": (n["D"],),
        "model.norm.bias": (n["D"],),
        "seq_classifer.mlpblock.0.weight": (n["I"], n["D"]),
        "seq_classifer.mlpblock.0.bias": (n["I"],),
        "seq_classifer.mlpblock.2.weight": (n["C"], n["I"]),
        "seq_classifer.mlpblock.2.bias": (n["C"],),
    }


def _layer(n: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, a, w, m, f = n["D"], n["A"], n["W"], n["M"], n["F"]
    return {
        "norm1.weight": (d,),
        "norm2.weight": (d,),
        "mha.switch_gate.weight": (a, d),
        "mha.switch_gate.bias": (a,),
        "mha.W_qkv.weight.0": (a, d, 3 * w),
        "mha.W_qkv.bias.0": (a, 1, 3 * w),
        "mha.ff.weight.0": (a, w, d),
        "mha.ff.bias": (a, d),
        "mha.kv_norm.weight": (w,),
        "mha.layer_norm.weight": (d,),
        "mha.layer_norm.bias": (d,),
        "mlpblock.switch_gate.w_gate.weight": (m, d),
        "mlpblock.switch_gate.w_gate.bias": (m,),
        "mlpblock.switch_gate.s_gate.weight": (n["S"] // d, n["S"]),
        "mlpblock.switch_gate.s_gate.bias": (n["S"] // d,),
        "mlpblock.linear1.weight.0": (m, d, f),
        "mlpblock.linear1.bias.0": (m, 1, f),
        "mlpblock.linear2.weight.0": (m, f, d),
        "mlpblock.linear2.bias": (m, d),
        "mlpblock.linear3.weight": (d, d),
        "mlpblock.linear3.bias": (d,),
    }
