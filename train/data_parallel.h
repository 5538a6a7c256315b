// What the loop asks of the ranks of a data-parallel run (tensor/communicator.h). In a run of one
// process nothing here costs anything.
//
// NOTE [ Several processes ]
// The batch of the settings is that of all ranks. Every rank draws the same batch of all and
// computes its share; what differs by rank alone is dropout, and in the stages on tokens the
// masks. Gradients are averaged before they are clipped, so every rank makes the same step and
// keeps the same weights; the metrics are the means over the ranks. Rank 0 alone writes files and
// validates. So N ranks train as one process does with the same settings, up to the order of sums;
// the mean over a rank's masked tokens counts as much as another's, as in PyTorch's
// DistributedDataParallel. A run is resumed bit for bit with as many ranks as it began with.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "autograd/tape.h"
#include "tensor/communicator.h"

namespace mc::train {

// Every gradient becomes the mean over the ranks, in flat buckets of at most `bucket_bytes` (or one
// parameter), in the parameters' order. A parameter that has a gradient on some ranks alone counts
// as zero on the others; one that has none anywhere is left so.
void average_gradients(const std::vector<std::pair<std::string, Var*>>& parameters,
                       Communicator& ranks, int64_t bucket_bytes = int64_t{32} << 20);

// The mean over the ranks of each value; all ranks have the same keys.
void average(std::map<std::string, double>& metrics, Communicator& ranks);

// True on all ranks if it is on any.
bool any(bool here, Communicator& ranks);

// That error on all ranks unless each has the same value.
void want_same(int64_t value, const std::string& error, Communicator& ranks);

// work() on every rank; comes back when all are done. If it failed on any, all ranks throw and are
// told to end together: the first that failed throws what it met, the others an Error without text,
// since all has been said.
void together(Communicator& ranks, const std::function<void()>& work);

// The same without waiting, for work whose failure all ranks find alike: rank 0 says it.
void alike(Communicator& ranks, const std::function<void()>& work);

}  // namespace mc::train
