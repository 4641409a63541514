"""The sizes of published models: one TOML file a model, which planning needs when the model is not here."""
