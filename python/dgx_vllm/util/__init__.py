"""Small tools that know nothing of models: errors, amounts of bytes, signals, lines to the user."""
