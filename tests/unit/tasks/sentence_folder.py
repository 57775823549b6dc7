"""A model's folder with the files that sentence-transformers writes, and edits of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.tiny_models import TinyModels

WIDTH = 32
Edit = Callable[[Path], None]


def make_folder(source: str, folder: Path, *more: tuple[str, str]) -> Path:
    """The model with mean pooling and `more` modules, `(path, kind)` each."""
    shutil.copytree(source, folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *more]
    kinds = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    write(folder, "modules.json", kinds)
    write(folder, "1_Pooling/config.json",
          {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})  # fmt: skip
    return folder


def write(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def setting(name: str, **changes: Any) -> Edit:
    """An edit: these settings in that file, which may not be there yet; None removes one."""

    def edit(folder: Path) -> None:
        path = folder / name
        found = json.loads(path.read_text()) if path.exists() else {}
        found |= changes
        write(folder, name, {key: value for key, value in found.items() if value is not None})

    return edit


def module(kind: str, path: str, config: Any, at: int | None = None, **tensors: Any) -> Edit:
    """An edit: one more module, at the end or at a place, with its weights."""

    def edit(folder: Path) -> None:
        from safetensors.torch import save_file

        modules = json.loads((folder / "modules.json").read_text())
        dotted = kind if "." in kind else f"sentence_transformers.models.{kind}"
        new = {"idx": 9, "name": path, "path": path, "type": dotted}
        modules.insert(len(modules) if at is None else at, new)
        write(folder, "modules.json", modules)
        write(folder, f"{path}/config.json", config)
        if tensors:
            named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
            save_file(named, folder / path / "model.safetensors")

    return edit


def both(*edits: Edit) -> Edit:
    def edit(folder: Path) -> None:
        for one in edits:
            one(folder)

    return edit


def copies(tiny: TinyModels, tmp_path: Path) -> Callable[[Edit | None], Path]:
    """Makes a folder of a tiny BERT with the edit."""
    count = iter(range(1000))

    def make(edit: Edit | None) -> Path:
        folder = make_folder(tiny("bert", ""), tmp_path / f"copy-{next(count)}")
        if edit is not None:
            edit(folder)
        return folder

    return make
