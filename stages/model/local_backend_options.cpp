#include "stages/model/local_backend_options.h"

namespace nudge {

using namespace keys;

Fields OptionsOf(LocalBackendOptions& options) {
  using enum Effect;
  using enum Path::Base;
  return Together(
      {OptionsOf(options.learner),
       Fields{
           {"model.language_model", Path{&options.language_model, kConfigFolder}, "", kOperational,
            "GGUF file that answers and learns; needed by the local backend"},
           {"model.served_form", Choice{&options.served_form, {"auto", "file"}}, "", kSemantic,
            "of the weights that answer; auto: the one that `nudge form` made beside the file, "
            "where there is one, else the file itself; file: the file itself"},
           // The fingerprint names it, as it names the model file: a state made with the other
           // engine is refused.
           {"model.engine", Choice{&options.engine, {"llama", "own"}}, "", kOperational,
            "that computes answers; llama: llama.cpp, any chat model; own: nudge's, for models "
            "that "
            "train (llama, qwen2, qwen3), from the file itself whatever its served form, many at "
            "a time on as many threads as the executor has; other words than llama's, so a state "
            "made with one is refused by the other"},
           {"model.answers_together_max", Number{&options.answers_together_max, 1, 256}, "",
            kOperational,
            "that engine own computes at a time; those beyond wait, tenants in turn; any number "
            "gives the same answers"},
           {"model.prompt_tokens_together_max",
            Number{&options.prompt_tokens_together_max, 1, 4096}, "", kOperational,
            "that engine own reads between two tokens of the answers that are being written: more "
            "reads prompts faster and lets the others wait longer"},
           {"model.keys_bytes_max", Number{&options.keys_bytes_max, 1 << 20, 1e13}, "",
            kOperational,
            "for keys and values of all texts that engine own has at hand, at least those of a "
            "window; where they end, the answers that came last wait and are read again"},
           {"model.prefix_bytes_max", Number{&options.prefix_bytes_max, 0, 1e13}, "", kOperational,
            "of these bytes, for beginnings that engine own need not read again for the same "
            "tenant and adapter version; those not used for longest go first; 0: none are kept"},
           {"model.embedder", Path{&options.embedder, kConfigFolder}, "", kOperational,
            "GGUF file that makes vectors; empty: none, search is by words only"},
           {"model.query_prefix", Text{&options.query_prefix, 0, 256}, "bytes", kSemantic,
            "put before a query that is embedded; empty: as the embedder's file says"},
           {"model.passage_prefix", Text{&options.passage_prefix, 0, 256}, "bytes", kSemantic,
            "put before a passage that is embedded; empty: as the embedder's file says"},
           {"model.window_tokens", Number{&options.window_tokens, 64, 131072}, "", kSemantic,
            "prompt and answer together; cut to what the model was trained for"},
           {"model.threads_per_answer", Number{&options.threads_per_answer, 1, 256}, "", kSemantic,
            "beyond 1 pays only with idle cores; may change the last bits of an f32 model"},
           {"adapt.anchors_path", Path{&options.anchors_path, kConfigFolder}, "", kSemantic,
            "neutral texts on which the adapter must stay near the base model, JSON lines; empty: "
            "none, and the model drifts"},
           {"adapt.products", Choice{&options.products, {"auto", "f32", "bf16", "portable"}}, "",
            kSemantic,
            "how lessons multiply; auto: bf16 where the processor has AVX512-BF16 or AMX, where "
            "lessons take half to four fifths of the time, f32 elsewhere; portable: f32 without "
            "oneDNN, the same "
            "weights on every x86 and in a browser, about three times slower"},
           {"adapt.base_memory", Choice{&options.base_memory, {"copy", "file"}}, "", kOperational,
            "where lessons have the base model's weights: a copy of their own, or the model file, "
            "for small machines: slower, the same bits"},
           {"adapt.training_bytes_max", Number{&options.training_bytes_max, 1 << 20, 1e13}, "",
            kOperational,
            "that a step works in, beside the base model and the learners; a step with more tokens "
            "than fit computes parts twice: longer, the same bits"},
           {"adapt.learners_in_memory", Number{&options.learners_in_memory, 1, 10'000}, "",
            kOperational,
            "of the tenants that learnt last, some 30 MB each at rank 8; the others' are in a file "
            "beside the state, and woken for the next lesson"},
           {"adapt.import_folder", Path{&options.import_folder, kConfigFolder}, "", kOperational,
            "of adapters that events may bring in; empty: imports are refused"},
       }});
}

}  // namespace nudge
