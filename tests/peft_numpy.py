"""Reads a PEFT folder with numpy alone, and writes it again as another tool would.

peft_numpy.py FOLDER DELTAS ELSEWHERE
  DELTAS     f64, for each target module of each layer in the order of their names:
             lora_alpha / r * B @ A, [out, in]
  ELSEWHERE  a folder with the same adapter in bf16 tensors, sorted by name, and use_rslora
"""
import json
import math
import os
import struct
import sys

import numpy as np

DTYPES = {"F32": np.float32, "F16": np.float16}


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + begin : 8 + length + end], DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def bf16(values):
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write(path, tensors):
    header, blobs, offset = {}, [], 0
    for name in sorted(tensors):
        blob = bf16(tensors[name]).tobytes()
        shape = list(tensors[name].shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main(folder, deltas, elsewhere):
    with open(os.path.join(folder, "adapter_config.json")) as file:
        config = json.load(file)
    tensors = read(os.path.join(folder, "adapter_model.safetensors"))
    with open(deltas, "wb") as file:
        for name in sorted(name for name in tensors if name.endswith(".lora_A.weight")):
            if name.split(".")[-3] not in config["target_modules"]:
                sys.exit(name + " is no target")
            a = tensors[name].astype(np.float64)
            b = tensors[name.replace("lora_A", "lora_B")].astype(np.float64)
            file.write((config["lora_alpha"] / config["r"] * b @ a).tobytes())
    os.makedirs(elsewhere)
    config["lora_alpha"] /= math.sqrt(config["r"])
    config["use_rslora"] = True
    config["peft_version"] = "0.18.0"
    config["base_model_name_or_path"] = "someone/elsewhere"
    with open(os.path.join(elsewhere, "adapter_config.json"), "w") as file:
        json.dump(config, file, sort_keys=True)
    write(os.path.join(elsewhere, "adapter_model.safetensors"), tensors)


if __name__ == "__main__":
    main(*sys.argv[1:])
