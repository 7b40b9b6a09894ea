#!/usr/bin/env bash
# Builds oneTBB with ThreadSanitizer into $CACHE/tbb-tsan, for the preset tsan: without it every
# hand-over of the scheduler is invisible to the sanitizer, and looks like a race.
#
# The source is the tarball that Debian's libtbb is built from (its patches touch other architectures,
# tests and warnings only). tbbmalloc stays out: the sanitizer must see every allocation.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

TBB_FILE=onetbb_2021.8.0.orig.tar.xz
TBB_SHA256=7e9111b8bb59c8800bf6d0b06afe7b0891937443d2dae1ee1101c8e2ede6a7ef
TBB_FLAGS=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DTBB_SANITIZE=thread -DTBB_TEST=OFF -DTBB_STRICT=OFF
  -DTBBMALLOC_BUILD=OFF -DTBB_DISABLE_HWLOC_AUTOMATIC_SEARCH=ON -DCMAKE_INSTALL_LIBDIR=lib
  -DCMAKE_CXX_FLAGS=-fno-omit-frame-pointer)
JOBS=${NUDGE_JOBS:-$(nproc)}

# apt's own client with its own lists, so that the system's sources stay as they are: the system's
# entries for this release, as sources of source packages.
download_source() {
  local work file codename
  if [[ -f $CACHE/downloads/$TBB_FILE ]]; then
    check_sha256 "$CACHE/downloads/$TBB_FILE" "$TBB_SHA256"
    return
  fi
  command -v apt-get >/dev/null ||
    die "no apt-get here: put $TBB_FILE (Debian's source of oneTBB) into $CACHE/downloads yourself"
  say "  oneTBB: downloading 2 MB, Apache-2.0 (source, for ThreadSanitizer)"
  work=$(mktemp -d "$CACHE/tmp.XXXXXX")
  mkdir -p "$work"/{sources,lists/partial,cache/archives/partial,source} "$CACHE/downloads"
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}; do
    [[ -f $file ]] && grep -qE "(^|[[:space:]])$codename([[:space:]]|$)" "$file" || continue
    sed 's/^Types:.*/Types: deb-src/; s/^deb /deb-src /' "$file" >"$work/sources/$(basename "$file")"
    [[ $file == /etc/apt/sources.list ]] && mv "$work/sources/sources.list"{,.list}
  done
  local apt=(apt-get -qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/sources"
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
  "${apt[@]}" update
  (cd "$work/source" && "${apt[@]}" source --download-only --tar-only onetbb) ||
    die "cannot download the source package onetbb: are Debian's packages reachable?"
  [[ -f $work/source/$TBB_FILE ]] ||
    die "Debian has another version of onetbb ($(ls "$work/source")): $TBB_FILE is pinned here"
  check_sha256 "$work/source/$TBB_FILE" "$TBB_SHA256"
  mv "$work/source/$TBB_FILE" "$CACHE/downloads/"
  rm -rf "$work"
}

build_tbb() {  # build_tbb TARGET: {include,lib} with lib/cmake/TBB
  local work
  work=$(dirname "$1")
  mkdir "$work/source"
  tar -xJf "$CACHE/downloads/$TBB_FILE" -C "$work/source" --strip-components=1
  cmake -S "$work/source" -B "$work/build" -G Ninja "${TBB_FLAGS[@]}" -DCMAKE_INSTALL_PREFIX="$1" \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log"; die "configuring oneTBB failed"; }
  nice -n 5 cmake --build "$work/build" -j "$JOBS" >"$work/log" 2>&1 ||
    { tail -n 40 "$work/log"; die "building oneTBB failed"; }
  cmake --install "$work/build" >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log"; die "installing oneTBB failed"; }
}

lock_cache
download_source
product tbb-tsan \
  "$(hash_of "$TBB_SHA256" "$(g++ --version | head -n 1)" "${TBB_FLAGS[*]}" \
    "$(declare -f build_tbb)")" build_tbb
