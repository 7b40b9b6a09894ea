# Shared by the scripts: messages, the cache folder, and products that are rebuilt only when an
# input changed. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${NUDGE_CACHE:-$ROOT/.cache}

# One compiler cache for every build. What is below a base folder is named relative to where the
# compiler runs, so that another clone finds the objects of this one; a compiler is known by its
# bytes. The two liberties are what precompiled headers ask for.
export CCACHE_DIR=$CACHE/ccache CCACHE_MAXSIZE=2G CCACHE_COMPILERCHECK=content
export CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros

# The form of the language model that answers fastest on this machine, once it was built.
serve_fast() {
  # shellcheck source=scripts/lib/pins.sh
  source "$ROOT/scripts/lib/pins.sh"
  "$ROOT/build/release/nudge" form "$CACHE/models/$SMOLLM2_FILE"
}

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# hash_of TEXT...: a short content hash of all arguments.
hash_of() { printf '%s\0' "$@" | sha256sum | cut -c1-32; }

# Two runs on one cache take turns; the lock goes with the process.
lock_cache() {
  mkdir -p "$CACHE/keys"
  exec 9>"$CACHE/.lock"
  flock -n 9 || {
    say "another run is using $CACHE: waiting for it"
    flock 9
  }
  rm -rf "$CACHE"/tmp.*  # what an interrupted run left
}

# product NAME KEY BUILD: makes $CACHE/NAME (file or folder) by calling `BUILD TARGET`, which fills
# TARGET, a path that does not exist yet. Nothing happens if NAME is there and was made with the same
# KEY. The product appears by a rename, its key after it: an interrupted run leaves no half product.
product() {
  local name=$1 key=$2 build=$3 key_file work
  key_file=$CACHE/keys/${name//\//_}
  if [[ -e $CACHE/$name && -f $key_file && $(<"$key_file") == "$key" ]]; then
    say "  $name: up to date"
    return
  fi
  say "  $name: making"
  work=$(mktemp -d "$CACHE/tmp.XXXXXX")
  mkdir -p "$(dirname "$CACHE/$name")"
  # Not `if "$build"`: bash would switch `set -e` off inside.
  "$build" "$work/product"
  [[ -e $work/product ]] || die "$name: building it made nothing"
  rm -f "$key_file"
  if [[ -e $CACHE/$name ]]; then mv -T "$CACHE/$name" "$work/old"; fi
  mv -T "$work/product" "$CACHE/$name"
  printf '%s' "$key" >"$work/key"
  mv "$work/key" "$key_file"
  rm -rf "$work"
}

# check_sha256 FILE SHA256
check_sha256() {
  local found
  found=$(sha256sum "$1" | cut -d' ' -f1)
  [[ $found == "$2" ]] || die "$1 has SHA-256 $found, expected $2: remove it and run again"
}
