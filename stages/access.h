// Who may see a document: an access list and an asker's groups -> [MaySee] -> yes or no.
//
// A document without a list is for everybody in its tenant, one with an empty list for nobody.
// Groups are names, compared byte for byte, and belong to the tenant that sends them.
//
// One call at a time.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "stages/state.h"
#include "stages/table.h"

namespace nudge {

using Groups = std::set<std::string>;

bool MaySee(const std::optional<Groups>& access, const Groups& asker);

// What an answer or an example rests on, as far as rights go: the documents behind it, and the
// access lists that they had when it was made. A list that is gone later does not open what was
// made under it, since the text that it guarded may be gone as well.
struct RestsOn {
  std::set<std::string> documents;
  std::set<Groups> lists;

  bool restricted() const { return !lists.empty(); }
  void Add(const RestsOn& other);
  void Write(ByteWriter& writer) const;
  static RestsOn Read(ByteReader& reader);
  friend bool operator==(const RestsOn&, const RestsOn&) = default;
};

// A tenant's documents that have an access list, as they stand in the log. Stages that keep what
// was made of documents have one each; where no document has a list it is empty and costs nothing.
class RestrictedDocuments {
 public:
  // The list that a document has from now on; none: it is for everybody.
  void Put(const std::string& document_id, const std::optional<Groups>& access);
  void Remove(const std::string& document_id) { lists_.Erase(document_id); }

  // By the lists of then and of now: whether all of it may be seen, whether any of it is not for
  // everybody.
  bool MaySee(const RestsOn& rests_on, const Groups& asker) const;
  bool HasAnyOf(const RestsOn& rests_on) const;

  // Rows of `kind`, by document_id.
  void Save(const std::string& tenant, const std::string& kind, Changes& changes);
  Result<Nothing> Load(const Change& entry);

 private:
  Table<std::string, Groups> lists_;
};

}  // namespace nudge
