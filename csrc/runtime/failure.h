// What goes wrong inside the library; turned into a status and a message at its border.
#pragma once

#include <stdexcept>
#include <string>

#include "gaq_engine.h"

namespace gaq {

struct Failure : std::runtime_error {
    Failure(gaq_status code, const std::string& message) : std::runtime_error(message), status(code) {}
    gaq_status status;
};

}  // namespace gaq
