"""Linear layers: `--dense-dtype`, and `--linear-backend dgx`."""
