"""Tiny random encoders, saved as the published ones are: timm's, open_clip's, CCIP's in ONNX."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import safetensors.torch
import timm
import torch
from timm.models import get_pretrained_cfg
from timm.models._hub import save_for_hf

CCIP_VARIANT = "ccip-caformer-24-randaug-pruned"


def write_vit(folder: Path, published: str, pixels: int) -> Path:
    """The architecture of a published timm network, small, with its published preprocessing."""
    size = {"embed_dim": 48, "depth": 1, "num_heads": 2, "img_size": pixels}
    cfg = replace(get_pretrained_cfg(published), input_size=(3, pixels, pixels))
    torch.manual_seed(0)
    network = timm.create_model(
        published.partition(".")[0], pretrained=False, num_classes=0, pretrained_cfg=cfg, **size
    )
    folder.mkdir(parents=True)
    save_for_hf(network, folder, model_args=size, safe_serialization=True)
    return folder


def write_siglip(folder: Path, words: list[str]) -> Path:
    """A SigLIP 2 of open_clip's, small, with the published preprocessing and a tokenizer of
    whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    published = open_clip.get_model_config("ViT-B-16-SigLIP2-256")
    known = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP2-256", "webli")
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", *words])}
    small = {"vocab_size": len(vocabulary), "context_length": 16, "width": 32, "heads": 2,
             "layers": 1}  # fmt: skip
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1}
    config = {**published, "embed_dim": 32, "vision_cfg": vision,
              "text_cfg": {**published["text_cfg"], **small}}  # fmt: skip
    preprocess = {name: known[name] for name in ("mean", "std", "interpolation", "resize_mode")}
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"size": [32, 32], **preprocess}})
    )
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    taken = {name: config[name] for name in ("embed_dim", "vision_cfg", "text_cfg")}
    network = open_clip.CustomTextCLIP(**taken, init_logit_bias=published["init_logit_bias"])
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
    return folder


def write_ccip(folder: Path, features: str = "model_feat.onnx") -> Path:
    """CCIP's two graphs: a linear layer on mean colours, and the published difference."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def save(name: str, nodes: list[object], taken: list[object], given: list[object],
             constants: dict[str, object]) -> None:  # fmt: skip
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, taken)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, given)],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, folder / name)

    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"threshold": 0.178}')
    node = helper.make_node
    weight = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    save(
        features,
        [node("GlobalAveragePool", ["input"], ["mean"]), node("Flatten", ["mean"], ["rows"]),
         node("MatMul", ["rows", "weight"], ["output"])],
        ["batch", 3, 384, 384], ["batch", 8], {"weight": weight},
    )  # fmt: skip
    f32 = np.float32
    save(
        "model_metrics.onnx",
        [node("LpNormalization", ["input"], ["unit"], axis=1, p=2),
         node("Transpose", ["unit"], ["turned"], perm=[1, 0]),
         node("MatMul", ["unit", "turned"], ["cosine"]), node("Sub", ["one", "cosine"], ["rest"]),
         node("Mul", ["rest", "half"], ["free"]),
         node("Clip", ["free", "zero", "one"], ["output"])],
        ["batch", 8], ["batch", "batch"], {"one": f32(1), "half": f32(0.5), "zero": f32(0)},
    )  # fmt: skip
    return folder
