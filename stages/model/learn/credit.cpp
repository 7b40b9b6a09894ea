#include "stages/model/learn/credit.h"

#include <algorithm>

namespace nudge {

double Credit::Of(const Voice& voice) const {
  if (const auto account = accounts_.find(voice); account != accounts_.end()) {
    return account->second.balance;
  }
  double people = 0;
  size_t count = 0;
  for (auto one = accounts_.lower_bound({voice.source, 0});
       one != accounts_.end() && one->first.source == voice.source; ++one) {
    people += one->second.balance;
    ++count;
  }
  return count == 0 ? kStart : std::clamp(people / static_cast<double>(count), kNewLeast, kStart);
}

void Credit::Book(const Voice& voice, double evidence, double usual) {
  const double before = Of(voice);
  const double worth = std::clamp((evidence - usual) / usual, -1.0, 1.0);
  accounts_[voice] = {std::clamp(before + worth, kLeast, kMost), ++bookings_};
  if (accounts_.size() <= kVoicesMax) return;
  accounts_.erase(std::min_element(
      accounts_.begin(), accounts_.end(),
      [](const auto& a, const auto& b) { return a.second.booked < b.second.booked; }));
}

void Credit::Save(ByteWriter& out) const {
  out.U64(bookings_);
  out.U64(accounts_.size());
  for (const auto& [voice, account] : accounts_) {
    out.U64(voice.source);
    out.U64(voice.person);
    out.F64(account.balance);
    out.U64(account.booked);
  }
}

void Credit::Load(ByteReader& in) {
  accounts_.clear();
  bookings_ = in.U64();
  for (uint64_t left = in.U64(); left > 0 && !in.failed(); --left) {
    const Voice voice{in.U64(), in.U64()};
    Account& account = accounts_[voice];
    account.balance = in.F64();
    account.booked = in.U64();
  }
}

}  // namespace nudge
