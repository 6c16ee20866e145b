"""Build every new module before any goes in."""
