#!/usr/bin/env python3
"""Proves that an exported PEFT folder means what the trainer computed.

Reads a base GGUF, puts its query and key rows back into Hugging Face's order, adds
(lora_alpha / r) B A of the PEFT folder to each module, runs a plain Llama forward pass in f64 and
compares its logits with those of a file: raw f32 or .npy, [rows, vocabulary], the rows being those
of the last tokens. Nothing here is shared with nudge's own code; of llama.cpp only the reading and
dequantising of the GGUF.

  scripts/check_peft.py --base MODEL.gguf --peft SNAPSHOT --tokens 1,2,3 --logits FILE.f32

Exits with 1 if the largest difference is over --tolerance, or if the adapter moves the logits so
little that agreement would prove nothing.
"""

import argparse
import json
import os
import pathlib
import struct
import sys

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("NUDGE_CACHE") or ROOT / ".cache")
DTYPES = {"F32": numpy.float32, "F16": numpy.float16}
MODULES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read_safetensors(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        values = numpy.frombuffer(raw[begin:end], DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).astype(numpy.float64)
    return tensors


class Adapter:
    """The changes of a PEFT folder by module, each used exactly once."""

    def __init__(self, folder):
        config = json.loads((folder / "adapter_config.json").read_text())
        if config["peft_type"] != "LORA" or config.get("use_rslora") or config.get("use_dora"):
            sys.exit(f"{folder}: not a plain LoRA")
        self.scale = config["lora_alpha"] / config["r"]
        self.targets = set(config["target_modules"])
        self.rank = config["r"]
        self.tensors = read_safetensors(folder / "adapter_model.safetensors")
        self.unused = set(self.tensors)

    def delta(self, layer, module):
        if module.split(".")[-1] not in self.targets:
            return 0.0
        prefix = f"base_model.model.model.layers.{layer}.{module}"
        names = [f"{prefix}.lora_{side}.weight" for side in "AB"]
        self.unused -= set(names)
        a, b = (self.tensors[name] for name in names)
        if a.shape[0] != self.rank or b.shape[1] != self.rank:
            sys.exit(f"{prefix}: its rank is not {self.rank}")
        return self.scale * (b @ a)


class Llama:
    """The weights of a GGUF in Hugging Face's row order, and a forward pass over them."""

    def __init__(self, path, gguf):
        reader = gguf.GGUFReader(path)
        self.dequantize = gguf.quants.dequantize
        self.weights = {}  # f32, as they come out of the file
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}

        def field(name, default=None):
            found = reader.get_field(name)
            if found is None and default is None:
                sys.exit(f"{path}: no {name}")
            return default if found is None else found.contents()

        if field("general.architecture") != "llama":
            sys.exit(f"{path}: this check knows the architecture llama only")
        scaling = field("llama.rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs.weight" in self.tensors:
            sys.exit(f"{path}: this check knows no rotary scaling")
        self.layers = field("llama.block_count")
        self.heads = field("llama.attention.head_count")
        self.kv_heads = field("llama.attention.head_count_kv", self.heads)
        width = field("llama.embedding_length")
        self.head = field("llama.rope.dimension_count", width // self.heads)
        self.epsilon = field("llama.attention.layer_norm_rms_epsilon")
        self.theta = field("llama.rope.freq_base", 10000.0)

    def weight(self, name):
        if name not in self.weights:
            tensor = self.tensors[name + ".weight"]
            self.weights[name] = self.dequantize(tensor.data, tensor.tensor_type)
        return self.weights[name].astype(numpy.float64)

    def module(self, layer, name, adapter):
        weight = self.weight(f"blk.{layer}.{name}")
        if name in ("attn_q", "attn_k"):  # rows of a head: pairs side by side -> two halves
            shape = weight.shape
            weight = weight.reshape(-1, self.head // 2, 2, shape[1]).swapaxes(1, 2).reshape(shape)
        return weight + adapter.delta(layer, MODULES[name]) if adapter else weight

    def norm(self, x, name):
        scale = 1.0 / numpy.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon)
        return x * scale * self.weight(name)

    def rotate(self, x):  # [tokens, heads, head]
        frequency = self.theta ** (-numpy.arange(0, self.head, 2) / self.head)
        angle = numpy.arange(x.shape[0])[:, None] * frequency
        angle = numpy.concatenate([angle, angle], -1)[:, None, :]
        first, second = numpy.split(x, 2, -1)
        turned = numpy.concatenate([-second, first], -1)
        return x * numpy.cos(angle) + turned * numpy.sin(angle)

    def attention(self, x, layer, adapter):
        def project(name, heads):
            product = x @ self.module(layer, name, adapter).T
            return product.reshape(len(x), heads, self.head)

        q = self.rotate(project("attn_q", self.heads))
        k = self.rotate(project("attn_k", self.kv_heads))
        v = project("attn_v", self.kv_heads)
        group = self.heads // self.kv_heads
        k, v = (numpy.repeat(y, group, axis=1) for y in (k, v))
        score = numpy.einsum("ihd,jhd->hij", q, k) / numpy.sqrt(self.head)
        score += numpy.triu(numpy.full((len(x), len(x)), -numpy.inf), 1)
        share = numpy.exp(score - score.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mixed = numpy.einsum("hij,jhd->ihd", share, v).reshape(len(x), -1)
        return mixed @ self.module(layer, "attn_output", adapter).T

    def feed_forward(self, x, layer, adapter):
        gate = x @ self.module(layer, "ffn_gate", adapter).T
        up = x @ self.module(layer, "ffn_up", adapter).T
        return (gate / (1 + numpy.exp(-gate)) * up) @ self.module(layer, "ffn_down", adapter).T

    def logits(self, tokens, adapter):
        embedding = self.weight("token_embd")
        x = embedding[tokens]
        for layer in range(self.layers):
            x = x + self.attention(self.norm(x, f"blk.{layer}.attn_norm"), layer, adapter)
            x = x + self.feed_forward(self.norm(x, f"blk.{layer}.ffn_norm"), layer, adapter)
        head = self.weight("output") if "output.weight" in self.tensors else embedding
        return self.norm(x, "output_norm") @ head.T


def read_logits(path, vocabulary):
    if path.suffix == ".npy":
        values = numpy.load(path)
    else:
        values = numpy.fromfile(path, numpy.float32)
    if values.size == 0 or values.size % vocabulary:
        sys.exit(f"{path}: {values.size} values are no rows of {vocabulary}")
    return values.reshape(-1, vocabulary).astype(numpy.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", type=pathlib.Path, required=True, help="the base model, GGUF")
    parser.add_argument("--peft", type=pathlib.Path, required=True, help="folder of the snapshot")
    parser.add_argument("--tokens", required=True, help="token ids, comma-separated")
    parser.add_argument("--logits", type=pathlib.Path, required=True, help="raw f32 or .npy")
    parser.add_argument("--vocab", type=int, help="tokens of the vocabulary; default: the base's")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="largest difference allowed")
    parser.add_argument("--gguf-py", type=pathlib.Path, default=CACHE / "llama/gguf-py")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.gguf_py))
    import gguf
    import gguf.quants

    tokens = [int(token) for token in arguments.tokens.split(",")]
    model = Llama(arguments.base, gguf)
    adapter = Adapter(arguments.peft)
    expected = model.logits(tokens, adapter)
    if adapter.unused:
        sys.exit(f"{arguments.peft}: tensors of no module: {', '.join(sorted(adapter.unused))}")
    if arguments.vocab not in (None, expected.shape[1]):
        sys.exit(f"the base has {expected.shape[1]} tokens, not {arguments.vocab}")
    found = read_logits(arguments.logits, expected.shape[1])
    if len(found) > len(tokens):
        sys.exit(f"{arguments.logits}: {len(found)} rows for {len(tokens)} tokens")
    expected = expected[-len(found) :]
    effect = abs(expected - model.logits(tokens, None)[-len(found) :]).max()
    difference = abs(expected - found).max()
    print(f"rows {len(found)}, max abs difference {difference:.3g}, tolerance "
          f"{arguments.tolerance:.3g}, the adapter moves the logits by up to {effect:.3g}")
    if not difference <= arguments.tolerance:
        sys.exit("the logits differ")
    if not effect >= 10 * arguments.tolerance:
        sys.exit("the adapter hardly moves the logits: agreement proves nothing")


if __name__ == "__main__":
    main()
