# Apache Kafka as jars in the cache, for scripts/setup and scripts/kafka. Sourced after common.sh.

KAFKA_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
KAFKA_POM=$ROOT/scripts/lib/kafka_pom.xml
KAFKA_SHA256=$ROOT/scripts/lib/kafka.sha256

build_kafka() {  # build_kafka TARGET: the jars, all of them as pinned and no others
  local program work
  for program in mvn java; do
    command -v "$program" >/dev/null || die "no $program here: run scripts/setup --kafka"
  done
  work=$(dirname "$1")
  mvn -q -B -f "$KAFKA_POM" "-Dmaven.repo.local=$work/repository" "$KAFKA_PLUGIN:copy-dependencies" \
    -DincludeScope=runtime "-DoutputDirectory=$work/jars" >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log"; die "cannot download Kafka's jars: is a Maven repository reachable?"; }
  (cd "$work/jars" && sha256sum --quiet --strict -c "$KAFKA_SHA256") ||
    die "a jar of Kafka is not the pinned one"
  [[ $(ls "$work/jars") == "$(sed 's/^[0-9a-f]*  //' "$KAFKA_SHA256")" ]] ||
    die "Kafka's jars are more than the pinned ones"
  mv "$work/jars" "$1"
}

make_kafka() {
  product kafka "$(hash_of "$(<"$KAFKA_POM")" "$(<"$KAFKA_SHA256")" "$KAFKA_PLUGIN")" build_kafka
}
