"""From the web to a folder in place: downloads, archives, and where the kit keeps what it may make again."""
