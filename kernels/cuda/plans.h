// What a library was asked once about a problem, and how it answered.
#pragma once

#include <cstddef>
#include <map>

namespace mc::cuda {

// Lengths vary: beyond so many problems all are forgotten. The caller holds a lock.
template <class Problem, class Plan>
class Plans {
  public:
    // The problem's plan, from make(problem) the first time. Good until the next call.
    template <class Make>
    Plan& of(const Problem& problem, Make&& make) {
        const auto known = plans_.find(problem);
        if (known != plans_.end()) return known->second;
        if (plans_.size() >= kMost) plans_.clear();
        return plans_.emplace(problem, make(problem)).first->second;
    }

  private:
    static constexpr size_t kMost = 4096;
    std::map<Problem, Plan> plans_;
};

}  // namespace mc::cuda
