"""The published figures, as a package so that they are installed: `published.json`."""
