"""Small tools that know nothing about models: errors, amounts of bytes, signals, lines for the user."""
