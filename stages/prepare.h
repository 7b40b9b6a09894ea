// Cleans, cuts and reads an event: Event -> [Prepare] -> Prepared.
//
// The first stage behind decode, without state: any thread, many at once, in any order. Vectors
// come from the embedder, whose work is a job; so a prepared event is finished in three calls:
// Apply, then the embedder on TextsToEmbed, then Attach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "stages/events.h"
#include "stages/prepare_options.h"
#include "stages/result.h"

namespace nudge {

// What an embedder is asked for one event.
struct EmbeddingInput {
  std::vector<std::string> texts;
  bool as_query = false;  // else as passages; some models tell the two apart by a prefix
};

class Prepare {
 public:
  // Throws StartError for options out of range.
  explicit Prepare(const PrepareOptions& options);

  // Cleans the event's texts (see CleanText; ids stay as they are, byte for byte), and makes of
  // - an upsert its chunks: the passages that CutIntoPassages makes of its text, of chunk_chars
  //   characters at most. Where there is an embedder also no longer than it reads: with the title
  //   in front, of which it is shown 124 tokens at most, 500 tokens as EstimateTokens counts them,
  //   so that the end of a passage can be found as its begin can;
  // - feedback its signal. With behaviour b and rating r, both in -1..1:
  //     b = clamp(.2 clicked + .4 copied - .5 regenerated + .1 d, -.5, .5)
  //     d = -1 up to 1 s of dwelling, 0 at 5 s, 1 from 30 s on, linear between; 0 if unknown
  //     reward = r + (1 - |r|) b
  //   so that a plain up or down is what it is, behaviour fills the room that a rating leaves, and
  //   turns the sign of none beyond 1/3. Without a rating r is 0, or -.5 beside a correction: not
  //   good enough, yet worth mending. A correction that is blank, or the inline completion itself,
  //   is none.
  // Errors, each with the field's path: kInvalidEvent for a text that is empty once cleaned and a
  // rating out of range, kTooLarge over a limit of the options.
  // By value: who has no more use for the event moves it in. A short clean ASCII text costs less
  // than 1 us.
  Result<Prepared> Apply(Event event) const;

  // An upsert's chunks behind its title, a query, the query of an example; of others nothing.
  static EmbeddingInput TextsToEmbed(const Prepared& prepared);

  // Puts the vectors of TextsToEmbed's texts, in their order, where they belong, each scaled to L2
  // norm 1. Error kModelFailed, and `prepared` as it was, if one is missing or too many, has
  // another dimension than the options say, a number that is not finite, or no length. Not called
  // where there is no embedder.
  Result<Nothing> Attach(Prepared& prepared, std::vector<Vector> vectors) const;

 private:
  Result<std::vector<Chunk>> CutIntoChunks(const DocumentUpsert& upsert) const;

  PrepareOptions options_;
};

}  // namespace nudge
