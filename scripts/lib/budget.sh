# What each part of scripts/test takes, in seconds: of the clock, and of the processors, which other
# work on the same machine hardly changes. Sourced, never run.

BUDGET_SECONDS=4500  # for everything, from nothing: packages and downloads, an empty compiler cache
budget=()            # "NAME|SECONDS|SECONDS OF CPU", in the order of the parts
budget_part=
budget_begun=0
budget_cpu_begun=0

# Of every process that has ended below this one: clock ticks, 100 a second.
set_cpu_seconds() {
  local fields
  read -ra fields </proc/$$/stat
  cpu_seconds=$(((fields[15] + fields[16]) / 100))
}

# part NAME: what follows counts to it; without a name, to none.
part() {
  set_cpu_seconds
  [[ -z $budget_part ]] ||
    budget+=("$budget_part|$((SECONDS - budget_begun))|$((cpu_seconds - budget_cpu_begun))")
  budget_part=${1:-}
  budget_begun=$SECONDS
  budget_cpu_begun=$cpu_seconds
  [[ -z $budget_part ]] || printf '\n==== %s\n' "$budget_part"
}

# Of the suites that ctest has just run: each counts to its first label.
part_of_labels() {  # part_of_labels JUNIT_FILE
  local suite seconds label
  local -A sums=()
  while read -r suite seconds; do
    label=$(sed -n '1s|^// labels: \([a-z]*\).*|\1|p' "tests/$suite.cpp")
    sums[$label]=$(awk "BEGIN { print ${sums[$label]:-0} + $seconds }")
  done < <(sed -n 's/.*<testcase name="\([a-z_0-9]*\)".* time="\([0-9.e+-]*\)".*/\1 \2/p' "$1")
  while read -r label; do
    budget+=("  of these $label|$(printf '%.0f' "${sums[$label]}")|")
  done < <(printf '%s\n' "${!sums[@]}" | sort)
}

print_budget() {
  local line name seconds cpu
  part
  printf '\n%-28s %8s %8s\n' part seconds "of CPU"
  for line in "${budget[@]}"; do
    IFS='|' read -r name seconds cpu <<<"$line"
    printf '%-28s %8d %8s\n' "$name" "$seconds" "$cpu"
  done
  printf '%-28s %8d %8d   bound: %d, from nothing\n' total "$SECONDS" "$cpu_seconds" \
    "$BUDGET_SECONDS"
  if ((SECONDS > BUDGET_SECONDS)); then
    printf 'WARNING: over the bound of %d minutes: move something to --long\n' \
      $((BUDGET_SECONDS / 60))
  fi
}
