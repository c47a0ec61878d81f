"""FixMatch, UniMatch and CutMix-Seg against recordings of their official code."""
