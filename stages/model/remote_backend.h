// Answers from another server that speaks OpenAI's protocol (vLLM, llama.cpp's, Ollama, ...), all
// else from a backend here: embeddings, tokens, the window, learning and likelihoods, of the same
// base model.
//
// An answer is no function of its question here, so the outcome log alone knows it. What is
// learnt is published as ever, but the server has the base only: version 0 answers.
//
// Threads as Backend; each call of Generate has a connection of its own, so there are as many as
// slots.
#pragma once

#include <memory>

#include "stages/model/backend.h"
#include "stages/model/remote_backend_options.h"

namespace nudge {

// Throws StartError: the key's file cannot be read or has no key in it, and what WrongOptions says.
// The server is not asked before the first question.
std::unique_ptr<Backend> MakeRemoteBackend(RemoteBackendOptions options,
                                           std::unique_ptr<Backend> local);

}  // namespace nudge
