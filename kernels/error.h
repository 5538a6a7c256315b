// What went wrong, in one line for the person who can mend it: "[where] what: got X, want Y;
// remedy".
#pragma once

#include <stdexcept>
#include <string>

namespace mc {

// Bad input of any kind (arguments, files, shapes, sizes). Programs print what() and exit with
// status 1.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace mc
