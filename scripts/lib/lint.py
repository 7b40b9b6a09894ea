#!/usr/bin/env python3
"""Runs clang-tidy over the project's translation units, those that changed since they were clean.

    lint.py BUILD_FOLDER STAMP_FOLDER JOBS

BUILD_FOLDER has compile_commands.json. A unit that is clean leaves a stamp: the SHA-256 of the check
list, of clang-tidy's version and options, and of what the preprocessor makes of the unit (with comments: NOLINT
is one). Exit 1 if anything was found, or if the build compiles a source or includes a header less
than there are below the folders, but for what scripts/web alone compiles.
"""
import concurrent.futures
import hashlib
import json
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("stages/", "connectors/", "pipeline/")
# In place of oneDNN, OpenSSL, fused multiply-adds, ggml's processor kernels and llama.cpp's models,
# which browsers have not.
FOR_BROWSERS = {"connectors/web/module/calls.h", "connectors/web/module/exports.cpp",
                "connectors/web/module/exports.h", "connectors/web/module/sha256_plain.cpp",
                "connectors/web/module/text_exports.cpp", "stages/dense_scan_plain.cpp",
                "stages/number_text_plain.cpp",
                "stages/model/adapters/halves_plain.cpp",
                "stages/model/engine/products_without_fma.cpp",
                "stages/model/serve/model_text.cpp", "stages/model/serve/model_text.h",
                "stages/model/trainer/gemm_without_onednn.cpp"}
# omp.h is g++'s: looked for last, so that everything else is clang's own; one of its attributes takes
# arguments that clang does not know.
GCC_HEADERS = pathlib.Path(subprocess.run(["g++", "-print-file-name=include/omp.h"], check=True,
                                          stdout=subprocess.PIPE, text=True).stdout.strip()).parent
EXTRA = ("-idirafter", str(GCC_HEADERS), "-D__malloc__(...)=__malloc__")
WARNINGS = ("-Wthread-safety",)  # stages/guarded.h; .clang-tidy makes errors of them


# A file of ours in what the preprocessor makes, by its marker of a line.
OURS = re.compile(rb'^# \d+ "%s/((?:%s)[^"]+)"' % (re.escape(str(ROOT).encode()),
                                                 "|".join(FOLDERS).encode()), re.MULTILINE)


def preprocess(entry):
    words = shlex.split(entry["command"])[1:]
    out = words.index("-o")
    del words[out:out + 2]
    words.remove("-c")
    return subprocess.run(["clang++", "-E", "-C", *EXTRA, *words], cwd=entry["directory"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def lint(entry, build, stamps, common, seen):
    """What clang-tidy says of one unit; None if it is the one that was clean before. What it is made
    of goes to `seen`."""
    name = str(pathlib.Path(entry["file"]).relative_to(ROOT))
    text = preprocess(entry)
    if text.returncode != 0:
        return f"{name}: clang cannot read it:\n{text.stderr.decode()}"
    seen.update(OURS.findall(text.stdout))
    key = hashlib.sha256(common + text.stdout).hexdigest()
    stamp = stamps / name.replace("/", "_")
    if stamp.is_file() and stamp.read_text() == key:
        return None
    run = subprocess.run(["clang-tidy", "--quiet", "-p", str(build), entry["file"],
                          *(f"--extra-arg={word}" for word in (*EXTRA, *WARNINGS))], cwd=ROOT,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode == 0:
        stamp.write_text(key)
        return ""
    noise = re.compile(r"^\d+ warnings? (generated|treated)|^Suppressed |^Use -header-filter")
    rest = [line for line in run.stderr.splitlines() if not noise.match(line)]
    return "\n".join([f"{name}:", run.stdout.strip(), *rest])


def main():
    build, stamps, jobs = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    stamps.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["clang-tidy", "--version"], stdout=subprocess.PIPE, check=True).stdout
    common = (ROOT / ".clang-tidy").read_bytes() + version + repr((EXTRA, WARNINGS)).encode()
    units = {entry["file"]: entry
             for entry in json.loads((build / "compile_commands.json").read_text())
             if entry["file"].startswith(tuple(f"{ROOT}/{folder}" for folder in FOLDERS))}
    seen = set()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        said = list(pool.map(lambda entry: lint(entry, build, stamps, common, seen), units.values()))
    files = {str(path.relative_to(ROOT)) for folder in FOLDERS for pattern in ("*.cpp", "*.h")
             for path in (ROOT / folder).rglob(pattern)}
    found = [text for text in said if text]
    found += [f"{name}: no unit of the build is or includes it"
              for name in sorted(files - {name.decode() for name in seen} - FOR_BROWSERS)]
    print(*found, sep="\n\n", end="\n\n" if found else "")
    print(f"clang-tidy: {len(units)} units of {len(files)} files, {said.count(None)} units as before, "
          f"{len(found)} findings")
    sys.exit(1 if found else 0)


main()
