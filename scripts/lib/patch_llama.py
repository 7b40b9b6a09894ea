"""Patches llama.cpp's source tree (first argument), and fails if it is not what we expect.

With --amx alone what it cannot run without: the program that is compared with nudge gets no more.

- A context that pools embeddings never returns logits, yet output_reserve() allocates vocabulary x
  tokens floats for them: 512 MB for a text of 512 tokens with e5's 250,002 pieces. Without them the
  embeddings keep their bits.
- Where the processor has AMX, ggml configures its tiles once a thread, from memory that g++ 12
  leaves unwritten, as it does not see that it is read: the process ends (SIGSEGV). And oneDNN, whose
  products run on the same threads, configures them for itself and releases them, so that ggml's
  next product ends the process (SIGILL). So tiles are configured before each product, from memory
  that is written, and released behind it.
- What its buffer cannot be given, ggml prints to the error stream itself; a program that says one
  sentence of its own has it from the log.
"""

import pathlib
import sys

LOGITS = (
    "src/llama-context.cpp",
    "    bool has_logits     = true;\n",
    "    bool has_logits     = !(cparams.embeddings && "
    "cparams.pooling_type != LLAMA_POOLING_TYPE_NONE);\n",
)
TILES = "ggml/src/ggml-cpu/amx/mmq.cpp"
CONFIGURED_ONCE = (
    TILES,
    "    static thread_local bool done = false;\n\n    if (done) {\n        return;\n    }\n\n"
    "    alignas(64) tile_config_t tc = {};\n",
    "    alignas(64) tile_config_t tc = {};\n",
)
CONFIGURES = (
    TILES,
    "    _tile_loadconfig(&tc);\n    done = true;\n",
    '    asm volatile("" : : "r"(&tc) : "memory");  // all of it is read\n'
    "    _tile_loadconfig(&tc);\n",
)
RELEASES = (
    TILES,
    "                    (float *) dst->data + dst_offset + mb_start * N + nb_start, ldc);\n"
    "            }\n        });\n",
    "                    (float *) dst->data + dst_offset + mb_start * N + nb_start, ldc);\n"
    "            }\n        });\n        _tile_release();\n",
)
SAYS = (
    "ggml/src/ggml-cpu/amx/amx.cpp",
    '        fprintf(stderr, "%s: failed to allocate buffer of size %zu\\n", __func__, size);\n',
    '        GGML_LOG_ERROR("%s: failed to allocate buffer of size %zu\\n", __func__, size);\n',
)


def main() -> None:
    amx = (CONFIGURED_ONCE, CONFIGURES, RELEASES)
    for file, expected, replacement in amx if "--amx" in sys.argv else (LOGITS, SAYS, *amx):
        path = pathlib.Path(sys.argv[1]) / file
        source = path.read_text()
        if source.count(expected) != 1:
            sys.exit(f"{path}: expected exactly once {expected!r}: the source changed, look again")
        path.write_text(source.replace(expected, replacement))


if __name__ == "__main__":
    main()
