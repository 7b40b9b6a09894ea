"""Patches llama.cpp's source tree (first argument), and fails if it is not what we expect.

A context that pools embeddings never returns logits, yet output_reserve() allocates vocabulary x
tokens floats for them: 512 MB for a text of 512 tokens with e5's 250,002 pieces. Without them the
embeddings keep their bits.
"""

import pathlib
import sys

FILE = "src/llama-context.cpp"
EXPECTED = "    bool has_logits     = true;\n"
REPLACEMENT = (
    "    bool has_logits     = !(cparams.embeddings && "
    "cparams.pooling_type != LLAMA_POOLING_TYPE_NONE);\n"
)


def main() -> None:
    path = pathlib.Path(sys.argv[1]) / FILE
    source = path.read_text()
    if source.count(EXPECTED) != 1:
        sys.exit(f"{path}: expected exactly one line {EXPECTED.strip()!r}: "
                 "the source changed, look at output_reserve() again")
    path.write_text(source.replace(EXPECTED, REPLACEMENT))


if __name__ == "__main__":
    main()
