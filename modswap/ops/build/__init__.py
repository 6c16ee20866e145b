"""Build every new module before any is applied."""
