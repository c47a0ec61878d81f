"""How files of images, maps and text are opened, and what of them becomes arrays."""
