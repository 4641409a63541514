"""From flags, files, environment and profile to one decided command, without looking at the machine."""
